"""A body of text under a suffix array finds what a search of every place finds, and is the same when read back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.index.segment import (
    ARRAY_FILE,
    BYTES_PER_BYTE,
    FILES_FILE,
    MAX_MATCH_BYTES,
    NO_MATCH,
    TEXT_FILE,
    Segment,
    SegmentError,
    SegmentFile,
)

# Few different bytes, so that much repeats; two of them make one character, or halves of it.
PASTS = st.lists(st.sampled_from([b"a", b"b", b"\n", b"\xc3", b"\xa9"]), max_size=12).map(b"".join)
TEXTS = st.lists(st.sampled_from([b"a", b"b", b"\n", b"\xc3\xa9", b"\0"]), max_size=30).map(b"".join)
FILES = st.lists(TEXTS, max_size=4)


def segment_of(*texts: bytes) -> Segment:
    return Segment.build([SegmentFile(f"{number}.py", text) for number, text in enumerate(texts)])


def places_behind(texts: list[bytes], end: bytes) -> set[tuple[int, int]]:
    """Every place, as file number and offset in it, that `end` stands before."""
    found = set()
    for number, text in enumerate(texts):
        stored = text.replace(b"\0", b" ")
        found |= {(number, at) for at in range(len(end), len(stored) + 1) if stored[:at].endswith(end)}
    return found


def searched(texts: list[bytes], past: bytes) -> tuple[int, set[tuple[int, int]]]:
    """The longest end of `past` that stands anywhere, by looking everywhere, and where it stands."""
    for n_bytes in range(min(len(past), MAX_MATCH_BYTES), 0, -1):
        if found := places_behind(texts, past[-n_bytes:]):
            return n_bytes, found
    return 0, set()


def found_in(segment: Segment, texts: list[bytes], match: object) -> set[tuple[int, int]]:
    starts = [sum(len(text) + 1 for text in texts[:number]) for number in range(len(texts))]
    places = segment.places(match, 10**6)  # type: ignore[arg-type]
    return {(segment.file_at(place), place - starts[segment.file_at(place)]) for place in places}


@settings(max_examples=50)
@given(FILES, PASTS)
def test_the_longest_match_is_what_looking_everywhere_finds(texts: list[bytes], past: bytes) -> None:
    segment = segment_of(*texts)
    match = segment.longest(past)
    n_bytes, places = searched(texts, past)
    assert match.n_bytes == n_bytes and match.n_places == len(places)
    assert found_in(segment, texts, match) == places


@settings(max_examples=50)
@given(FILES, PASTS)
def test_each_shorter_match_is_the_next_that_more_places_agree_with(texts: list[bytes], past: bytes) -> None:
    segment = segment_of(*texts)
    match = segment.longest(past)
    while match is not NO_MATCH:
        lengths = range(match.n_bytes - 1, 0, -1)
        n_places = {n_bytes: len(places_behind(texts, past[-n_bytes:])) for n_bytes in lengths}
        wanted = next((n_bytes for n_bytes in lengths if n_places[n_bytes] > match.n_places), 0)
        match = segment.shorter(past, match)
        assert match.n_bytes == wanted
        assert found_in(segment, texts, match) == (places_behind(texts, past[-wanted:]) if wanted else set())


@settings(max_examples=50)
@given(FILES, st.integers(0, 9))
def test_what_follows_a_place_ends_with_its_file(texts: list[bytes], n_bytes: int) -> None:
    segment = segment_of(*texts)
    start = 0
    for number, text in enumerate(texts):
        stored = text.replace(b"\0", b" ")
        for at in range(len(stored) + 1):
            assert segment.following(start + at, n_bytes) == stored[at : at + n_bytes]
            assert segment.file_at(start + at) == number
            assert segment.line_at(start + at) == stored[:at].count(b"\n") + 1
        start += len(text) + 1


@settings(max_examples=50)
@given(FILES)
def test_the_files_come_back(texts: list[bytes]) -> None:
    segment = segment_of(*texts)
    assert [file.text for file in segment.files()] == [text.replace(b"\0", b" ") for text in texts]
    assert [segment.number_of(path) for path in segment.paths] == list(range(len(texts)))
    assert segment.number_of("other.py") is None
    assert segment.n_bytes == sum(len(text) + 1 for text in texts)


def test_a_match_counts_so_many_bytes_and_no_more() -> None:
    text = b"".join(b"line %d of a long text\n" % number for number in range(40))
    segment = segment_of(text)
    match = segment.longest(text[:500])
    assert (match.n_bytes, match.n_places) == (MAX_MATCH_BYTES, 1)
    assert segment.following(next(segment.places(match, 1)), 9) == text[500:509]


def test_a_very_long_line_is_searched_like_any_other() -> None:
    text = b"x = [" + b"1, " * 50_000 + b"2]"
    segment = segment_of(text)
    match = segment.longest(b"1, 2")
    assert [segment.following(place, 5) for place in segment.places(match, 3)] == [b"]"]


def test_of_many_places_so_many_as_asked_for_are_given_all_different() -> None:
    segment = segment_of(b"ab" * 1000)
    match = segment.longest(b"a")
    assert match.n_places == 1000
    for limit in (1, 7, 32, 999, 1000, 5000):
        assert len(set(segment.places(match, limit))) == min(limit, 1000)
    assert list(segment.places(match, 0)) == []


def test_nothing_is_found_in_nothing() -> None:
    for segment in (segment_of(), segment_of(b""), segment_of(b"", b"")):
        assert segment.longest(b"a") is NO_MATCH
        assert segment.longest(b"") is NO_MATCH
        assert segment.shorter(b"a", NO_MATCH) is NO_MATCH


def test_no_match_reaches_from_one_file_into_the_next() -> None:
    segment = segment_of(b"ab", b"cd")
    assert segment.longest(b"abcd").n_bytes == 2
    assert segment.following(0, 99) == b"ab"


@settings(max_examples=50)
@given(FILES, PASTS)
def test_a_stored_segment_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], past: bytes
) -> None:
    folder = tmp_path_factory.mktemp("segment")
    segment = segment_of(*texts)
    segment.save(folder)
    read = Segment.load(folder)
    assert list(read.files()) == list(segment.files())
    match = read.longest(past)
    assert match == segment.longest(past)
    assert list(read.places(match, 9)) == list(segment.places(match, 9))
    assert [read.following(place, 5) for place in read.places(match, 9)] == [
        segment.following(place, 5) for place in segment.places(match, 9)
    ]


def test_a_segment_that_was_read_can_be_stored_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    segment_of("é = 1\n".encode(), b"").save(first)
    Segment.load(first).save(second)
    assert [(folder / name).read_bytes() for folder in (second,) for name in (TEXT_FILE, ARRAY_FILE, FILES_FILE)] == [
        (first / name).read_bytes() for name in (TEXT_FILE, ARRAY_FILE, FILES_FILE)
    ]


def test_a_segment_takes_so_much_for_each_byte_of_text(tmp_path: Path) -> None:
    segment = segment_of(b"x = 1\n" * 100)
    segment.save(tmp_path)
    sizes = [(tmp_path / name).stat().st_size for name in (TEXT_FILE, ARRAY_FILE)]
    assert sum(sizes) == BYTES_PER_BYTE * segment.n_bytes


def changed(**fields: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        record = json.loads((folder / FILES_FILE).read_text(encoding="utf-8"))
        (folder / FILES_FILE).write_text(json.dumps(record | fields), encoding="utf-8")

    return change


def cut(name: str, n_bytes: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:n_bytes])


OTHER_ORDER = "big" if sys.byteorder == "little" else "little"


@pytest.mark.parametrize("damage", [
    *(lambda folder, name=name: (folder / name).unlink() for name in (TEXT_FILE, ARRAY_FILE, FILES_FILE)),
    *(cut(name, n_bytes) for name in (TEXT_FILE, ARRAY_FILE, FILES_FILE) for n_bytes in (0, 1, 7)),
    lambda folder: (folder / FILES_FILE).write_bytes(b"\xff\xfe not UTF-8"),
    lambda folder: (folder / FILES_FILE).write_text("[]"),
    lambda folder: (folder / FILES_FILE).write_text("null"),
    lambda folder: (folder / FILES_FILE).write_text("{}"),
    lambda folder: (folder / TEXT_FILE).write_bytes((folder / TEXT_FILE).read_bytes() + b"x"),
    changed(format=2), changed(format="1"), changed(byte_order=OTHER_ORDER),
    changed(n_bytes=3), changed(n_bytes=None), changed(n_bytes="9"),
    changed(paths=["0.py"]), changed(paths=None), changed(paths=7), changed(paths=[["0.py"], ["1.py"]]),
    changed(ends=[5]), changed(ends=None), changed(ends=["5", "8"]), changed(ends=[8, 8]), changed(ends=["5", 8]),
    changed(ends=[], paths=[]),
])  # fmt: skip
def test_damage_of_every_kind_is_told_as_such(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    segment_of(b"a = 1", b"b\n").save(tmp_path)
    assert Segment.load(tmp_path).n_bytes == 9
    damage(tmp_path)
    with pytest.raises(SegmentError, match="built anew") as caught:
        Segment.load(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="cannot read the index"):
        Segment.load(tmp_path / "nowhere")
