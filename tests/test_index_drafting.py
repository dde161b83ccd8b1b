"""Drafts from the index: what stands behind the longest match, which makes decoding faster and changes no text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fakes import MARKERS, FakeEngine, FakeTokenizer, author, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from server.index.drafting import DRAFT_TOKENS, MIN_DRAFT_BYTES, Drafter
from server.index.lookup import AHEAD_BYTES, Kind, Tier
from server.index.segment import Segment, SegmentFile
from server.lm.decode import Generation, generate
from server.lm.engine import Logits, PrefixCache
from server.lm.healing import TokenIndex, heal
from server.lm.prompt import Prompt

# Every byte, and words: of two that begin alike the tokenizer takes the longer one.
WORDS = FakeTokenizer(
    [*(bytes([byte]) for byte in range(256)), "self", "self.", "name", "named", "ab", " = ", "value", "    ", "\n    "]
)
INDEX = TokenIndex(WORDS)
PIECES = st.lists(
    st.sampled_from(["self", ".", "name", "d", "a", "ab", " = ", "value", "\n", "\n    ", "é", "€"]), max_size=10
).map("".join)


def tier_of(*texts: str, kind: Kind = "repository", name: str = "repository", **fields: object) -> Tier:
    files = [SegmentFile(f"pkg/{number}.py", text.encode()) for number, text in enumerate(texts)]
    return Tier(name, kind, Segment.build(files), **fields)  # type: ignore[arg-type]


def drafter_of(tiers: Sequence[Tier], past: str, pending: str = "") -> Drafter:
    return Drafter(tiers, (past + pending).encode(), len(pending.encode()), WORDS)


def proposed(tiers: Sequence[Tier], past: str, text_so_far: str = "", pending: str = "", n: int = 9) -> list[bytes]:
    return [
        WORDS.token_bytes(token_id) for token_id in drafter_of(tiers, past, pending).propose(text_so_far.encode(), n)
    ]


@pytest.mark.parametrize("tiers, past", [
    ([], "result = self."),
    ([tier_of()], "result = self."),
    ([tier_of("")], "result = self."),
    ([tier_of("xyz\n")], "result = self."),
    ([tier_of("at the end of a file: result = self.")], "result = self."),  # nothing follows there
    ([tier_of("result = self.name\n", hidden=frozenset({0}))], "result = self."),
    ([tier_of("result = self.name\n")], ""),
])  # fmt: skip
def test_where_nothing_matches_nothing_is_proposed(tiers: list[Tier], past: str) -> None:
    assert proposed(tiers, past) == []


def test_a_long_match_proposes_what_follows_within_its_line() -> None:
    tiers = [tier_of("result = self.named = value\nx = 1\n")]
    assert proposed(tiers, "result = self") == [b".", b"named", b" = ", b"value"]
    assert proposed(tiers, "result = self", n=1) == [b"."]
    assert proposed(tiers, "result = self.named = value") == []  # nothing beyond the line


def test_so_many_tokens_are_proposed_and_no_more() -> None:
    tier = tier_of("result = self" + ".ab" * DRAFT_TOKENS + "\n")
    assert len(proposed([tier], "result = self", n=99)) == DRAFT_TOKENS


@pytest.mark.parametrize("n_bytes", [MIN_DRAFT_BYTES - 1, MIN_DRAFT_BYTES])
def test_a_short_match_is_no_guess_at_several_tokens(n_bytes: int) -> None:
    assert bool(proposed([tier_of(".name value.name\n")], "q" + "value.name value"[-n_bytes:])) is False
    line = "abcdefghijklmnopqrst"[:n_bytes]
    assert bool(proposed([tier_of(f"{line}.name\n")], f"?{line}")) is (n_bytes == MIN_DRAFT_BYTES)


def test_what_was_written_so_far_is_matched_with_the_text_before_it() -> None:
    tiers = [tier_of("result = self.named = value\n")]
    assert proposed(tiers, "result = ", "self") == [b".", b"named", b" = ", b"value"]
    drafter = drafter_of(tiers, "result = ")
    for text_so_far, token in ((b"self", b"."), (b"self.", b"named"), (b"self.named", b" = ")):
        assert WORDS.token_bytes(drafter.propose(text_so_far, 9)[0]) == token
    assert drafter.propose(b"self.name_", 9) == []  # written otherwise


def test_nothing_is_proposed_before_the_cursor() -> None:
    tiers = [tier_of("result = self.named\n")]
    assert proposed(tiers, "result = self", ".", pending=".na") == []
    assert proposed(tiers, "result = self", ".na", pending=".na") == [b"m", b"e", b"d"]


def test_what_follows_most_often_is_proposed() -> None:
    tier = tier_of("result = self.value\n", "result = self.name\n", "result = self.name\n")
    assert proposed([tier], "result = self.") == [b"name"]


def test_the_longest_match_of_all_tiers_decides_and_of_equals_the_nearest() -> None:
    far, near = tier_of("result = self.value\n"), tier_of("result = self.name\n", kind="file", name="this file")
    assert proposed([far, near], "result = self.") == [b"name"]
    longer = tier_of("a result = self.value\n")
    assert proposed([longer, near], "a result = self.") == [b"value"]


def test_characters_are_proposed_whole_and_the_last_token_before_a_cut_is_not() -> None:
    assert proposed([tier_of("result = self.€\n")], "result = self") == [b".", *(bytes([b]) for b in "€".encode())]
    long = FakeTokenizer([*(bytes([byte]) for byte in range(256)), "abcdefghi"])
    line = b"result = " + b"abcdefghi" * 99  # what is told of it ends within a token, perhaps
    drafter = Drafter([tier_of(line.decode())], line[:18], 0, long)
    drafts = [long.token_bytes(token_id) for token_id in drafter.propose(b"", 9)]
    n_whole, n_more = divmod(AHEAD_BYTES, 9)
    assert drafts == [b"abcdefghi"] * n_whole + [bytes([byte]) for byte in b"abcdefghi"[: n_more - 1]]


@given(PIECES, PIECES, st.sampled_from(["", "se", "é", "name"]), st.integers(1, 12))
def test_whatever_is_proposed_stands_in_a_line_of_the_index(text: str, past: str, pending: str, n: int) -> None:
    line = "result = self." + past + pending
    tier = tier_of(line + text, text)
    ids = drafter_of([tier], "result = self." + past, pending).propose(pending.encode(), n)
    assert len(ids) <= min(n, DRAFT_TOKENS)
    drafted = b"".join(map(WORDS.token_bytes, ids))
    found = line.encode()[-MIN_DRAFT_BYTES:] + drafted
    assert b"\n" not in drafted and (not ids or found in (line + text).encode())


def write(model_seed: int | str, past: str, tiers: Sequence[Tier], drafts: bool) -> tuple[Generation, int]:
    """What is written after `past`, and the number of forwards."""
    if isinstance(model_seed, str):
        next_logits = author(WORDS, model_seed)
    else:
        whole = noise(WORDS.vocab_size)

        def next_logits(token_ids: tuple[int, ...]) -> Logits:
            return whole((model_seed, *token_ids))

    kept, pending = heal(WORDS.encode(past), INDEX, WORDS)
    engine = FakeEngine(next_logits, WORDS.vocab_size)
    generation = generate(
        PrefixCache(engine, 0),
        Prompt((MARKERS.fim_prefix, *kept), pending),
        WORDS,
        INDEX,
        stop=lambda text: None,
        max_new_tokens=10,
        proposer=Drafter(tiers, past.encode(), len(pending), WORDS) if drafts else None,
    )
    return generation, engine.n_forwards


@settings(max_examples=30, deadline=None)
@given(st.lists(PIECES, max_size=3), PIECES, st.integers(0, 99))
def test_drafts_never_change_the_text(files: list[str], past: str, seed: int) -> None:
    tiers = [tier_of(past + "".join(files) + "self.named = value\n", *files)]
    past = "result = self." + past
    plain, _ = write(seed, past, tiers, drafts=False)
    # What the model writes stands in the index up to some place, and goes on otherwise.
    known = past + plain.text[: seed % 8] + "self.named\n"
    drafted, _ = write(seed, past, [*tiers, tier_of(known)], drafts=True)
    assert (drafted.text, drafted.token_texts, drafted.finish) == (plain.text, plain.token_texts, plain.finish)
    assert drafted.token_logprobs == pytest.approx(plain.token_logprobs, abs=1e-4)
    assert drafted.end_logprob == pytest.approx(plain.end_logprob, abs=1e-4)
    assert 0 <= drafted.n_accepted_tokens <= drafted.n_drafted_tokens
    assert plain.n_drafted_tokens == plain.n_accepted_tokens == 0


def test_drafts_save_forwards_where_the_line_stands_in_the_index() -> None:
    line = "result = self.named = value + self.name\n"
    plain, n_plain = write(line, line[:14], [tier_of(line)], drafts=False)
    drafted, n_drafted = write(line, line[:14], [tier_of(line)], drafts=True)
    assert drafted.text == plain.text and line[14:].startswith(plain.text[:20])
    assert n_drafted == n_plain - drafted.n_accepted_tokens < n_plain
    assert drafted.n_accepted_tokens == drafted.n_drafted_tokens
