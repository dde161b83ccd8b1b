"""Fitting the mixing weights: a finding that is right gains weight, one that misleads loses it, and the model stays."""

from __future__ import annotations

import math

import pytest

from server.index.weights import ORDER, Evidence, features
from tests.bench.fit_mixing import N_FEATURES, Step, fitted, loss

SURE = features(Evidence(n_bytes=40, n_places=2, n_tokens=1, top_share=1.0, top_logprob=-3.0, model_max=0.3))
VAGUE = features(Evidence(n_bytes=2, n_places=500, n_tokens=20, top_share=0.2, top_logprob=-3.0, model_max=0.3))


def step(inputs: tuple[float, ...], share: float, place: int = len(ORDER) - 1) -> Step:
    rows = tuple(inputs if number == place else () for number in range(len(ORDER)))
    shares = tuple(share if number == place else 0.0 for number in range(len(ORDER)))
    return Step("package", math.log(0.1), rows, shares)


def test_there_is_a_weight_for_each_feature():
    assert len(SURE) == N_FEATURES


def test_what_is_right_gains_weight_and_what_misleads_loses_it():
    steps = [step(SURE, 1.0)] * 30 + [step(VAGUE, 0.0)] * 30
    weights = fitted(steps)
    assert loss([step(SURE, 1.0)], weights) < 0.5 < math.log(10)
    assert loss([step(VAGUE, 0.0)], weights) == pytest.approx(math.log(10), abs=0.2)


def test_where_nothing_is_found_the_model_is_what_it_was():
    nothing = Step("package", math.log(0.1), ((),) * len(ORDER), (0.0,) * len(ORDER))
    assert loss([nothing], [[3.0] * N_FEATURES] * len(ORDER)) == pytest.approx(math.log(10))
