"""What stood behind the places that look like the cursor; one text followed as it grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from server.index.lookup import AHEAD_BYTES, MAX_PLACES, Finding, Follower, Tier
from server.index.segment import MAX_MATCH_BYTES, Segment, SegmentFile

PIECES = st.lists(st.sampled_from([b"a", b"b", b"ab", b"\n", "é".encode()]), max_size=12)
FILES = st.lists(PIECES.map(b"".join), max_size=4)


def tier_of(*texts: bytes, hidden: Sequence[int] = ()) -> Tier:
    segment = Segment.build([SegmentFile(f"{number}.py", text) for number, text in enumerate(texts)])
    return Tier("repository", "repository", segment, frozenset(hidden))


def content(findings: Sequence[Finding]) -> list[tuple[int, int, dict[bytes, Counter[int]]]]:
    """Findings without the order of what was looked at."""
    return [
        (found.n_bytes, found.n_places, {text: Counter(places) for text, places in found.following.items()})
        for found in findings
    ]


def looked_at_all(findings: Sequence[Finding]) -> bool:
    return all(found.n_places == len(found.places) for found in findings)


def test_what_follows_the_longest_match_comes_first_then_what_follows_more_places() -> None:
    longest, shorter = Follower(tier_of(b"self.add(x)\n", b"self.sub(y)\n", b"other.add(z)\n")).after(b"= self.add(")
    assert (longest.n_bytes, longest.n_places, set(longest.following)) == (9, 1, {b"x)\n"})
    assert (shorter.n_bytes, shorter.n_places, set(shorter.following)) == (5, 2, {b"x)\n", b"z)\n"})


def test_a_text_that_stands_nowhere_has_no_finding() -> None:
    assert Follower(tier_of(b"abc")).after(b"xyz") == ()
    assert Follower(tier_of()).after(b"abc") == ()
    assert Follower(tier_of(b"abc")).after(b"") == ()


def test_a_shorter_match_in_the_same_places_says_nothing_new() -> None:
    assert len(Follower(tier_of(b"abcd")).after(b"xabc")) == 1


@given(FILES, PIECES)
@settings(max_examples=60)
def test_following_a_text_finds_what_a_new_search_finds(texts: list[bytes], pieces: list[bytes]) -> None:
    tier = tier_of(*texts)
    follower = Follower(tier)
    text = b""
    for piece in pieces:
        text += piece
        found = follower.after(text)
        assert looked_at_all(found), "so few places are all looked at"
        assert content(found) == content(Follower(tier).after(text))


@given(st.lists(PIECES.map(b"".join), min_size=1, max_size=4), PIECES, st.sets(st.integers(0, 3)))
@settings(max_examples=60)
def test_hidden_files_are_as_if_they_were_not_there(texts: list[bytes], pieces: list[bytes], hidden: set[int]) -> None:
    hidden &= set(range(len(texts)))
    tier = tier_of(*texts, hidden=tuple(hidden))
    shown = tier_of(*(text for number, text in enumerate(texts) if number not in hidden))
    follower = Follower(tier)
    text = b""
    for piece in pieces:
        text += piece
        found = follower.after(text)
        assert not {tier.segment.file_at(place) for one in found for place in one.places} & hidden
        without = Follower(shown).after(text)
        assert [(one.n_bytes, one.n_places) for one in found] == [(one.n_bytes, one.n_places) for one in without]
        assert [{ahead: len(places) for ahead, places in one.following.items()} for one in found] == [
            {ahead: len(places) for ahead, places in one.following.items()} for one in without
        ]


def test_a_match_that_only_hidden_files_add_to_says_nothing_new() -> None:
    tier = tier_of(b"x = self.name", b"y = self.other", hidden=(1,))
    assert [(found.n_bytes, found.n_places) for found in Follower(tier).after(b"x = self.")] == [(9, 1)]


def test_a_match_that_goes_on_beyond_the_longest_one_counted_is_followed_alike() -> None:
    text = b"".join(b"line %d of a long text\n" % number for number in range(60))
    tier = tier_of(text, text[:700] + b"and on", text[200:500] + b"otherwise")
    follower = Follower(tier)
    for end in range(180, 800, 7):
        found = follower.after(text[:end])
        assert found[0].n_bytes <= MAX_MATCH_BYTES
        assert content(found) == content(Follower(tier).after(text[:end]))


def test_of_many_places_some_are_looked_at_and_all_are_counted() -> None:
    found, *_ = Follower(tier_of(b"x = 1\n" * 100)).after(b"= ")
    assert found.n_places == 100 and len(found.places) == MAX_PLACES
    assert all(ahead.startswith(b"1\n") for ahead in found.following)


def test_a_shorter_match_with_many_places_is_found_again_as_the_text_grows() -> None:
    tier = tier_of(b"total = sum(values)\n", b"x = sum(rows)\n" * 100)
    follower = Follower(tier)
    for end in range(1, len(b"total = sum(")):
        follower.after(b"total = sum("[:end])
    longest, shorter = follower.after(b"total = sum(")
    assert set(longest.following) == {b"values)\n"}
    assert shorter.n_places == 101


def test_a_text_that_does_not_go_on_as_before_is_looked_up_anew() -> None:
    tier = tier_of(b"abcabd", b"xyz")
    follower = Follower(tier)
    for text in (b"ab", b"abc", b"ab", b"xy", b"q", b"abcabd", b"abcabdx"):
        assert content(follower.after(text)) == content(Follower(tier).after(text))


def test_no_more_is_read_than_a_line_s_rest_and_never_another_file() -> None:
    (found,) = Follower(tier_of(b"begin" + b"x" * 200)).after(b"begin")
    assert set(found.following) == {b"x" * AHEAD_BYTES}
    (found,) = Follower(tier_of(b"end", b"other")).after(b"end")
    assert set(found.following) == {b""}


def test_a_nul_byte_is_looked_up_as_what_is_stored_for_it() -> None:
    (found,) = Follower(tier_of(b"a\0b", b"other")).after(b"a\0")
    assert (found.n_bytes, set(found.following)) == (2, {b"b"})
    assert Follower(tier_of(b"first", b"second")).after(b"\0") == ()
