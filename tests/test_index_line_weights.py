"""How likely a line ends as elsewhere: more with every reason to believe it, and never certain."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.index.line_weights import KINDS, WEIGHTS, Agreement, LineEvidence, features, probabilities

SHARE = st.floats(0.0, 1.0)
COUNT = st.integers(0, 500)
AGREEMENT = st.builds(Agreement, st.integers(1, 256), st.floats(0.01, 1.0), st.integers(1, 144))
EVIDENCE = st.builds(
    LineEvidence,
    agreements=st.dictionaries(st.sampled_from(KINDS), AGREEMENT, min_size=1),
    longest=st.integers(1, 256),
    n_typed=st.integers(0, 200),
    n_below=COUNT,
    is_same_below=st.booleans(),
    words_above=SHARE,
    words_below=SHARE,
    n_bytes=st.integers(1, 240),
    distance=st.integers(0, 80_000),
    n_unknown=st.integers(0, 40),
    n_words=st.integers(40, 80),
    n_same_lines=COUNT,
    closes_too_much=st.booleans(),
    leaves_open=st.booleans(),
    folder=SHARE,
    n_files=st.integers(0, 144),
    repeats_word=st.booleans(),
    begins_blank=st.booleans(),
    n_begun=st.integers(0, 60),
)
USUAL = LineEvidence(
    agreements={"repository": Agreement(20, 0.5, 3)},
    longest=20,
    n_typed=8,
    n_below=0,
    is_same_below=False,
    words_above=0.1,
    words_below=0.1,
    n_bytes=12,
    distance=0,
    n_unknown=0,
    n_words=2,
    n_same_lines=0,
    closes_too_much=False,
    leaves_open=False,
    folder=0.5,
    n_files=2,
    repeats_word=False,
    begins_blank=False,
    n_begun=0,
)


@given(st.lists(EVIDENCE, max_size=12))
def test_the_ends_and_none_of_them_share_certainty(found: list[LineEvidence]) -> None:
    shares = probabilities(found)
    assert len(shares) == len(found)
    assert all(0.0 < share <= 1.0 for share in shares)
    assert sum(shares) <= 1.0 + 1e-6


@given(EVIDENCE)
def test_the_inputs_are_as_many_as_the_weights_and_small(evidence: LineEvidence) -> None:
    values = features(evidence)
    assert len(values) == len(WEIGHTS)
    assert all(math.isfinite(value) and abs(value) <= 25.0 for value in values)


@pytest.mark.parametrize(
    "better",
    [
        replace(USUAL, agreements={"repository": Agreement(60, 1.0, 3)}, longest=60),
        replace(USUAL, agreements={"repository": Agreement(20, 1.0, 3)}),
        replace(USUAL, n_below=60, is_same_below=True),
        replace(USUAL, words_above=0.6),
        replace(USUAL, words_below=0.6),
        replace(USUAL, n_files=6),
    ],
)
def test_more_that_speaks_for_an_end_makes_it_likelier(better: LineEvidence) -> None:
    assert probabilities([better]) > probabilities([USUAL])


@pytest.mark.parametrize("worse", [replace(USUAL, n_unknown=2), replace(USUAL, closes_too_much=True)])
def test_what_speaks_against_an_end_makes_it_less_likely(worse: LineEvidence) -> None:
    assert probabilities([worse]) < probabilities([USUAL])


def test_a_rival_takes_its_share() -> None:
    alone, (beside, rival) = probabilities([USUAL]), probabilities([USUAL, USUAL])
    assert beside == rival < alone[0]
