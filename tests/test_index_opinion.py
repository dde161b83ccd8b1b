"""What the index says is mixed into the model's distribution: a share of it where something matches, else nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fakes import MARKERS, N_MARKERS, FakeEngine, FakeTokenizer, author, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from server.index.continuations import FirstTokens
from server.index.lookup import Tier
from server.index.opinion import DRAFT_TOKENS, Opinion, Source
from server.index.segment import Segment, SegmentFile
from server.index.weights import Kind
from server.lm.decode import Generation, generate
from server.lm.engine import Logits, PrefixCache
from server.lm.healing import TokenIndex, heal
from server.lm.prompt import Prompt
from server.lm.reader import LogProbs

# Every byte, and words: of two that begin alike the tokenizer takes the longer one.
WORDS = FakeTokenizer(
    [*(bytes([byte]) for byte in range(256)), "self", "self.", "name", "named", "ab", " = ", "value", "    ", "\n    "]
)
INDEX = TokenIndex(WORDS)
FIRST = FirstTokens(WORDS)
END = MARKERS.end_of_text
PIECES = st.lists(
    st.sampled_from(["self", ".", "name", "d", "a", "ab", " = ", "value", "\n", "\n    ", "é", "€"]), max_size=10
).map("".join)


def tier_of(*texts: str, kind: Kind = "repository", name: str = "repository", **fields: object) -> Tier:
    files = [SegmentFile(f"pkg/{number}.py", text.encode()) for number, text in enumerate(texts)]
    return Tier(name, kind, Segment.build(files), **fields)  # type: ignore[arg-type]


def opinion_of(tiers: Sequence[Tier], past: str | bytes, pending: str = "", ends_line: bool = True) -> Opinion:
    data = past.encode() if isinstance(past, str) else past
    n_pending = len(pending.encode())
    return Opinion(tiers, data + pending.encode(), n_pending, FIRST, END, ends_line=ends_line)


def distribution(seed: int = 1, scale: float = 3.0, end: float = -3.0) -> LogProbs:
    """A model's log-probabilities: markers but the end are impossible, as in decoding."""
    logits = np.random.default_rng(seed).normal(scale=scale, size=WORDS.vocab_size).astype(np.float32)
    logits[:N_MARKERS] = -np.inf
    logits[END] = end
    logits -= logits.max()
    return (logits - np.log(np.exp(logits).sum())).astype(np.float32)


def gains(mixed: LogProbs, own: LogProbs) -> set[bytes]:
    """The tokens that have become likelier."""
    return {WORDS.token_bytes(int(token_id)) for token_id in np.flatnonzero(mixed > own)}


@settings(max_examples=40)
@given(
    files=st.lists(PIECES, max_size=3),
    here=PIECES,
    past=PIECES,
    pending=st.sampled_from(["", "se", "self.", "é", "name"]),
    written=PIECES,
    seed=st.integers(0, 99),
    scale=st.sampled_from([0.1, 3.0, 40.0]),
    ends_line=st.booleans(),
)
def test_the_mixture_is_a_distribution_whatever_is_found(
    files: list[str], here: str, past: str, pending: str, written: str, seed: int, scale: float, ends_line: bool
) -> None:
    tiers = [tier_of(*files), tier_of(here, kind="file", name="this file"), tier_of(past, kind="dependencies")]
    opinion = opinion_of(tiers, past, pending, ends_line)
    own = distribution(seed, scale)
    text = (pending + written).encode()
    for end in range(len(text) + 1):
        before = own.copy()
        mixed = opinion.mix(own, text[:end])
        assert np.array_equal(own, before), "the model's own is left as it is"
        assert not np.isnan(mixed).any()
        assert np.exp(mixed.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-4)
        assert (mixed[own == -np.inf] == -np.inf).all(), "no marker gets a share"


