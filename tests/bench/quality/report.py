"""What a run found as tables, plots, rows for the terminal and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.bench.page import Plot, Report, Section, Table
from tests.bench.plots import Estimate, bars, curves, distribution
from tests.bench.quality.comparison import Comparison, Difference
from tests.bench.quality.explaining import SCORES, WRITERS, Explained
from tests.bench.quality.results import (
    AtThreshold,
    Figures,
    Result,
    by_kind,
    figures,
    highest_threshold,
    sweep,
)
from tests.bench.quality.scores import Interval, interval
from tests.bench.table import Row, percentile

PART = "quality"
_N_NAMED = 20  # cases that a table names one by one
_KIND_NAMES = {"next_line": "next line", "mid_line": "mid-line", "api_line": "API line", "all": "all"}
_WRITER_NAMES = {"server": "server", "name": "name spelled out", "similar": "most similar function's docstring"}
_MEASURES = {"chrf": "chrF", "bleu": "BLEU-4"}

Problems = Mapping[str, Mapping[str, int]]


def report(
    results: Sequence[Result],
    explained: Sequence[Explained],
    problems: Problems,
    comparison: Comparison | None,
    *,
    tuning: bool,
) -> Report:
    """All that is to be said about a run."""
    in_all = {kind: figures(of_kind) for kind, of_kind in by_kind(results).items()}
    thresholds = sweep(results)
    sections = [lines_section(results, in_all), sweep_section(thresholds, results)]
    if explained:
        sections.append(explanations_section(explained))
    if comparison is not None:
        sections.append(comparison_section(comparison))
    if problems:
        sections.insert(0, problems_section(problems))
    rows = [*line_rows(in_all), *explanation_rows(explained)]
    if tuning:
        what = "highest minConfidence that loses at most 5 % of the exact matches"
        rows.append(Row(PART, what, highest_threshold(results)))
    if comparison is not None:
        note = f"{comparison.n_only_here} cases only here, {comparison.n_only_there} only there"
        rows.append(Row(PART, "other answers than in the other run", len(comparison.other_answers), "cases", note=note))
    rows += problem_rows(problems)
    details = {
        "cases": [each.as_json() for each in results],
        "explanations": [_explanation(each) for each in explained],
        "problems": {repository: dict(happened) for repository, happened in problems.items()},
    }
    return Report(rows, sections, details)


def lines_section(results: Sequence[Result], in_all: Mapping[str, Figures]) -> Section:
    """Exact matches and what goes with them, in all and by repository."""
    headers = ("kind", "cases", "exact match", "edit similarity", "saved characters", "offered")
    headers += ("copied from file", "copied from repository", "above repository copy", "p50", "p95")
    notes = (
        "Exact match, saved characters (right before the first mistake, of all there were), offered and copied: %. "
        "Edit similarity: 100 for the same text. In brackets 95 % intervals that resample whole files.",
    )
    total = Table(headers, [_line_cells(_KIND_NAMES[kind], found) for kind, found in in_all.items()], notes)
    by_repository = [
        (repository, *_line_cells(_KIND_NAMES[kind], figures(of_kind)))
        for repository in dict.fromkeys(each.case.repository for each in results)
        for kind, of_kind in by_kind([each for each in results if each.case.repository == repository]).items()
    ]
    exact = bars(
        [_KIND_NAMES[kind] for kind in in_all],
        {
            "server": [_estimate(found.exact["server"]) for found in in_all.values()],
            "copied from file": [_estimate(found.exact["file"]) for found in in_all.values()],
            "copied from repository": [_estimate(found.exact["repository"]) for found in in_all.values()],
        },
        axis="exact match, % of the cases",
        caption="Exact matches by kind of cursor, with 95 % intervals.",
    )
    blocks: list[Table | Plot] = [total, Table(("repository", *headers), by_repository, n_labels=2), exact]
    latencies = {
        _KIND_NAMES[kind]: [each.answer.milliseconds for each in of_kind if each.answer.milliseconds is not None]
        for kind, of_kind in by_kind(results).items()
        if kind != "all"
    }
    if any(latencies.values()):
        caption = "How long an answer takes, from the request to the answer, without a debounce."
        blocks.append(distribution(latencies, x_axis="milliseconds", caption=caption))
    return Section("Lines", blocks, "The rest of a line, in held-out files of repositories that no model has seen.")


def sweep_section(thresholds: Sequence[AtThreshold], results: Sequence[Result]) -> Section:
    """What withholding does."""
    headers = ("minConfidence", "shown", "exact of those shown", "exact matches kept")
    cells = [
        (f"{each.threshold:.2f}", _percent(each.shown), _percent(each.exact_of_shown), _percent(each.exact_kept))
        for each in thresholds
    ]
    series = {
        "shown": [(each.threshold, each.shown) for each in thresholds if each.shown is not None],
        "exact of those shown": [
            (each.threshold, each.exact_of_shown) for each in thresholds if each.exact_of_shown is not None
        ],
        "exact matches kept": [(each.threshold, each.exact_kept) for each in thresholds if each.exact_kept is not None],
    }
    caption = "What is shown, and how much of it is right, by the confidence below which nothing is shown."
    plot = curves(series, x_axis="minConfidence", y_axis="%", caption=caption)
    return Section("Withholding", [Table(headers, cells), plot], f"All {len(results)} cases together; shares in %.")


def explanations_section(explained: Sequence[Explained]) -> Section:
    """The server's sentences beside those that need no model."""
    headers = ("repository", "functions", *(f"{_MEASURES[m]} {_WRITER_NAMES[w]}" for m in SCORES for w in WRITERS))
    repositories = list(dict.fromkeys(each.function.repository for each in explained))
    groups = {name: [each for each in explained if each.function.repository == name] for name in repositories}
    groups["all"] = list(explained)
    cells = [
        (name, str(len(group)), *(_shown(_mean(group, who, measure)) for measure in SCORES for who in WRITERS))
        for name, group in groups.items()
    ]
    files = [each.function.file for each in explained]
    notes = ["100 for the docstring's own words. In brackets 95 % intervals that resample whole files."]
    for measure in SCORES:
        for floor in WRITERS[1:]:
            above = [each.score("server", measure) - each.score(floor, measure) for each in explained]
            found = interval(above, files)
            notes.append(
                f"{_MEASURES[measure]} above {_WRITER_NAMES[floor]}: {_shown(found.times(100) if found else None)}."
            )
    text = "A sentence on a function of a held-out file, against the first sentence of its docstring."
    return Section("Explanations", [Table(headers, cells, notes)], text)


