from types import SimpleNamespace

import pytest

from finetune.gate import decide
from finetune.scoring import Interval, chance_of_loss, interval

GOOD = {
    "bits_change": Interval(-0.1, -0.2, -0.05),
    "exact_interval": Interval(0.0, -0.01, 0.01),
    "exact_loss_chance": 1.0,
    "exact_loss_chance_by_line": 1.0,
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
        {"exact_interval": Interval(-0.011, -0.03, 0.01), "exact_loss_chance_by_line": 0.01},
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
    "n_lost, n_points, is_published", [(2, 40, True), (3, 40, False), (10, 200, True), (11, 200, False), (1, 8, True)]
)
def test_chance_excuses_one_line_of_twenty(n_lost, n_points, is_published):
    exact = Interval(-n_lost / n_points, -0.3, 0.1)
    evaluation = {**GOOD, "exact_interval": exact, "exact_loss_chance": 0.5, "n_points": n_points, "n_drawn": n_points}
    decision = decide(SimpleNamespace(**evaluation), [])
    assert decision.publish is is_published
    assert all(
        f"{-100 * exact.mean:.1f} points fewer" in reason and "more than 5 are too many" in reason
        for reason in decision.reasons
    )


@pytest.mark.parametrize(
    "by_file, by_line, high, why",
    [
        (0.06, 0.01, -0.01, "in 6 % of all cases, whole files taken together"),
        (0.25, 0.012, 0.01, "in 1.2 % of all cases, each line taken for itself"),
        (0.25, 0.25, -0.01, "the whole interval is below 0"),
        (None, 0.25, 0.01, "could not be counted"),
    ],
)
def test_a_refusal_for_lines_names_the_rule_that_refused(by_file, by_line, high, why):
    lost = {"exact_interval": Interval(-0.02, -0.03, high)}
    chances = {"exact_loss_chance": by_file, "exact_loss_chance_by_line": by_line}
    (reason,) = decide(SimpleNamespace(**{**GOOD, **lost, **chances}), []).reasons
    assert reason.endswith(f"{why}.")


def judged(lost: list[int], n_lines: int = 30) -> bool:
    """Whether an adapter is published that has so many lines fewer, or more, in each file."""
    values = [float(n > 0) - float(n < 0) if at < abs(n) else 0.0 for n in lost for at in range(n_lines)]
    files = [f"{number}.py" for number in range(len(lost)) for _ in range(n_lines)]
    found = {
        "exact_interval": interval(values, files),
        "exact_loss_chance": chance_of_loss(values, files),
        "exact_loss_chance_by_line": chance_of_loss(values, range(len(values))),
        "n_points": len(values),
    }
    return decide(SimpleNamespace(**{**GOOD, **found}), []).publish


@pytest.mark.parametrize(
    "lost", [[-10, 1, 1, 0], [-4, 1, 0, 0], [-1, -1, 0, 0], [-7, 3, 0, 0, 0], [2, 1, -1, 0], [-3, 0]]
)
def test_one_more_line_lost_never_publishes_what_was_refused(lost):
    for number in range(len(lost)):
        for _ in range(5):
            worse = [n - (at == number) for at, n in enumerate(lost)]
            assert judged(lost) or not judged(worse)
            lost = worse


def test_many_lines_of_one_file_are_a_loss_and_two_are_none():
    assert not judged([-10, 1, 1, 0]) and not judged([-10, 1, 1, -5])
    assert judged([-2, 0, 0, 0]) and judged([-1, -1, 0, 1])


def test_a_secret_that_comes_back_refuses():
    assert not decide(SimpleNamespace(**GOOD), [object()]).publish


def test_a_secret_that_nobody_asked_for_refuses():
    decision = decide(SimpleNamespace(**GOOD), [], n_unprompted=3)
    assert not decision.publish and "3 of the secrets" in decision.reasons[0] and "--resume" in decision.reasons[0]
