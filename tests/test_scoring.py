import numpy as np
import pytest

from finetune import scoring
from finetune.scoring import Changes, changes, interval, score, widening
from tests.bench.quality import scores


@pytest.mark.parametrize(
    ("answer", "target"),
    [("", "abc"), ("abc ", "abc"), ("abd", "abc"), ("x", ""), ("", ""), ("kitten", "sitting"), ("äö", "äöü")],
)
def test_a_score_is_the_one_that_the_quality_bench_gives(answer, target):
    ours, theirs = score(answer, target), scores.score(answer, target)
    assert (ours.exact, ours.n_saved, ours.n_target) == (theirs.exact, theirs.n_saved, theirs.n_target)
    assert ours.similarity == pytest.approx(theirs.similarity)


def test_the_interval_is_the_one_of_the_bench_for_one_repository_widened_for_four_files():
    values, files = [0.0, 1.0, 1.0, 0.5, 0.2], ["r/a", "r/a", "r/b", "r/c", "r/d"]
    ours, theirs = interval(values, files), scores.interval(values, files)
    assert ours.mean == pytest.approx(theirs.mean)
    assert ours.low - ours.mean == pytest.approx(widening(4) * (theirs.low - theirs.mean))
    assert ours.high - ours.mean == pytest.approx(widening(4) * (theirs.high - theirs.mean))


@pytest.mark.parametrize("n", [2, 4])
def test_what_makes_no_difference_is_seldom_surely_better(n, monkeypatch):
    def share_of_wins() -> float:
        rng = np.random.default_rng(n)
        files = [str(number) for number in range(n)]
        found = [interval(rng.normal(0, 0.1, n), files, rng.lognormal(8, 1, n)) for _ in range(1_000)]
        return sum(each.high < 0 for each in found) / len(found)

    assert share_of_wins() < 0.065
    monkeypatch.setattr(scoring, "widening", lambda _: 1.0)
    assert share_of_wins() > 0.09


@pytest.mark.parametrize(("n", "student"), [(2, 12.7062), (11, 2.2281), (12, 2.2010), (31, 2.0423), (121, 1.9799)])
def test_intervals_are_as_wide_as_students(n, student):
    assert widening(n) == pytest.approx((n / (n - 1)) ** 0.5 * student / 1.959964, rel=1e-3)


def test_one_file_tells_nothing_of_others_and_no_values_nothing_at_all():
    assert interval([], []) is None
    assert interval([-1.0, -2.0], ["a", "a"]).high == float("inf")


def test_one_way_against_another_is_compared_point_by_point():
    answers = {"a": ("total(x)", "wrong"), "b": ("tot", "total(x)")}  # each against total(x) twice
    ours, theirs = ([score(answer, "total(x)") for answer in answers[way]] for way in ("a", "b"))
    found = changes(ours, theirs, ["one.py", "two.py"])
    assert found.exact is not None and found.exact.mean == 0 and found.exact.low < 0 < found.exact.high
    assert found.saved is not None and found.saved.mean == pytest.approx((8 + 0 - 3 - 8) / 16)
    expected = (sum(each.similarity for each in ours) - sum(each.similarity for each in theirs)) / 2
    assert found.similarity is not None and found.similarity.mean == pytest.approx(expected)
    assert changes([], [], []) == Changes(None, None, None)


def test_characters_saved_are_weighed_by_how_many_there_were():
    ours = [score("a" * 90, "a" * 90), score("", "b" * 10)]
    theirs = [score("", "a" * 90), score("b" * 10, "b" * 10)]
    found = changes(ours, theirs, ["one.py", "two.py"])
    assert found.saved is not None and found.saved.mean == pytest.approx(0.8)
