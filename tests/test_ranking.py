"""Ranking texts: what the index and the model say of each counts, and none of them may be right."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ranking import LEAST, LEAST_LOG, MOST, WEIGHTS, Evidence, features, least_model, probabilities

PROBABILITY = st.floats(0.0, 1.0)
LOGPROB = st.floats(max_value=0.0, allow_nan=False)
EVIDENCE = st.builds(Evidence, index=st.none() | PROBABILITY, model=LOGPROB, is_written=st.booleans())
OTHERS = st.lists(EVIDENCE, max_size=4)
# Further out the inputs are all alike.
INSIDE = st.floats(2 * LEAST, 0.99)
LOG_INSIDE = st.floats(0.9 * LEAST_LOG, -0.01)


@given(OTHERS)
def test_probabilities_leave_a_chance_that_none_is_right(found: list[Evidence]) -> None:
    shares = probabilities(found)
    assert len(shares) == len(found)
    assert all(0.0 < share < 1.0 for share in shares)
    assert sum(shares) < 1.0


def test_of_nothing_nothing_is_likely() -> None:
    assert probabilities([]) == []


@given(EVIDENCE)
def test_there_is_a_weight_for_each_input_and_all_inputs_are_small(evidence: Evidence) -> None:
    values = features(evidence)
    assert len(values) == len(WEIGHTS)
    assert all(math.isfinite(value) and abs(value) <= 10.0 for value in values)


@given(EVIDENCE, OTHERS, LOG_INSIDE, st.floats(0.01, 5.0))
def test_of_two_texts_the_one_is_likelier_that_the_model_finds_likelier(
    evidence: Evidence, others: list[Evidence], model: float, less: float
) -> None:
    likely = replace(evidence, model=model)
    unlikely = replace(evidence, model=max(model - less, LEAST_LOG))
    high, low, *_ = probabilities([likely, unlikely, *others])
    assert high > low
    assert probabilities([likely, *others])[0] > probabilities([unlikely, *others])[0]


@given(INSIDE, INSIDE, LOGPROB, st.booleans(), OTHERS)
def test_of_two_lines_the_one_is_likelier_that_the_index_finds_likelier(
    one: float, other: float, model: float, is_written: bool, others: list[Evidence]
) -> None:
    found = [Evidence(index, model, is_written) for index in (one, other)]
    first, second, *_ = probabilities([*found, *others])
    assert (first > second) == (one > other) or math.isclose(one, other, rel_tol=1e-9)


@given(INSIDE, LOG_INSIDE, OTHERS)
def test_a_line_that_the_model_would_write_too_is_likelier_than_one_it_only_read(
    index: float, model: float, others: list[Evidence]
) -> None:
    sure = max(model, math.log(0.5))
    written, read, *_ = probabilities([Evidence(index, sure, True), Evidence(index, sure, False), *others])
    assert written > read


@given(EVIDENCE, OTHERS)
def test_a_further_text_takes_from_all_others(evidence: Evidence, others: list[Evidence]) -> None:
    before, after = probabilities(others), probabilities([*others, evidence])[:-1]
    assert all(late < early for early, late in zip(before, after, strict=True))
    for first, second in zip(range(len(others)), range(1, len(others)), strict=False):
        assert after[first] * before[second] == pytest.approx(after[second] * before[first])


@pytest.mark.parametrize("extreme, bound", [
    (Evidence(1.0, -1.0, False), Evidence(MOST, -1.0, False)),
    (Evidence(0.0, -1.0, False), Evidence(LEAST, -1.0, False)),
    (Evidence(0.5, -math.inf, False), Evidence(0.5, LEAST_LOG, False)),
    (Evidence(None, -1e9, True), Evidence(None, LEAST_LOG, True)),
    (Evidence(None, 0.0, True), Evidence(None, math.log(MOST), True)),
])  # fmt: skip
def test_nothing_is_impossible_and_nothing_certain(extreme: Evidence, bound: Evidence) -> None:
    assert probabilities([extreme]) == pytest.approx(probabilities([bound]), abs=1e-3)


def test_a_line_that_the_index_does_not_know_is_judged_by_the_model_alone() -> None:
    known, index, written, both, model, model_written = features(Evidence(None, -3.0, True))
    assert (known, index, written, both) == (0.0, 0.0, 1.0, 0.0)
    assert model == pytest.approx(-1.0) and math.exp(model_written) == pytest.approx(math.exp(-3) / (1 - math.exp(-3)))
    assert features(Evidence(0.5, -3.0, False)) == (1.0, 0.0, 0.0, 0.0, pytest.approx(-1.0), 0.0)


@given(OTHERS, st.floats(0.0, 0.95), st.none() | PROBABILITY)
def test_from_the_least_likelihood_on_a_text_is_the_likeliest_and_likely_enough(
    rivals: list[Evidence], least: float, index: float | None
) -> None:
    def is_chosen(model: float) -> bool:
        first, *others = probabilities([Evidence(index, model, index is None), *rivals])
        return first >= max([least, *others])

    bar = least_model(rivals, least, index)
    if bar == math.inf:
        assert not is_chosen(-1e-3)
    elif bar == -math.inf:
        assert is_chosen(LEAST_LOG + 1e-3)
    else:
        assert is_chosen(min(bar + 1e-3, 0.0)) and not is_chosen(bar - 1e-3)


def test_where_nothing_is_asked_for_every_text_is_likely_enough() -> None:
    assert least_model([], 0.0) == least_model([], 0.0, 0.5) == -math.inf
    assert least_model([], 0.99, 0.001) == math.inf
