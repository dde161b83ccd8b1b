"""Decoding: what is written after the cursor, when it ends, how sure it is, and what it costs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TOKENIZER_TEXT
from fakes import MARKERS, N_MARKERS, FakeEngine, FakeTokenizer, NextLogits, author, noise
from hypothesis import given
from hypothesis import strategies as st

from server.lm.decode import Generation, alternatives, attempts, generate
from server.lm.engine import PREFILL_CHUNK_TOKENS, Logits, PrefixCache
from server.lm.healing import TokenIndex, heal
from server.lm.prompt import Prompt
from server.lm.tokenizer import Tokenizer, load_tokenizer
from server.lm.written import StopRule

WORDS = FakeTokenizer([*"abcdrets ", "\n", "ab", "bcd", "cx", "ret", "return", " s", "é", b"\xc3", b"\xa9", b"\xff"])
START = (MARKERS.fim_prefix,)
END = "<end>"  # in tables: the end-of-text marker


def table(rows: Mapping[str, Mapping[str, float]], tokenizer: FakeTokenizer = WORDS) -> NextLogits:
    """A model given by probabilities: entries so far, separated by "|" -> the next entry -> its probability.

    The other entries share what is left; where nothing is given, all are alike.
    """

    def id_of(entry: str) -> int:
        return MARKERS.end_of_text if entry == END else tokenizer.id_of(entry)

    by_ids = {tuple(map(id_of, filter(None, before.split("|")))): row for before, row in rows.items()}

    def next_logits(token_ids: tuple[int, ...]) -> Logits:
        row = by_ids.get(tuple(filter(tokenizer.token_bytes, token_ids)), {})
        probabilities = np.zeros(tokenizer.vocab_size, dtype=np.float32)
        probabilities[N_MARKERS:] = (1.0 - sum(row.values())) / (tokenizer.vocab_size - N_MARKERS - len(row))
        for entry, probability in row.items():
            probabilities[id_of(entry)] = probability
        return np.log(np.maximum(probabilities, 1e-9))

    return next_logits


def cache_of(next_logits: NextLogits, tokenizer: Tokenizer = WORDS, n_positions: int = 1024) -> PrefixCache:
    return PrefixCache(FakeEngine(next_logits, tokenizer.vocab_size, n_positions), 0)


def engine_of(cache: PrefixCache) -> FakeEngine:
    assert isinstance(cache.engine, FakeEngine)
    return cache.engine


def go_on(_text: str) -> None:
    """The stop rule that never stops."""


def at_most(n_characters: int) -> StopRule:
    return lambda text: n_characters if len(text) >= n_characters else None


def first_line(text: str) -> int | None:
    end = text.find("\n")
    return None if end < 0 else end


def write(cache: PrefixCache, pending: bytes = b"", tokenizer: Tokenizer = WORDS, **options) -> Generation:
    options = {"stop": go_on, "max_new_tokens": 8, **options}
    return generate(cache, Prompt(START, pending), tokenizer, TokenIndex(tokenizer), **options)


def without_times(generation: Generation) -> Generation:
    return dataclasses.replace(generation, prefill_ms=0.0, decode_ms=0.0)


def test_a_likely_short_token_that_leads_nowhere_is_not_taken():
    model = table({"": {"r": 0.6, "ret": 0.05, "return": 0.2}, "ret": {" s": 0.5}, "return": {END: 0.9}})
    generation = write(cache_of(model), b"ret")
    assert generation.text == "urn"
    assert generation.token_logprobs == pytest.approx([math.log(0.2 / 0.25)], abs=0.05)


def test_a_word_that_ends_at_the_cursor_counts_with_all_that_may_follow():
    model = table({"": {"ret": 0.3, "return": 0.2}, "ret": {" s": 0.5, "a": 0.3}, "ret| s": {END: 0.9}})
    generation = write(cache_of(model), b"ret")
    assert generation.text == " s"
    assert generation.token_logprobs == pytest.approx([math.log(0.3 / 0.5 * 0.5)], abs=0.05)


ASIDE = {"": {"a": 0.5, "ab": 0.3}, "a": {"bcd": 0.9}, "ab": {"c": 0.2, "cx": 0.1}, "a|bcd": {END: 0.9}}


def test_a_way_beside_the_pending_tokens_is_found_with_one_forward_more():
    cache = cache_of(table(ASIDE))
    assert write(cache, b"abc", max_new_tokens=1).text == "d"
    assert engine_of(cache).n_forwards == 2


@pytest.mark.parametrize("after_a, text", [({"b": 0.8, "bcd": 0.1}, "x"), ({"b": 0.1, "bcd": 0.8}, "d")])
def test_ways_beside_that_begin_alike_are_read_together(after_a, text):
    tokenizer = FakeTokenizer([*"abcdx", "abc", "bcd", "cx"])
    cache = cache_of(table({"": {"a": 0.9}, "a": after_a, "a|b": {"cx": 0.9}}, tokenizer), tokenizer)
    assert write(cache, b"abc", tokenizer, max_new_tokens=1).text == text
    assert engine_of(cache).n_forwards == 2


def test_a_way_that_cannot_win_is_not_read():
    cache = cache_of(table({**ASIDE, "": {"a": 0.01, "ab": 0.9}}))
    write(cache, b"abc", max_new_tokens=1)
    assert engine_of(cache).n_forwards == 1


def test_pending_text_along_its_own_tokens_costs_no_forward():
    cache = cache_of(table({"": {"ab": 0.9}, "ab": {"c": 0.9}, "ab|c": {"d": 0.9}}))
    generation = write(cache, b"abc", max_new_tokens=1)
    assert (generation.text, engine_of(cache).n_forwards) == ("d", 1)


BYTES = FakeTokenizer([*(bytes([byte]) for byte in range(256)), "ab", "a b", " a", "\n  ", "é", "€a", b"\x82\xac"])
BYTES_INDEX = TokenIndex(BYTES)


@given(st.text(alphabet="ab \né€", max_size=20), st.integers(1, 5))
def test_the_text_before_the_cursor_is_always_kept(before, max_new_tokens):
    kept, pending = heal(BYTES.encode(before), BYTES_INDEX, BYTES)
    cache = cache_of(noise(BYTES.vocab_size), BYTES)
    prompt = Prompt((*START, *kept), pending)
    generation = generate(cache, prompt, BYTES, BYTES_INDEX, stop=go_on, max_new_tokens=max_new_tokens)
    fed = b"".join(map(BYTES.token_bytes, cache.tokens))
    whole = (before + generation.text).encode()
    assert whole.startswith(fed[: len(whole)])
    assert generation.n_new_tokens <= 1 or fed.startswith(before.encode())


@pytest.fixture(scope="module")
def learned(tiny_checkpoint: Path) -> Tokenizer:
    return load_tokenizer(tiny_checkpoint)


@pytest.mark.parametrize("text", TOKENIZER_TEXT)
def test_a_model_that_knows_the_text_goes_on_with_it_at_every_cursor(learned, text):
    cache = cache_of(author(learned, text), learned)
    index = TokenIndex(learned)
    for cursor in range(len(text)):
        kept, pending = heal(learned.encode(text[:cursor]), index, learned)
        prompt = Prompt((*START, *kept), pending)
        generation = generate(cache, prompt, learned, index, stop=at_most(6), max_new_tokens=6)
        assert generation.text == text[cursor : cursor + 6], f"after {text[:cursor]!r}"


AB = table({"": {"a": 0.9}, "a": {"b": 0.9}, "a|b": {"\n": 0.9}, "a|b|\n": {END: 0.9}})


def test_ends_where_the_stop_rule_says():
    generation = write(cache_of(AB), stop=first_line)
    assert (generation.text, generation.finish, generation.n_new_tokens) == ("ab", "stop", 3)
    assert generation.token_texts == ("a", "b")
    assert generation.token_logprobs == pytest.approx([math.log(0.9)] * 2, abs=0.01)
    assert generation.mean_logprob == pytest.approx(math.log(0.9), abs=0.01)


def test_the_token_that_is_cut_still_counts():
    model = table({"": {"return": 0.9}})
    generation = write(cache_of(model), stop=lambda text: 3)
    assert (generation.text, generation.token_texts, len(generation.token_logprobs)) == ("ret", ("ret",), 1)


def test_ends_with_the_text():
    generation = write(cache_of(AB))
    assert (generation.text, generation.finish) == ("ab\n", "stop")


def test_may_end_at_once():
    generation = write(cache_of(table({"": {END: 0.9}})))
    assert (generation.text, generation.finish, generation.token_logprobs) == ("", "stop", ())
    assert generation.mean_logprob == 0.0


def test_ends_at_the_token_budget():
    generation = write(cache_of(AB), max_new_tokens=2)
    assert (generation.text, generation.finish, generation.n_new_tokens) == ("ab", "length", 2)


def test_writes_nothing_without_a_budget():
    cache = cache_of(AB)
    generation = write(cache, max_new_tokens=0)
    assert (generation.text, generation.finish, engine_of(cache).n_forwards) == ("", "length", 0)


@pytest.mark.parametrize("pending", [b"", b"ret"])
def test_ends_at_the_last_position(pending):
    n_positions = 4
    cache = cache_of(noise(WORDS.vocab_size), n_positions=n_positions)
    generation = write(cache, pending, max_new_tokens=100, stop=go_on)
    assert generation.finish in ("length", "stop")
    assert len(cache.tokens) <= n_positions


def test_pending_text_beyond_the_last_position_gives_nothing():
    cache = cache_of(AB, n_positions=2)
    generation = write(cache, b"a a")
    assert (generation.text, generation.finish) == ("", "length")


@pytest.mark.parametrize("token_ids", [(), START * 9])
def test_a_prompt_that_cannot_be_fed_is_an_error(token_ids):
    with pytest.raises(ValueError, match="1 to 8 token ids"):
        generate(
            cache_of(AB, n_positions=8),
            Prompt(token_ids, b""),
            WORDS,
            TokenIndex(WORDS),
            stop=go_on,
            max_new_tokens=1,
        )


def test_a_cancelled_request_keeps_what_it_has():
    cache = cache_of(AB)
    generation = write(cache, cancelled=lambda: engine_of(cache).n_forwards >= 2)
    assert (generation.text, generation.finish) == ("ab", "cancelled")


def test_the_deadline_keeps_what_it_has(monkeypatch):
    cache = cache_of(AB)
    monkeypatch.setattr("server.lm.reader.time", SimpleNamespace(monotonic=lambda: engine_of(cache).n_forwards))
    generation = write(cache, deadline=2)
    assert (generation.text, generation.finish) == ("ab", "deadline")


class SlowEngine(FakeEngine):
    """Each forward takes a second of the clock that it is given."""

    now = 0.0

    def logits(self, slot: int, token_ids: Sequence[int], n_past: int, n_keep: int = 1) -> Logits:
        SlowEngine.now += 1.0
        return super().logits(slot, token_ids, n_past, n_keep)


@pytest.mark.parametrize(
    "n_prompt, text, finish",
    [
        (40, "abcdrets", "length"),  # one forward to read it: the deadline is that much later
        (33 * 32, "", "deadline"),  # it is read no longer than the limit, and the deadline is there
    ],
)
def test_the_deadline_does_not_count_the_reading_of_a_new_prompt(monkeypatch, n_prompt, text, finish):
    SlowEngine.now = 0.0
    monkeypatch.setattr("server.lm.decode.time.monotonic", lambda: SlowEngine.now)
    words = "abcdrets"
    steps = {"|".join(words[:n]): {words[n]: 0.9} for n in range(len(words))}
    cache = PrefixCache(SlowEngine(table(steps), WORDS.vocab_size, 2048), 0)
    prompt = Prompt((MARKERS.file,) * (n_prompt - 1) + START, b"")
    found = generate(cache, prompt, WORDS, TokenIndex(WORDS), stop=go_on, max_new_tokens=8, deadline=8.5)
    assert (found.text, found.finish) == (text, finish)


@pytest.mark.parametrize("limit, finish", [({"deadline": 0.0}, "deadline"), ({"cancelled": lambda: True}, "cancelled")])
def test_a_request_that_comes_too_late_feeds_nothing(limit, finish):
    cache = cache_of(AB)
    generation = write(cache, b"ret", **limit)
    assert (generation.text, generation.finish, generation.n_new_tokens) == ("", finish, 0)
    assert engine_of(cache).n_forwards == 0


def test_prefill_pauses_between_chunks_and_goes_on_from_there():
    cache = cache_of(AB)
    prompt = Prompt(START * 150, b"")
    options, n_read = {"stop": go_on, "max_new_tokens": 1}, 2 * PREFILL_CHUNK_TOKENS
    paused = generate(cache, prompt, WORDS, TokenIndex(WORDS), cancelled=lambda: len(cache.tokens) >= n_read, **options)
    assert (paused.finish, paused.text, paused.n_cached_tokens) == ("cancelled", "", 0)
    resumed = generate(cache, prompt, WORDS, TokenIndex(WORDS), **options)
    assert (resumed.text, resumed.n_cached_tokens, resumed.n_prompt_tokens) == ("a", n_read, 150)


def test_markers_are_never_written():
    def markers_first(token_ids: tuple[int, ...]) -> Logits:
        logits = np.zeros(WORDS.vocab_size, dtype=np.float32)
        logits[1:8] = 50.0
        logits[WORDS.id_of("a")] = 1.0
        return logits

    assert write(cache_of(markers_first), max_new_tokens=3).text == "aaa"
    assert write(cache_of(markers_first), b"r", max_new_tokens=1).text != ""


def test_the_end_of_text_waits_for_the_pending_text():
    model = table({"": {END: 0.98, "ret": 0.01}, "ret": {"a": 0.9}})
    assert write(cache_of(model), b"ret", max_new_tokens=1).text == "a"


def test_rows_of_the_model_beyond_the_vocabulary_are_not_written():
    tokenizer = FakeTokenizer(["a", "b"])
    wide = tokenizer.vocab_size + 5
    cache = PrefixCache(FakeEngine(lambda token_ids: np.arange(wide, dtype=np.float32), wide), 0)
    assert write(cache, tokenizer=tokenizer, max_new_tokens=2).text == "bb"


@pytest.mark.parametrize(
    "entries, text, token_texts",
    [
        (["a", b"\xc3", b"\xa9", END], "aé", ("a", "", "é")),  # a character in two tokens shows with the second
        (["a", b"\xc3", END], "a", ("a",)),  # half a character is never shown
        (["a", b"\xff", "b"], "a", ("a",)),  # no text: the end
        (["a", b"\xc3", "b"], "a", ("a",)),
    ],
)
def test_only_whole_characters_are_shown(entries, text, token_texts):
    tokenizer = WORDS
    ids = [MARKERS.end_of_text if entry == END else tokenizer.id_of(entry) for entry in entries]

    def one_after_the_other(token_ids: tuple[int, ...]) -> Logits:
        logits = np.zeros(tokenizer.vocab_size, dtype=np.float32)
        logits[[*ids, MARKERS.end_of_text][len(token_ids) - 1]] = 30.0
        return logits

    generation = write(cache_of(one_after_the_other))
    assert (generation.text, generation.token_texts, generation.finish) == (text, token_texts, "stop")
    assert len(generation.token_logprobs) == len(token_texts)


@given(st.integers(0, 500), st.integers(0, 12), st.sampled_from([b"", b"a", b"ret", b"ab "]))
def test_the_figures_fit_the_text(seed, n_kept, pending):
    model = noise(WORDS.vocab_size)
    cache = cache_of(lambda token_ids: model((seed, *token_ids)))
    generation = write(cache, pending, stop=at_most(n_kept))
    assert "".join(generation.token_texts) == generation.text
    assert len(generation.token_texts) == len(generation.token_logprobs) <= generation.n_new_tokens <= 8
    assert all(logprob <= 1e-6 for logprob in generation.token_logprobs)
    if generation.token_logprobs:
        assert generation.mean_logprob == pytest.approx(np.mean(generation.token_logprobs))


def test_an_accepted_suggestion_is_in_the_cache(learned):
    text = TOKENIZER_TEXT[0]
    cache = cache_of(author(learned, text), learned)
    index = TokenIndex(learned)

    def complete(cursor: int) -> Generation:
        kept, pending = heal(learned.encode(text[:cursor]), index, learned)
        prompt = Prompt((*START, *kept), pending)
        return generate(cache, prompt, learned, index, stop=at_most(20), max_new_tokens=20)

    first = complete(20)
    n_forwards = engine_of(cache).n_forwards
    second = complete(20 + len(first.text))
    assert second.text == text[40:60]
    assert second.n_cached_tokens == second.n_prompt_tokens - 1, "the last one is always fed"
    assert engine_of(cache).n_forwards - n_forwards <= second.n_new_tokens + 1


def test_the_last_token_is_not_fed():
    cache = cache_of(AB)
    write(cache, stop=first_line)
    assert cache.tokens == (*START, *WORDS.ids_of("a", "b"))
    assert engine_of(cache).n_forwards == 3


class Guess:
    """A proposer that always says the same, or what followed in a text it knows."""

    def __init__(self, drafts: Sequence[int] = (), known: Sequence[int] = (), tokenizer: Tokenizer = WORDS) -> None:
        self.drafts, self.known = list(drafts), list(known)
        self.text_of = tokenizer.token_bytes

    def propose(self, text_so_far: bytes, max_tokens: int) -> list[int]:
        assert max_tokens > 0
        for end in range(len(self.known) + 1):
            if b"".join(map(self.text_of, self.known[:end])) == text_so_far:
                return self.known[end : end + max_tokens]
        return self.drafts


@given(
    seed=st.integers(0, 200),
    drafts=st.lists(st.integers(-1, WORDS.vocab_size + 2), max_size=6),
    n_right=st.integers(0, 12),
    pending=st.sampled_from([b"", b"ret"]),
    max_new_tokens=st.integers(1, 10),
    n_positions=st.integers(4, 14),
)
def test_drafts_never_change_the_answer(seed, drafts, n_right, pending, max_new_tokens, n_positions):
    def model(token_ids: tuple[int, ...]) -> Logits:
        return noise(WORDS.vocab_size)((seed, *token_ids))

    options = {"stop": at_most(9), "max_new_tokens": max_new_tokens}
    plain_cache = cache_of(model, n_positions=n_positions)
    plain = write(plain_cache, pending, **options)
    guess = Guess(drafts, plain_cache.tokens[1 : 1 + n_right])
    cache = cache_of(model, n_positions=n_positions)
    assert without_times(write(cache, pending, **options, proposer=guess)) == without_times(plain)
    assert engine_of(cache).n_forwards <= engine_of(plain_cache).n_forwards


def test_right_drafts_save_forwards():
    letters = FakeTokenizer("abcdefgh")
    letters.end_of_text = None
    model = noise(letters.vocab_size)
    plain_cache, cache = cache_of(model, letters), cache_of(model, letters)
    plain = write(plain_cache, tokenizer=letters, max_new_tokens=7)
    drafted = write(
        cache, tokenizer=letters, max_new_tokens=7, proposer=Guess(known=plain_cache.tokens[1:], tokenizer=letters)
    )
    assert (drafted.text, drafted.n_new_tokens) == (plain.text, 7)
    assert (engine_of(plain_cache).n_forwards, engine_of(cache).n_forwards) == (7, 2)


def test_right_drafts_do_not_exceed_the_token_budget():
    letters = FakeTokenizer("a")
    letters.end_of_text = None
    cache = cache_of(noise(letters.vocab_size), letters)
    drafts = Guess(drafts=letters.encode("a" * 9))
    assert write(cache, tokenizer=letters, max_new_tokens=4, proposer=drafts).n_new_tokens == 4


class Insist:
    """A mixer that raises one id above all others, and notes for which text it was asked."""

    def __init__(self, token_id: int) -> None:
        self.token_id = token_id
        self.asked: list[bytes] = []
        self.prepared: list[bytes] = []

    def prepare(self, texts: Sequence[bytes]) -> None:
        self.prepared += texts

    def mix(self, log_probs: Logits, text_so_far: bytes) -> Logits:
        assert np.exp(log_probs).sum() == pytest.approx(1.0, abs=1e-4)
        self.asked.append(text_so_far)
        mixed = log_probs - 5.0
        mixed[self.token_id] = -0.1
        return mixed


def test_the_mixed_opinion_decides():
    mixer = Insist(WORDS.id_of("b"))
    generation = write(cache_of(table({"": {"ret": 0.9}})), b"ret", mixer=mixer, max_new_tokens=3)
    assert generation.text == "bbb"
    assert generation.token_logprobs[1:] == pytest.approx([-0.1, -0.1])
    assert mixer.asked == mixer.prepared == [b"", b"ret", b"retb", b"retbb"]


def test_a_mixer_cannot_write_markers():
    assert write(cache_of(AB), mixer=Insist(MARKERS.file), max_new_tokens=2).text == "ab"


def several(cache: PrefixCache, n: int = 3, pending: bytes = b"", **options) -> list[Generation]:
    options = {"stop": first_line, "max_new_tokens": 8, **options}
    return alternatives(cache, Prompt(START, pending), WORDS, TokenIndex(WORDS), n, **options)


CHOICES = table(
    {
        "": {"a": 0.4, "b": 0.3, "\n": 0.15, "cx": 0.1},
        "a": {"\n": 0.9},
        "b": {"d": 0.4},
        "b|d": {"\n": 0.9},
        "cx": {"\n": 0.9},
    }
)


def test_alternatives_start_differently_and_are_ranked():
    found = several(cache_of(CHOICES))
    assert [generation.text for generation in found] == ["a", "bd", "cx"]
    assert found[1].mean_logprob > found[2].mean_logprob
    assert found[1].token_logprobs == pytest.approx([math.log(0.3), math.log(0.4)], abs=0.05)


def test_a_long_alternative_is_judged_per_token():
    model = table({"": {"a": 0.5, "b": 0.2, "cx": 0.25}, "a": {END: 1}, "b": {"d": 1}, "b|d": {END: 1}, "cx": {END: 1}})
    assert [generation.text for generation in several(cache_of(model))] == ["a", "bd", "cx"]


@given(st.integers(0, 300), st.integers(1, 5), st.sampled_from([b"", b"ret", b"abc", b"a"]))
def test_the_first_alternative_is_the_greedy_one(seed, n, pending):
    def model(token_ids: tuple[int, ...]) -> Logits:
        return noise(WORDS.vocab_size)((seed, *token_ids))

    greedy = write(cache_of(model), pending, stop=first_line)
    found = several(cache_of(model), n, pending)
    assert without_times(found[0]) == without_times(greedy)
    assert 1 <= len(found) <= n
    assert len({generation.text for generation in found}) == len(found)
    assert all(generation.text for generation in found[1:])
    assert all(one.mean_logprob >= other.mean_logprob for one, other in pairwise(found[1:]))


def test_the_same_text_in_other_tokens_is_no_alternative():
    model = table({"": {"ab": 0.5, "a": 0.4}, "a": {"b": 1}, "a|b": {END: 1}, "ab": {END: 1}})
    assert [generation.text for generation in several(cache_of(model), 2)].count("ab") == 1


def test_alternatives_respect_the_pending_text():
    model = table(
        {
            "": {"ret": 0.4, "return": 0.3},
            "ret": {" s": 0.5, "a": 0.3},
            "return": {END: 0.9},
            "ret| s": {END: 1},
            "ret|a": {END: 1},
        }
    )
    assert [generation.text for generation in several(cache_of(model), pending=b"ret")] == [" s", "urn", "a"]


def test_alternatives_share_the_prompt():
    cache = cache_of(CHOICES)
    prompt = Prompt(START * 100, b"")
    alternatives(cache, prompt, WORDS, TokenIndex(WORDS), 3, stop=first_line, max_new_tokens=8)
    assert engine_of(cache).n_fed < 110


def tries(cache: PrefixCache, n: int = 3, **options) -> Iterator[Generation]:
    options = {"stop": first_line, "max_new_tokens": 8, **options}
    return attempts(cache, Prompt(START, b""), WORDS, TokenIndex(WORDS), n, **options)


def test_attempts_come_by_their_first_token_and_only_when_asked_for():
    cache = cache_of(CHOICES)
    found = tries(cache)
    assert without_times(next(found)) == without_times(write(cache_of(CHOICES), stop=first_line))
    n_forwards = engine_of(cache).n_forwards
    assert next(found).text == "bd"
    assert engine_of(cache).n_forwards > n_forwards


def test_no_attempt_is_made_after_the_deadline_but_the_first():
    assert [generation.finish for generation in tries(cache_of(CHOICES), deadline=time.monotonic() - 1)] == ["deadline"]


def test_a_cancelled_request_still_has_its_first_answer():
    cache = cache_of(CHOICES)
    found = several(cache, cancelled=lambda: engine_of(cache).n_forwards >= 2)
    assert [generation.text for generation in found] == ["a"]


def test_alternatives_that_come_too_late_are_one_empty_answer():
    found = several(cache_of(CHOICES), deadline=time.monotonic() - 1)
    assert [(generation.text, generation.finish) for generation in found] == [("", "deadline")]


def test_a_vocabulary_without_markers_is_written_in_full():
    tokenizer = FakeTokenizer(["a", "b"])
    tokenizer.special = tokenizer.end_of_text = None
    model = table({"": {"a": 0.9}, "a": {"b": 0.9}}, tokenizer)
    generation = write(cache_of(model, tokenizer), tokenizer=tokenizer, max_new_tokens=2)
    assert (generation.text, generation.finish) == ("ab", "length")
