"""How far a finding is believed: always a share, never all, and more where there is more to believe."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.index.weights import MAX_WEIGHT, ORDER, WEIGHTS, Evidence, features, weight

EVIDENCE = st.builds(
    Evidence,
    n_bytes=st.integers(1, 256),
    n_places=st.integers(1, 10**7),
    n_tokens=st.integers(1, 32),
    top_share=st.floats(0.01, 1.0),
    top_logprob=st.floats(max_value=0.0, allow_nan=False),
    model_max=st.floats(0.0, 1.0),
)
SURE = Evidence(n_bytes=40, n_places=3, n_tokens=1, top_share=1.0, top_logprob=-1.0, model_max=0.4)


@given(EVIDENCE, st.sampled_from(ORDER))
def test_a_weight_is_a_share_and_leaves_the_model_a_word(evidence: Evidence, key: tuple) -> None:
    assert 0.0 < weight(*key, evidence) <= MAX_WEIGHT < 1.0


@given(EVIDENCE)
def test_the_inputs_are_small_numbers_the_constant_first(evidence: Evidence) -> None:
    values = features(evidence)
    assert values[0] == 1.0
    assert all(math.isfinite(value) and abs(value) <= 12.0 for value in values)


def test_every_kind_and_level_has_its_row_and_its_turn_once() -> None:
    assert sorted(ORDER) == sorted(WEIGHTS)
    assert {len(row) for row in WEIGHTS.values()} == {len(features(SURE))}


@pytest.mark.parametrize("level", ["longest", "shorter"])
def test_longer_matches_speak_after_the_shorter_ones_of_their_kind(level: str) -> None:
    for kind in ("dependencies", "file", "repository"):
        assert ORDER.index((kind, "longest")) > ORDER.index((kind, "shorter"))
    assert ORDER.index(("repository", level)) > ORDER.index(("dependencies", level)), "of two alike it overrules"


@pytest.mark.parametrize("kind", ["repository", "file"])
def test_places_that_agree_are_believed_more_than_places_that_differ(kind: str) -> None:
    split = replace(SURE, n_tokens=3, top_share=0.34)
    assert weight(kind, "longest", SURE) > weight(kind, "longest", split)


@pytest.mark.parametrize("kind", ["repository", "file"])
def test_a_long_match_is_believed_more_than_a_short_one(kind: str) -> None:
    assert weight(kind, "longest", SURE) > weight(kind, "longest", replace(SURE, n_bytes=2))


def test_what_is_very_common_counts_no_more_than_what_is_common() -> None:
    common, very = (replace(SURE, n_places=n_places) for n_places in (64, 10**6))
    assert weight("repository", "longest", very) == weight("repository", "longest", common)
    impossible = replace(SURE, top_logprob=-math.inf)
    assert weight("file", "longest", impossible) == weight("file", "longest", replace(SURE, top_logprob=-12.0))