@pytest.mark.parametrize("tiers, past", [
    ([], "self."),
    ([tier_of()], "self."),
    ([tier_of("")], "self."),
    ([tier_of("xyz\n")], "self."),
    ([tier_of("the last word of a file is self.")], "self."),  # nothing follows there
    ([tier_of("xself.name", hidden=frozenset({0}))], "self."),
    ([tier_of("self.name")], ""),
])  # fmt: skip
def test_where_nothing_matches_the_model_s_own_is_what_comes_out(tiers: list[Tier], past: str) -> None:
    opinion, own = opinion_of(tiers, past), distribution()
    assert np.array_equal(opinion.mix(own, b""), own)
    assert [(share.index_share, share.sources) for share in opinion.shares(["a"])] == [(0.0, ())]
    assert opinion.propose(b"", 4) == []


def test_what_follows_gains_and_everything_else_gives() -> None:
    own = distribution()
    mixed = opinion_of([tier_of("    self.name = 1\n")], "    self.").mix(own, b"")
    assert gains(mixed, own) == {b"name"}


def test_what_follows_more_often_gains_more() -> None:
    own = np.full(WORDS.vocab_size, -np.log(WORDS.vocab_size), dtype=np.float32)
    mixed = opinion_of([tier_of("x(name)\nx(name)\nx(value)\n")], "x(").mix(own, b"")
    assert mixed[WORDS.id_of("name")] > mixed[WORDS.id_of("value")] > own[0]


def test_a_reading_is_judged_by_what_most_places_say() -> None:
    own = distribution()
    (reading,) = opinion_of([tier_of("x(name)\nx(name)\nx(value)\n")], "x(").readings(own, b"")
    assert {WORDS.token_bytes(token_id): len(places) for token_id, places in reading.places.items()} == {
        b"name": 2,
        b"value": 1,
    }
    evidence = reading.evidence
    assert (evidence.n_bytes, evidence.n_places, evidence.n_tokens) == (2, 3, 2)
    assert evidence.top_share == pytest.approx(2 / 3)
    assert evidence.top_logprob == own[WORDS.id_of("name")]
    assert evidence.model_max == pytest.approx(np.exp(own.max()))


def test_a_longer_match_overrules_a_shorter_one() -> None:
    own = np.full(WORDS.vocab_size, -np.log(WORDS.vocab_size), dtype=np.float32)
    tier = tier_of("result = self.name\n", "y = self.value\nz = self.value\n")
    mixed = opinion_of([tier], "result = self.").mix(own, b"")
    assert mixed[WORDS.id_of("name")] > mixed[WORDS.id_of("value")] > own[0]


def test_every_tier_is_heard_though_several_have_one_name() -> None:
    own = distribution()
    tiers = [tier_of(f"call_{word}(value)\n", name="changed files") for word in ("first", "second", "third")]
    for word in ("first", "second", "third"):
        assert gains(opinion_of(tiers, f"call_{word}(").mix(own, b""), own) == {b"value"}


@settings(max_examples=60)
@given(PIECES, PIECES, st.sampled_from(["se", "self", "self.na", "na", "é", " ="]))
def test_within_the_pending_text_only_tokens_gain_that_go_its_way(text: str, past: str, pending: str) -> None:
    tier = tier_of(past + pending + text)
    opinion, own = opinion_of([tier], past, pending, ends_line=False), distribution()
    for n_fed in range(len(pending.encode()) + 1):
        forced = pending.encode()[n_fed:]
        for token in gains(opinion.mix(own, pending.encode()[:n_fed]), own):
            assert token.startswith(forced) or forced.startswith(token)


def test_a_word_that_was_begun_is_completed_by_a_token_that_covers_it() -> None:
    own = distribution()
    opinion = opinion_of([tier_of("x = self.named\n")], "x = self.", pending="na")
    assert gains(opinion.mix(own, b""), own) == {b"named"}


