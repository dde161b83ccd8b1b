from types import SimpleNamespace

import pytest

from finetune.gate import decide
from finetune.scoring import Interval

GOOD = {
    "bits_change": Interval(-0.1, -0.2, -0.05),
    "exact_interval": Interval(0.0, -0.01, 0.01),
    "exact_loss_chance": 1.0,
    "n_points": 40,
    "n_drawn": 360,
    "general_before": 1.0,
    "general_after": 1.02,
}


def test_what_is_better_everywhere_is_published():
    assert decide(SimpleNamespace(**GOOD), []).publish


def test_a_repository_with_few_lines_is_judged_by_all_of_them():
    assert decide(SimpleNamespace(**{**GOOD, "n_points": 12, "n_drawn": 12}), []).publish


@pytest.mark.parametrize("exact", [Interval(-0.004, -0.02, 0.01), Interval(-0.023, -0.055, 0.0)])
def test_some_lines_fewer_by_chance_are_no_reason(exact):
    assert decide(SimpleNamespace(**{**GOOD, "exact_interval": exact, "exact_loss_chance": 0.25}), []).publish


@pytest.mark.parametrize(
    "bad",
    [
        {"bits_change": None},
        {"bits_change": Interval(-0.1, -0.2, 0.0)},
        {"bits_change": Interval(-0.1, -float("inf"), float("inf"))},
        {"bits_change": Interval(float("nan"), float("nan"), float("nan"))},
        {"exact_interval": None},
        {"exact_interval": Interval(-0.011, -0.03, 0.01), "exact_loss_chance": 0.06},
        {"exact_interval": Interval(-0.011, -0.03, 0.01), "exact_loss_chance": None},
        {"exact_interval": Interval(float("nan"), float("nan"), float("nan"))},
        {"n_points": 39},
        {"n_points": 19, "n_drawn": 20},
        {"general_after": 1.021},
        {"general_before": 0.0},
        {"general_after": float("nan")},
    ],
)
def test_each_fault_alone_refuses_with_one_sentence(bad):
    decision = decide(SimpleNamespace(**{**GOOD, **bad}), [])
    assert not decision.publish and len(decision.reasons) == 1 and decision.reasons[0].endswith(".")


def test_a_secret_that_comes_back_refuses():
    assert not decide(SimpleNamespace(**GOOD), [object()]).publish
