"""Fitting how texts are ranked: what goes with right ones gains weight, and what is told is told of other packages."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.index.live import REPOSITORY, LiveIndex
from server.index.segment import Segment, SegmentFile
from server.ranking import WEIGHTS, Evidence, probabilities
from server.weighing import SURE
from tests.bench.fit_ranking import (
    INSIDE,
    PENALTY,
    Answer,
    Question,
    answered,
    calibration,
    first_line,
    fitted,
    question,
    shares_of,
    tell,
)
from tests.bench.quality.cases import Case
from tests.test_completion import writer


def asked(*found: Evidence, right: int | None = None, package: str = "a", kind: str = "next_line") -> Question:
    return Question(package, kind, found, right, None, is_index_right=right == 1, is_model_right=right == 0)


WRITTEN = Evidence(None, -2.0, True)
LIKELY, UNLIKELY = Evidence(0.5, -2.0, False), Evidence(0.05, -2.0, False)
EVIDENCE = st.builds(
    Evidence, index=st.none() | st.floats(0.0, 0.8), model=st.floats(-40.0, 0.0), is_written=st.booleans()
)
FOUND = st.lists(EVIDENCE, min_size=1, max_size=4)
OWN = np.array(WEIGHTS)


@given(FOUND, FOUND)
def test_texts_are_as_likely_as_a_server_finds_them(one: list[Evidence], other: list[Evidence]) -> None:
    _, shares = shares_of([asked(*one), asked(*other)], OWN)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    for row, found in zip(shares, (one, other), strict=True):
        assert row[1 : 1 + len(found)] == pytest.approx(probabilities(found))
        assert (row[1 + len(found) :] == 0).all()


def loss(questions: list[Question], weights: np.ndarray) -> float:
    """The mean of the negative logarithms of what was right, by what a server would say; and the penalty."""
    total = 0.0
    for each in questions:
        shares = shares_of([each], weights)[1][0]
        total -= math.log(shares[0 if each.right is None else 1 + each.right])
    return total / len(questions) + PENALTY * float((weights**2).sum())


@given(st.lists(st.tuples(FOUND, st.integers(0, 4)), min_size=1, max_size=12))
def test_no_other_weights_are_better(drawn: list[tuple[list[Evidence], int]]) -> None:
    questions = [asked(*found, right=right if right < len(found) else None) for found, right in drawn]
    weights = fitted(questions)
    least = loss(questions, weights)
    for other in (
        OWN,
        np.zeros(len(OWN)),
        *(weights + 0.01 * step for step in (*np.eye(len(OWN)), *-np.eye(len(OWN)))),
    ):
        assert least <= loss(questions, other) + 1e-9


def test_what_goes_with_right_texts_gains_weight() -> None:
    by_index = fitted([asked(WRITTEN, LIKELY, UNLIKELY, right=1)] * 30 + [asked(UNLIKELY, right=None)] * 10)
    assert by_index[1] > 0.2
    assert answered(asked(WRITTEN, LIKELY, right=1), by_index).is_right
    by_model = fitted([asked(Evidence(0.3, -1.0, False), Evidence(0.3, -9.0, False), right=0)] * 30)
    assert by_model[4] > 0.2 and by_model[1] == pytest.approx(by_model[0] * math.log(3 / 7), rel=1e-6)


def test_where_none_is_right_none_is_likely() -> None:
    weights = fitted([asked(WRITTEN, LIKELY, right=None)] * 30)
    assert answered(asked(WRITTEN, LIKELY), weights).probability < 0.2


def test_cursors_where_the_model_is_not_asked_are_not_fitted_on() -> None:
    sure = Question("a", "next_line", (), None, 0.9, is_index_right=True, is_model_right=False)
    nothing = Question("a", "next_line", (), None, None, is_index_right=False, is_model_right=False)
    some = [asked(WRITTEN, LIKELY, right=1)] * 3
    assert fitted([sure, *some, nothing]).tolist() == fitted(some).tolist()
    assert not fitted([sure, nothing]).any() and len(fitted([])) == len(WEIGHTS)
    assert answered(sure, OWN) == Answer(0.9, True)
    assert answered(nothing, OWN) == Answer(0.0, False)


def test_the_likeliest_text_is_the_answer() -> None:
    found = (Evidence(0.1, -9.0, False), Evidence(0.6, -0.5, True), Evidence(0.2, -3.0, False))
    for right in (None, 0, 1, 2):
        answer = answered(asked(*found, right=right), OWN)
        assert answer == Answer(pytest.approx(max(probabilities(found))), right == 1)


def test_what_was_said_is_held_against_what_was_right() -> None:
    answers = [Answer(0.0, False), Answer(0.5, True), Answer(0.41, False), Answer(0.8, True), Answer(1.0, True)]
    assert calibration(answers) == [
        (0.0, 0.05, 0.0, 0.0, 1),
        (0.4, 0.6, pytest.approx(0.455), 0.5, 2),
        (0.8, 1.0, pytest.approx(0.9), 1.0, 2),
    ]
    assert calibration([]) == []


def test_each_package_is_judged_by_the_weights_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    # In package b it is the other way round: what is learned there misleads in a, and the other way round.
    lines = Evidence(0.6, -2.0, False), Evidence(0.1, -2.0, False)
    questions = [asked(*lines, right=0, package="a")] * 8 + [asked(*lines, right=1, package="b", kind=INSIDE)] * 8
    tell(questions)
    printed = capsys.readouterr().out.splitlines()
    assert "next_line: 0.0, 0.0, 100.0 of 8" in printed and f"{INSIDE}: 0.0, 100.0, 0.0 of 8" in printed
    assert "a: 0.0, 0.0, 100.0 of 8" in printed and "all: 0.0, 50.0, 50.0 of 16" in printed
    row = printed[-1].removeprefix("WEIGHTS: tuple[float, ...] = (").removesuffix(")").split(", ")
    assert [float(weight) for weight in row] == pytest.approx(fitted(questions), abs=5e-4)


BEFORE = "def area(size):\n    total = "
CASE = Case("demo", "mid_line", "demo/a.py", "python", 3, BEFORE, "price", "\n")


def index_with(line: str) -> LiveIndex:
    index = LiveIndex()
    index.use({REPOSITORY: Segment.build([SegmentFile("demo/b.py", line.encode())])})
    return index


def test_a_question_has_all_that_a_server_would_rank() -> None:
    index = index_with("def area(size):\n    total = price\n\n\ndef area(size):\n    total = amount\n")
    found = question(CASE, CASE.kind, index, writer("total = price\n", doubt=6.0))
    assert (found.package, found.kind, found.sure) == ("demo", "mid_line", None) and found.is_model_right
    assert found.right is not None and len(found.found) == 2
    assert found.found[found.right].is_written and found.found[found.right].index is not None
    other = found.found[1 - found.right]
    assert not other.is_written and other.index is not None and other.model < -20.0  # read to its end
    wrong = question(replace(CASE, target="weight"), INSIDE, index, writer("total = price\n", doubt=6.0))
    assert (wrong.right, wrong.kind, wrong.is_model_right, wrong.is_index_right) == (None, INSIDE, False, False)
    alone = question(CASE, CASE.kind, LiveIndex(), writer("total = price\n"))
    assert alone.right == 0 and (alone.found[0].index, alone.found[0].is_written) == (None, True)


def test_where_a_line_is_nearly_sure_nothing_is_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_with("def area(size):\n    total = price\n")
    monkeypatch.setattr("tests.bench.fit_ranking.SURE", 0.01)
    found = question(CASE, CASE.kind, index, writer("total = weight\n"))
    assert found.sure is not None and found.sure < SURE and found.found == () and found.right is None
    assert found.is_index_right and not found.is_model_right


def test_only_the_line_at_the_cursor_counts() -> None:
    assert [first_line(text) for text in ("", "a", "a  \nb", "\nb")] == ["", "a", "a", ""]