def test_a_line_s_end_in_the_index_supports_the_text_s_end_where_the_model_likes_it_better() -> None:
    tier, past = tier_of("x = self\ny = 1\n"), "x = self"
    likes_end, likes_break = distribution(end=9.0), distribution(end=-40.0)
    assert gains(opinion_of([tier], past).mix(likes_end, b""), likes_end) == {b""}
    assert gains(opinion_of([tier], past).mix(likes_break, b""), likes_break) == {b"\n"}
    assert gains(opinion_of([tier], past, ends_line=False).mix(likes_end, b""), likes_end) == {b"\n"}


@pytest.mark.parametrize("pending", ["", "€", "b€"])
def test_a_character_of_several_tokens_is_written_to_its_end(pending: str) -> None:
    own = distribution()
    opinion = opinion_of([tier_of("x=€uro\n", "x=b€urs\n")], "x=", pending)
    head = b"b" if pending.startswith("b") else b""
    euro = "€".encode()
    for n_bytes in range(3):
        assert euro[n_bytes : n_bytes + 1] in gains(opinion.mix(own, head + euro[:n_bytes]), own)
    assert gains(opinion.mix(own, head + euro), own) == {b"u"}


def test_a_character_that_stands_nowhere_is_left_to_the_model() -> None:
    opinion, own = opinion_of([tier_of("x=€uro\n")], "x="), distribution()
    assert np.array_equal(opinion.mix(own, b"\xe1"), own)
    assert np.array_equal(opinion.mix(own, b"\xe2\x81"), own)


def test_no_token_is_guessed_of_half_a_character() -> None:
    assert FIRST.of("é".encode()[1:]) is None
    assert FIRST.of("é".encode(), 1) == WORDS.id_of(b"\xa9")
    assert FIRST.of("é".encode(), 2) is FIRST.of("é".encode()[:1], 1) is None
    assert FIRST.of(b"self", 1) is None, "no token starts there"
    assert FIRST.of("é".encode()[:1]) is None
    assert FIRST.of(b"") is None
    assert FIRST.of(b"a" + "é".encode()[:1]) == WORDS.id_of("a")
    assert FIRST.all_of("ab€".encode()[:-1]) == [WORDS.id_of("ab")]


@settings(max_examples=60)
@given(st.lists(PIECES, max_size=3), PIECES, st.lists(st.sampled_from(["self", ".", "name", "é", "\n"]), max_size=6))
def test_shares_are_between_none_and_all(files: list[str], past: str, shown: list[str]) -> None:
    opinion = opinion_of([tier_of(*files), tier_of(past, kind="file", name="this file")], past)
    text = b""
    for piece in [*shown, ""]:
        opinion.mix(distribution(len(text)), text)
        text += piece.encode()
    shares = opinion.shares(shown)
    assert [share.text for share in shares] == shown
    assert all(0.0 <= share.index_share <= 1.0 for share in shares)
    assert all(share.sources == () for share in shares if share.index_share == 0.0)


def test_the_share_of_a_token_names_the_places_it_comes_from() -> None:
    tier = tier_of("import os\n", "a = 1\nb = self.name\n")
    opinion = opinion_of([tier], "b = self.", pending="")
    opinion.mix(distribution(), b"")
    (share,) = opinion.shares(["name"])
    assert share.text == "name" and share.index_share > 0.5
    assert share.sources == (Source("repository", "pkg/1.py", 2),)


def test_lines_are_those_of_the_file_where_only_parts_of_it_are_searched() -> None:
    tier = tier_of("b = self.name\n", "c = self.value\n", kind="file", name="this file", first_lines=(11, 21))
    for start, line in (("b = self.", 11), ("c = self.", 21)):
        opinion = opinion_of([tier], start)
        opinion.mix(distribution(), b"")
        (share,) = opinion.shares(["name" if line == 11 else "value"])
        assert [source.line for source in share.sources] == [line]


