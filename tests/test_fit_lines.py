"""Fitting the weights of whole lines: what goes with right ends gains weight, and none may be right."""

from __future__ import annotations

from tests.bench.fit_lines import Question, answered, fitted, tell


def question(right: int | None, n_ends: int = 3, package: str = "a") -> Question:
    """Ends of which the right one has a high first input; the second input says nothing."""
    inputs = tuple((4.0 if number == right else 0.5 * number, float(number % 2)) for number in range(n_ends))
    return Question(package, inputs, tuple(number == right for number in range(n_ends)), False)


QUESTIONS = [*(question(number % 3) for number in range(30)), *(question(None) for _ in range(10)), question(None, 0)]


def test_what_goes_with_right_ends_gains_weight() -> None:
    constant, weights = fitted(QUESTIONS)
    assert weights[0] > 1 and abs(weights[1]) < weights[0]
    assert all(answered(each, constant, weights) for each in QUESTIONS[:30])
    assert not answered(QUESTIONS[-1], constant, weights)


def test_where_no_end_is_right_none_is_likely() -> None:
    constant, weights = fitted(QUESTIONS)
    highest = max(sum(w * x for w, x in zip(weights, row, strict=True)) for row in question(None).inputs)
    assert constant + highest < 0  # less likely than none


def test_each_package_is_judged_by_the_weights_of_the_others(capsys) -> None:
    tell([question(number % 3, package=package) for number in range(12) for package in ("a", "b")])
    printed = capsys.readouterr().out
    assert "a: 100.0 % right, copying 0.0 %" in printed and "WEIGHTS = (" in printed
