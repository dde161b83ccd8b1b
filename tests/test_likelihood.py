"""How likely a given text is after the cursor: the sum over its tokens, whatever is pending; nothing is read twice."""

from __future__ import annotations

import math
import time
from itertools import accumulate

import numpy as np
import pytest
from fakes import MARKERS, FakeEngine, FakeTokenizer, NextLogits, author, noise
from hypothesis import assume, given
from hypothesis import strategies as st

from server.lm.decode import Decoder
from server.lm.engine import PrefixCache, never
from server.lm.healing import TokenIndex
from server.lm.model import LoadedModel
from server.lm.prompt import Prompt
from server.lm.reader import Limits, Reader

# Of the texts that may be pending here none can be crossed beside its own tokens, so that one forward knows all ways.
WORDS = FakeTokenizer([*"abcdretsp ", "\n", "ab", "abc", "ret", "return", " s", "\n ", "é", b"\xc3", b"\xa9"])
INDEX = TokenIndex(WORDS)
START = (MARKERS.file, MARKERS.fim_prefix)
PENDING = st.sampled_from([b"", b"r", b"ret", b"a", b"ab", b" ", "é".encode()])
TEXTS = st.text(alphabet="abcdretsp é", min_size=1, max_size=9)
MARKED = np.array([token for token in range(8) if token != MARKERS.end_of_text])
SEEDS = st.integers(0, 300)


def model_of(seed: int) -> NextLogits:
    whole = noise(WORDS.vocab_size)
    return lambda token_ids: whole((seed, *token_ids))


def decoder_of(
    model: int | NextLogits, pending: bytes = b"", limits: Limits | None = None, n_positions: int = 1024
) -> Decoder:
    engine = FakeEngine(model_of(model) if isinstance(model, int) else model, WORDS.vocab_size, n_positions)
    limits = limits or Limits(40, None, never)
    return Decoder(PrefixCache(engine, 0), Prompt(START, pending), WORDS, INDEX, limits, first_line)


def first_line(text: str) -> int | None:
    end = text.find("\n")
    return None if end < 0 else end


def engine_of(decoder: Decoder) -> FakeEngine:
    assert isinstance(decoder._cache.engine, FakeEngine)
    return decoder._cache.engine


def next_probabilities(seed: int, token_ids: tuple[int, ...]) -> np.ndarray:
    """Of each entry after some ids; markers but the end of the text are never written."""
    probabilities = np.exp(model_of(seed)(token_ids).astype(np.float64))
    probabilities[MARKED] = 0.0
    return probabilities / probabilities.sum()


def of_tokens(seed: int, token_ids: list[int]) -> list[float]:
    """The probabilities of no, one, two, ... of some tokens after the prompt."""
    steps = [next_probabilities(seed, (*START, *token_ids[:n]))[token_ids[n]] for n in range(len(token_ids))]
    return list(accumulate(steps, lambda before, step: before * float(step), initial=1.0))


def of_pending(seed: int, pending: bytes) -> float:
    """The probability of a text with all that may follow it: some of its tokens, then one that reaches beyond it."""
    token_ids = WORDS.encode(pending.decode())
    along, total = of_tokens(seed, token_ids), 0.0
    for n, probability in enumerate(along[:-1]):
        rest = b"".join(map(WORDS.token_bytes, token_ids[n:]))
        after = next_probabilities(seed, (*START, *token_ids[:n]))
        for token_id in range(WORDS.vocab_size):
            entry = WORDS.token_bytes(token_id)
            if len(entry) > len(rest) and entry.startswith(rest):
                total += probability * after[token_id]
    return total + along[-1]


def brute_force(seed: int, pending: bytes, text: str) -> float:
    """The probability that the line ends as `text` says, given the pending text."""
    token_ids = WORDS.encode(pending.decode() + text)
    after = next_probabilities(seed, (*START, *token_ids))
    ends = [token_id for token_id in range(WORDS.vocab_size) if WORDS.token_bytes(token_id).startswith(b"\n")]
    end = after[MARKERS.end_of_text] + sum(after[token_id] for token_id in ends)
    return of_tokens(seed, token_ids)[-1] * float(end) / of_pending(seed, pending)


