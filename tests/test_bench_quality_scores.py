"""What an answer is worth, what copying would answer, and how sure a mean is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.quality.asking import Answer
from tests.bench.quality.cases import Case
from tests.bench.quality.comparison import compare, run_in
from tests.bench.quality.comparison_report import comparison_rows, comparison_section
from tests.bench.quality.floors import Corpus, Text, copied, own_sources
from tests.bench.quality.results import Result, highest_threshold, result, sweep
from tests.bench.quality.scores import interval, score
from tests.bench.table import BenchError


@pytest.mark.parametrize("answer, target, exact, similarity, n_saved", [
    ("return x", "return x", 1, 1, 8),
    ("return x  ", "return x", 1, 1, 8),
    (" return x", "return x", 0, 8 / 9, 0),
    ("return y", "return x", 0, 7 / 8, 7),
    ("return", "return x", 0, 6 / 8, 6),
    ("return x + 1", "return x", 0, 8 / 12, 8),
    ("", "return x", 0, 0, 0),
])  # fmt: skip
def test_an_answer_is_scored(answer: str, target: str, exact: float, similarity: float, n_saved: int) -> None:
    found = score(answer, target)
    assert (found.exact, found.n_saved, found.n_target) == (exact, n_saved, len(target))
    assert found.similarity == pytest.approx(similarity)


@pytest.mark.parametrize("before, after, on_disk, from_file, from_repository", [
    ("total = add(1)\nother = add(", "\n", [], "1)", "1)"),
    ("x = 1\nother = add(", "\ntotal = add(2)\n", [], "2)", "2)"),
    # The longest match decides, not the nearest.
    ("y = mul(1)\nz = add(", "\n", ["y = add(2)\nz = add(3)\n"], "", "3)"),
    ("a = f(1)\na = f(2)\na = f(", "\n", [], "2)", "2)"),  # of equals the last
    ("a = f(1)\na = f(1)\na = f(2)\na = f(", "\n", [], "2)", "2)"),
    ("_f(1)\n_f(1)\n_f(2)\n-_f(", "\n", [], "1)", "1)"),  # the most frequent
    ("abc", "\n", ["abc\nabc  \n"], "", ""),  # nothing stands behind it
    ("xy", "\n", ["xyz\n"], "", ""),  # too short to mean anything
    ("", "", [], "", ""),
    ("nämé = ", "\n", ["nämé = wért\n"], "", "wért"),
])  # fmt: skip
def test_copying_takes_what_follows_the_longest_match(
    before: str, after: str, on_disk: list[str], from_file: str, from_repository: str
) -> None:
    own = own_sources(before, after)
    assert copied(before, own) == from_file
    assert copied(before, [*own, Corpus(on_disk)]) == from_repository


def test_a_suffix_array_finds_what_a_plain_search_finds() -> None:
    text = "aaa b\naab aa\nbaa\n" * 3
    for pattern in (b"a", b"aa", b"b", b"\nb", b"x", b"aab aa"):
        found = sorted(Corpus([text]).continuations(pattern))
        assert found == sorted(Text(text).continuations(pattern))


def test_no_match_reaches_from_one_file_into_the_next() -> None:
    assert copied("end\nstart = ", [Corpus(["end\n", "start = 1\n"])]) == "1"
    assert not list(Corpus(["end\n", "start = 1\n"]).continuations(b"end\nstart"))


def test_an_interval_of_equal_files_is_a_point() -> None:
    found = interval([1.0, 0.0, 1.0, 0.0], ["a/x", "a/x", "a/y", "a/y"])
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_an_interval_resamples_whole_files() -> None:
    # Two files, all right and all wrong: half of the resamples have one of each, a quarter each two of one.
    values, files = [1.0] * 50 + [0.0] * 50, ["a/x"] * 50 + ["a/y"] * 50
    found = interval(values, files)
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
    # The same cases each from a file of its own: the binomial's normal approximation, 1.96 * 0.05.
    alone = interval(values, [f"a/{at}" for at in range(100)])
    assert alone is not None
    assert alone.low == pytest.approx(0.402, abs=0.02) and alone.high == pytest.approx(0.598, abs=0.02)


def test_every_repository_keeps_its_number_of_files() -> None:
    found = interval([1.0, 0.0], ["a/x", "b/y"])
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_a_weighted_mean_is_that_of_all_characters() -> None:
    found = interval([1.0, 0.0], ["a/x", "b/y"], [30, 10])
    assert found is not None
    assert found.mean == 0.75
    assert interval([], []) is None


def made(target: str, answer: str, confidence: float, line: int = 1, repository: str = "demo") -> Result:
    case = Case(repository, "next_line", "demo/a.py", "python", line, "", target, "\n")
    offered = confidence if answer else None
    return result(case, Answer(answer, offered, 10.0, "offered"), {"file": "", "repository": target})


def test_withholding_trades_what_is_shown_for_what_is_right() -> None:
    results = [made("aa", "aa", 0.9), made("bb", "bb", 0.5), made("cc", "xx", 0.3), made("dd", "", 0.0)]
    at = {each.threshold: (each.shown, each.exact_of_shown, each.exact_kept) for each in sweep(results)}
    assert at[0.0] == (75, pytest.approx(200 / 3), 100)
    assert at[0.5] == (50, 100, 100)
    assert at[0.9] == (25, 100, 50)
    assert len(at) == 19


def test_the_highest_threshold_loses_at_most_a_twentieth() -> None:
    results = [made("aa", "aa", 0.10 + at / 100, at) for at in range(40)]
    assert highest_threshold(results) == 0.12  # two of forty are below it
    assert highest_threshold([made("aa", "bb", 0.9)]) is None


def test_two_runs_are_compared_case_by_case(tmp_path: Path) -> None:
    ours = [made("aa", "aa", 0.9, 1).as_json(), made("bb", "bb", 0.9, 2).as_json(), made("cc", "cc", 0.9, 3).as_json()]
    theirs = [made("aa", "xx", 0.9, 1).as_json(), made("bb", "bb", 0.9, 2).as_json(), made("dd", "", 0.9, 4).as_json()]
    found = compare(ours, theirs)
    in_all = found.of_kind("all")[0]
    assert (in_all.kind, in_all.n_cases, in_all.n_other_answers) == ("all", 2, 1)
    assert in_all.exact is not None and in_all.exact.mean == 50
    assert (found.n_only_here, found.n_only_there, found.agrees) == (1, 1, False)
    assert found.other_answers == ("demo/next_line/demo/a.py:1",)
    assert compare(ours, ours).agrees
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"details": {"quality": {"cases": ours}}}))
    assert (run_in(path).cases, run_in(path).explanations) == (ours, [])


def told(name: str, said: str, file: str = "demo/a.py") -> dict[str, object]:
    """An explanation as a run tells it."""
    return {
        "id": f"demo/explanation/{name}",
        "file": file,
        "expected": "add two numbers.",
        "sentences": {"server": said},
    }


def test_two_runs_are_compared_by_repository_and_kind_beside_the_copies() -> None:
    ours = [made("aa", "aa", 0.9, 1), made("bb", "bb", 0.9, 2), made("cc", "xx", 0.9, 3, repository="other")]
    theirs = [made("aa", "xx", 0.9, 1), made("bb", "bb", 0.9, 2), made("cc", "cc", 0.9, 3, repository="other")]
    found = compare([each.as_json() for each in ours], [each.as_json() for each in theirs])
    exact = {(each.repository, each.kind): each.exact and each.exact.mean for each in found.differences}
    assert exact["demo", "all"] == exact["demo", "next_line"] == 50
    assert exact["other", "all"] == -100 and exact["all", "all"] == 0 and exact["all", "api_line"] is None
    (demo,) = (each for each in found.of_kind("all") if each.repository == "demo")
    assert [demo.here and demo.here.mean, demo.there and demo.there.mean] == [100, 50]
    assert [each and each.mean for each in demo.copies.values()] == [0, 100]
    assert demo.above_copy is not None and demo.above_copy.mean == 0
    rows = {row.what: row for row in comparison_rows(found)}
    assert rows["exact match above the other run"].value == 0
    assert rows["exact match above the other run, demo"].value == 50
    assert (
        "[50.0, 50.0], of 2 cases in both: 100.0 here, 50.0 there" in rows["exact match above the other run, demo"].note
    )
    assert json.loads(json.dumps(found.as_json()))["differences"][0]["repository"] == "all"
    (table,) = comparison_section(found).blocks
    assert len(table.rows) == 3 * 4  # type: ignore[union-attr]


def test_sentences_of_two_runs_are_compared_function_by_function() -> None:
    ours = [told("1", "add two numbers."), told("2", "add two numbers."), told("3", "add", "demo/b.py")]
    theirs = [told("1", "add two numbers."), told("2", ""), told("4", "")]
    found = compare([], [], ours, theirs)
    in_all, demo = found.explanations
    assert (in_all.repository, demo.repository, demo.n_functions) == ("all", "demo", 2)
    assert demo.chrf is not None and demo.chrf.mean == 50
    rows = {row.what: row.value for row in comparison_rows(found)}
    assert rows["explanations: chrF above the other run"] == rows["explanations: chrF above the other run, demo"] == 50
    assert len(comparison_section(found).blocks) == 2


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"details": null}'])
def test_a_file_that_is_no_run_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(BenchError, match="run.json holds no run of quality"):
        run_in(path)
