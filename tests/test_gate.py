from types import SimpleNamespace

import pytest

from finetune.gate import decide
from finetune.scoring import Interval, interval

GOOD = {
    "bits_change": Interval(-0.1, -0.2, -0.05),
    "exact_interval": Interval(0.0, -0.01, 0.01),
    "n_points": 40,
    "n_drawn": 360,
    "general_before": 1.0,
    "general_after": 1.02,
}


def test_what_is_better_everywhere_is_published():
    assert decide(SimpleNamespace(**GOOD), []).publish


def test_a_repository_with_few_lines_is_judged_by_all_of_them():
    assert decide(SimpleNamespace(**{**GOOD, "n_points": 12, "n_drawn": 12}), []).publish


@pytest.mark.parametrize(
    "bad",
    [
        {"bits_change": None},
        {"bits_change": Interval(-0.1, -0.2, 0.0)},
        {"bits_change": Interval(-0.1, -float("inf"), float("inf"))},
        {"bits_change": Interval(float("nan"), float("nan"), float("nan"))},
        {"exact_interval": None},
        {"exact_interval": Interval(-0.025, -0.08, 0.03)},
        {"exact_interval": Interval(-0.005, -0.009, -0.001)},
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


@pytest.mark.parametrize(
    "n_lost, n_points, said",
    [(1, 327, "has 1 exact match fewer of 327 lines"), (4, 200, "has 4 exact matches fewer of 200 lines")],
)
def test_a_single_line_fewer_refuses_and_says_of_how_many(n_lost, n_points, said):
    values = [-1.0] * (n_lost + 2) + [1.0] * 2 + [0.0] * (n_points - n_lost - 4)
    found = interval(values, [f"{at % 7}.py" for at in range(n_points)])
    evaluation = {**GOOD, "exact_interval": found, "n_points": n_points}
    decision = decide(SimpleNamespace(**evaluation), [])
    assert not decision.publish and said in decision.reasons[0] and "`--report`" in decision.reasons[0]


def test_as_many_lines_won_as_lost_are_none_fewer():
    values = [-1.0] * 5 + [1.0] * 5 + [0.0] * 60
    found = interval(values, [f"{at % 7}.py" for at in range(len(values))])
    assert decide(SimpleNamespace(**{**GOOD, "exact_interval": found, "n_points": len(values)}), []).publish


def test_a_secret_that_comes_back_refuses():
    assert not decide(SimpleNamespace(**GOOD), [object()]).publish


def test_a_secret_that_nobody_asked_for_refuses():
    decision = decide(SimpleNamespace(**GOOD), [], n_unprompted=3)
    assert not decision.publish and "3 of the secrets" in decision.reasons[0] and "--resume" in decision.reasons[0]