@given(SEEDS, PENDING, TEXTS)
def test_it_is_the_product_over_the_tokens_given_the_text_before_the_cursor(
    seed: int, pending: bytes, text: str
) -> None:
    found = decoder_of(seed, pending).log_likelihood(text)
    assert found == pytest.approx(math.log(brute_force(seed, pending, text)), abs=1e-3)


@given(PENDING, TEXTS)
def test_a_line_that_is_written_is_as_likely_as_its_tokens_say(pending: bytes, text: str) -> None:
    model = author(WORDS, pending.decode() + text, confidence=5.0)  # in the tokenizer's own tokens
    generation = next(decoder_of(model, pending).attempts(1))
    assume(generation.text == text and generation.finish == "stop")
    own = sum(generation.token_logprobs) + generation.end_logprob
    assert decoder_of(model, pending).log_likelihood(text) == pytest.approx(own, abs=1e-3)
    assert own < -0.01


@given(SEEDS, PENDING, TEXTS)
def test_whatever_is_asked_before_the_answer_is_the_same(seed: int, pending: bytes, text: str) -> None:
    alone, asked = decoder_of(seed, pending).log_likelihood(text), decoder_of(seed, pending)
    for other in ("a", text[:2], text + "b", text):
        asked.log_likelihood(other)
    next(asked.attempts(2))
    assert asked.log_likelihood(text) == pytest.approx(alone, abs=1e-4)


@given(SEEDS, PENDING)
def test_reading_lines_changes_nothing_of_what_is_written(seed: int, pending: bytes) -> None:
    plain, reading = decoder_of(seed, pending), decoder_of(seed, pending)
    for text in ("abc", "ret s", "d"):
        reading.log_likelihood(text)
    for one, other in zip(plain.attempts(3), reading.attempts(3), strict=True):
        assert (one.text, one.finish, one.token_texts) == (other.text, other.finish, other.token_texts)
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


@given(SEEDS, PENDING, TEXTS)
def test_all_that_a_model_may_write_is_less_than_certain(seed: int, pending: bytes, text: str) -> None:
    texts = {text, text[:-1], text + "a", "b", "return"} - {""}
    found = [decoder_of(seed, pending).log_likelihood(each) for each in texts]
    assert sum(math.exp(each) for each in found if each is not None) <= 1.0 + 1e-4


@given(SEEDS, PENDING, TEXTS, st.floats(-40.0, 0.0))
def test_a_text_that_is_not_likely_enough_is_told_to_be_so(seed: int, pending: bytes, text: str, least: float) -> None:
    exact = decoder_of(seed, pending).log_likelihood(text)
    decoder = decoder_of(seed, pending)
    found = decoder.log_likelihood(text, least)
    assert exact is not None and found is not None
    if found != pytest.approx(exact, abs=1e-4):
        assert found == -math.inf and exact < least
        assert engine_of(decoder).n_forwards <= 1 + bool(pending)  # it was not read


def test_a_text_that_begins_too_unlikely_is_not_read_on() -> None:
    first = math.log(of_tokens(1, WORDS.encode("d"))[-1])
    for least, n_forwards in ((first + 0.01, 1), (first - 0.01, 2), (1.0, 1)):
        decoder = decoder_of(1)
        found = decoder.log_likelihood("dte", least)
        assert engine_of(decoder).n_forwards == n_forwards
        assert found == -math.inf if n_forwards == 1 else found is not None and -math.inf < found < first - 0.1


