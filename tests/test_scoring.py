import pytest

from finetune.scoring import interval, score
from tests.bench.quality import scores


@pytest.mark.parametrize(
    ("answer", "target"),
    [("", "abc"), ("abc ", "abc"), ("abd", "abc"), ("x", ""), ("", ""), ("kitten", "sitting"), ("äö", "äöü")],
)
def test_a_score_is_the_one_that_the_quality_bench_gives(answer, target):
    ours, theirs = score(answer, target), scores.score(answer, target)
    assert (ours.exact, ours.n_saved, ours.n_target) == (theirs.exact, theirs.n_saved, theirs.n_target)
    assert ours.similarity == pytest.approx(theirs.similarity)


def test_the_interval_is_the_one_of_the_bench_for_one_repository():
    values, files = [0.0, 1.0, 1.0, 0.5, 0.2], ["r/a", "r/a", "r/b", "r/c", "r/d"]
    ours, theirs = interval(values, files), scores.interval(values, files)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((theirs.mean, theirs.low, theirs.high))


def test_one_file_tells_nothing_of_others_and_no_values_nothing_at_all():
    assert interval([], []) is None
    assert interval([-1.0, -2.0], ["a", "a"]).high == float("inf")