def test_the_share_of_the_first_token_is_found_though_it_began_before_the_cursor() -> None:
    opinion = opinion_of([tier_of("b = self.named\n")], "b = self.", pending="na")
    opinion.mix(distribution(), b"")
    (share,) = opinion.shares(["med"])
    assert share.text == "named" and share.index_share > 0.5


def test_a_long_match_proposes_what_follows_within_its_line() -> None:
    opinion = opinion_of([tier_of("the_result_of_it_all = self.named = value\nx = 1\n")], "the_result_of_it_all = self")
    drafts = opinion.propose(b"", 9)
    assert [WORDS.token_bytes(token_id) for token_id in drafts] == [b".", b"named", b" = ", b"value"]
    assert 0 < len(drafts) <= DRAFT_TOKENS and len(drafts) == opinion.n_drafted
    again = opinion_of([tier_of("the_result_of_it_all = self.named\n")], "the_result_of_it_all = self")
    assert again.propose(b"", 1) == [WORDS.id_of(".")]


def test_no_draft_of_a_short_match_nor_before_the_cursor_nor_beyond_the_line() -> None:
    tier = tier_of("the_result_of_it_all = self.named\nx = 1\n")
    assert opinion_of([tier], "q = self").propose(b"", 4) == []
    assert opinion_of([tier], "the_result_of_it_all = self", pending=".na").propose(b".", 4) == []
    assert opinion_of([tier], "the_result_of_it_all = self.named").propose(b"", 4) == []


def write(model_seed: int | str, past: str, tiers: Sequence[Tier], drafts: bool) -> tuple[Generation, Opinion, int]:
    """What is written after `past`, the opinion asked for it, and the number of forwards."""
    if isinstance(model_seed, str):
        next_logits = author(WORDS, model_seed)
    else:
        whole = noise(WORDS.vocab_size)

        def next_logits(token_ids: tuple[int, ...]) -> Logits:
            return whole((model_seed, *token_ids))

    kept, pending = heal(WORDS.encode(past), INDEX, WORDS)
    engine = FakeEngine(next_logits, WORDS.vocab_size)
    opinion = Opinion(tiers, past.encode(), len(pending), FirstTokens(WORDS), END, ends_line=False)
    generation = generate(
        PrefixCache(engine, 0),
        Prompt((MARKERS.fim_prefix, *kept), pending),
        WORDS,
        INDEX,
        stop=lambda text: None,
        max_new_tokens=10,
        mixer=opinion,
        proposer=opinion if drafts else None,
    )
    return generation, opinion, engine.n_forwards


@settings(max_examples=30, deadline=None)
@given(st.lists(PIECES, max_size=3), PIECES, st.integers(0, 99))
def test_drafts_never_change_the_text(files: list[str], past: str, seed: int) -> None:
    tiers = [tier_of(past + "".join(files) + "self.named = value\n", *files)]
    past = "result = self." + past
    plain, opinion, _ = write(seed, past, tiers, drafts=False)
    drafted, drafting, _ = write(seed, past, tiers, drafts=True)
    assert (drafted.text, drafted.token_texts, drafted.finish) == (plain.text, plain.token_texts, plain.finish)
    assert drafted.token_logprobs == pytest.approx(plain.token_logprobs, abs=1e-4)
    assert drafting.shares(drafted.token_texts) == opinion.shares(plain.token_texts)
    assert 0 <= drafting.n_accepted <= drafting.n_drafted
    assert opinion.n_drafted == opinion.n_accepted == 0


def test_drafts_save_forwards_where_the_line_stands_in_the_index() -> None:
    line = "result = self.named = value + self.name\n"
    plain, _, n_plain = write(line, line[:14], [tier_of(line)], drafts=False)
    drafted, opinion, n_drafted = write(line, line[:14], [tier_of(line)], drafts=True)
    assert drafted.text == plain.text and line[14:].startswith(plain.text[:20])
    assert n_drafted < n_plain and opinion.n_accepted > 0