@given(PENDING, TEXTS)
def test_a_line_that_was_read_is_written_without_a_forward(pending: bytes, text: str) -> None:
    model = author(WORDS, pending.decode() + text)
    decoder, plain = decoder_of(model, pending), decoder_of(model, pending)
    assert decoder.log_likelihood(text) is not None
    n_forwards = engine_of(decoder).n_forwards
    assert n_forwards <= 2  # the prompt, and all of the line at once
    written = next(decoder.attempts(1))
    assert (written.text, written.finish) == (text, "stop") and engine_of(decoder).n_forwards == n_forwards
    assert next(plain.attempts(1)).token_texts == written.token_texts
    assert engine_of(plain).n_forwards >= len(written.token_texts)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(40, time.monotonic() - 1, never),
        Limits(40, None, lambda: True),
        Limits(0, None, never),
    ],
)
def test_at_a_limit_there_is_no_answer(limits: Limits) -> None:
    decoder = decoder_of(1, b"ret", limits)
    assert decoder.log_likelihood("abc") is None
    assert engine_of(decoder).n_forwards == 0


def test_a_limit_between_the_prompt_and_the_text_gives_no_answer() -> None:
    decoder = decoder_of(1, limits=Limits(40, None, lambda: engine_of(decoder).n_forwards >= 1))
    assert decoder.log_likelihood("abc") is None
    assert engine_of(decoder).n_forwards == 1


def test_a_text_beyond_the_last_position_has_no_likelihood() -> None:
    n_positions = len(START) + 3
    assert decoder_of(1, n_positions=n_positions).log_likelihood("d" * 3) is not None
    assert decoder_of(1, n_positions=n_positions).log_likelihood("d" * 4) is None


@given(
    SEEDS,
    st.lists(st.tuples(st.lists(st.integers(8, WORDS.vocab_size - 1), max_size=6), st.integers(1, 7)), max_size=8),
)
def test_what_the_reader_remembers_is_what_the_model_said(seed: int, asked: list[tuple[list[int], int]]) -> None:
    engine = FakeEngine(model_of(seed), WORDS.vocab_size)
    reader = Reader(PrefixCache(engine, 0), Limits(40, None, never), WORDS.vocab_size, INDEX.markers)
    for token_ids, n_keep in asked:
        sequence = [*START, *token_ids]
        n_keep = min(n_keep, len(sequence))
        is_known = all(reader.knows(sequence[: len(sequence) - n]) for n in range(n_keep))
        n_forwards = engine.n_forwards
        logits = reader.logits(sequence, n_keep)
        assert logits is not None and (engine.n_forwards == n_forwards) == is_known
        for n, row in enumerate(reversed(logits)):
            head = tuple(sequence[: len(sequence) - n])
            assert np.array_equal(row, model_of(seed)(head)) and reader.knows(head)


@pytest.mark.parametrize("text", ["add(1, 2)", "first + second", "x", "names.of(é)"])
def test_a_real_model_gives_a_text_what_one_forward_over_all_of_it_says(tiny_model: LoadedModel, text: str) -> None:
    tokenizer, before = tiny_model.tokenizer, "import sys\n"
    prompt = (2, *tokenizer.encode(before))
    sequence = [2, *tokenizer.encode(before + text)]
    assert tuple(sequence[: len(prompt)]) == prompt
    logits = tiny_model.engine.logits(1, sequence, 0, len(sequence))[:, : tokenizer.vocab_size].astype(np.float64)
    logits[:, MARKED] = -np.inf
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = sum(logprobs[at - 1, sequence[at]] for at in range(len(prompt), len(sequence)))
    ends = [token for token in range(tokenizer.vocab_size) if tokenizer.token_bytes(token).startswith(b"\n")]
    expected += np.log(np.exp(logprobs[-1, [tokenizer.end_of_text, *ends]]).sum())
    cache, limits = PrefixCache(tiny_model.engine, 0), Limits(30, None, never)
    decoder = Decoder(cache, Prompt(prompt, b""), tokenizer, tiny_model.token_index, limits, first_line)
    assert decoder.log_likelihood(text) == pytest.approx(expected, abs=1e-3)