def comparison_section(comparison: Comparison) -> Section:
    """This run above the other."""
    headers = ("kind", "cases in both", "exact match, this above the other", "edit similarity", "other answers")
    cells = [_difference_cells(each) for each in comparison.differences]
    named = comparison.other_answers[:_N_NAMED]
    notes = [f"{comparison.n_only_here} cases are only in this run, {comparison.n_only_there} only in the other."]
    if named:
        notes.append(f"Another answer, the first {len(named)}: {', '.join(named)}.")
    return Section("Against another run", [Table(headers, cells, notes)], "Paired, in percentage points.")


def problems_section(problems: Problems) -> Section:
    """What went wrong; the answers are scored as empty."""
    cells = [(name, what, str(n)) for name, happened in problems.items() for what, n in happened.items()]
    return Section("Failures", [Table(("repository", "what happened", "times"), cells, n_labels=2)])


def line_rows(in_all: Mapping[str, Figures]) -> list[Row]:
    """The figures on lines for the terminal."""
    rows = []
    for kind, found in in_all.items():
        exact, above = found.exact["server"], found.over_repository
        copies = ", ".join(
            f"copied from {who} {_shown(found.exact[who], brackets=False)}" for who in ("file", "repository")
        )
        note = f"of {found.n_cases}, {_brackets(exact)}; {copies}; above repository copy {_shown(above)}"
        rows.append(Row(PART, f"{_KIND_NAMES[kind]}: exact match", _value(exact), "%", note=note))
        rows.append(Row(PART, "  edit similarity", _value(found.similarity), "%"))
        rows.append(Row(PART, "  saved characters", _value(found.saved), "%"))
        rows.append(Row(PART, "  offered", found.offered, "%"))
    times = in_all["all"]
    rows.append(Row(PART, "an answer, p50", times.p50_ms, "ms", is_timing=True))
    rows.append(Row(PART, "an answer, p95", times.p95_ms, "ms", is_timing=True))
    return rows


def explanation_rows(explained: Sequence[Explained]) -> list[Row]:
    """The figures on explanations for the terminal."""
    rows = []
    for measure in SCORES if explained else ():
        floors = "; ".join(f"{_WRITER_NAMES[who]} {_shown(_mean(explained, who, measure))}" for who in WRITERS[1:])
        mean = _mean(explained, "server", measure)
        note = f"of {len(explained)} functions, {_brackets(mean)}; {floors}"
        rows.append(Row(PART, f"explanations: {_MEASURES[measure]}", _value(mean), "%", note=note))
    times = [each.milliseconds for each in explained if each.milliseconds is not None]
    if times:
        rows.append(Row(PART, "an explanation, p50", percentile(times, 50), "ms", is_timing=True))
        rows.append(Row(PART, "an explanation, p95", percentile(times, 95), "ms", is_timing=True))
    return rows


def problem_rows(problems: Problems) -> list[Row]:
    """One row for each thing that went wrong; each breaks its bound."""
    return [
        Row(PART, f"failures in {name}", n, "times", at_most=0, note=what)
        for name, happened in problems.items()
        for what, n in happened.items()
    ]


def _line_cells(name: str, found: Figures) -> tuple[str, ...]:
    return (
        name,
        str(found.n_cases),
        _shown(found.exact["server"]),
        _shown(found.similarity, brackets=False),
        _shown(found.saved, brackets=False),
        _percent(found.offered),
        _shown(found.exact["file"], brackets=False),
        _shown(found.exact["repository"], brackets=False),
        _shown(found.over_repository),
        _milliseconds(found.p50_ms),
        _milliseconds(found.p95_ms),
    )


def _difference_cells(each: Difference) -> tuple[str, ...]:
    kind = _KIND_NAMES[each.kind]
    return kind, str(each.n_cases), _shown(each.exact), _shown(each.similarity), str(each.n_other_answers)


def _mean(explained: Sequence[Explained], who: str, measure: str) -> Interval | None:
    files = [each.function.file for each in explained]
    found = interval([each.score(who, measure) for each in explained], files)
    return None if found is None else found.times(100)


def _explanation(each: Explained) -> dict[str, object]:
    function = each.function
    told = {"id": function.id, "file": function.file, "name": function.name, "expected": function.expected}
    return {**told, "sentences": each.sentences, "milliseconds": each.milliseconds, "problem": each.problem}


def _estimate(found: Interval | None) -> Estimate | None:
    return None if found is None else Estimate(found.mean, found.low, found.high)


def _value(found: Interval | None) -> float | None:
    return None if found is None else found.mean


def _shown(found: Interval | None, *, brackets: bool = True) -> str:
    if found is None:
        return "-"
    return f"{found.mean:.1f} {_brackets(found)}" if brackets else f"{found.mean:.1f}"


def _brackets(found: Interval | None) -> str:
    return "-" if found is None else f"[{found.low:.1f}, {found.high:.1f}]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
