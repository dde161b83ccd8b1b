"""What a run found as tables, plots, rows for the terminal and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.page import Plot, Report, Section, Table
from tests.bench.plots import Estimate, bars, curves, distribution
from tests.bench.quality.comparison import Comparison
from tests.bench.quality.comparison_report import comparison_rows, comparison_section
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
from tests.bench.quality.shown import KIND_NAMES, brackets, mean, percent, shown, value
from tests.bench.table import Row, percentile

PART = "quality"
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
    adapters: Mapping[str, Path | None] | None = None,
) -> Report:
    """All that is to be said about a run. `adapters` by repository, where adapters are measured."""
    in_all = {kind: figures(of_kind) for kind, of_kind in by_kind(results).items()}
    thresholds = sweep(results)
    sections = [lines_section(results, in_all), sweep_section(thresholds, results)]
    if explained:
        sections.append(explanations_section(explained))
    if comparison is not None:
        sections.append(comparison_section(comparison))
    if adapters:
        sections.insert(0, adapters_section(adapters))
    if problems:
        sections.insert(0, problems_section(problems))
    rows = [*line_rows(in_all), *explanation_rows(explained)]
    if tuning:
        what = "highest minConfidence that loses at most 5 % of the exact matches"
        rows.append(Row(PART, what, highest_threshold(results)))
    if adapters:
        served = [name for name, folder in adapters.items() if folder is not None]
        note = f"{', '.join(served) or 'none'}; the base model alone in the others"
        rows.append(Row(PART, "repositories with an adapter", len(served), note=f"of {len(adapters)}: {note}"))
    if comparison is not None:
        rows += comparison_rows(comparison)
    rows += problem_rows(problems)
    details = {
        "cases": [each.as_json() for each in results],
        "explanations": [explanation(each) for each in explained],
        "problems": {repository: dict(happened) for repository, happened in problems.items()},
        "adapters": {name: str(folder or "off") for name, folder in (adapters or {}).items()},
        "comparison": None if comparison is None else comparison.as_json(),
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
    total = Table(headers, [_line_cells(KIND_NAMES[kind], found) for kind, found in in_all.items()], notes)
    by_repository = [
        (repository, *_line_cells(KIND_NAMES[kind], figures(of_kind)))
        for repository in dict.fromkeys(each.case.repository for each in results)
        for kind, of_kind in by_kind([each for each in results if each.case.repository == repository]).items()
    ]
    exact = bars(
        [KIND_NAMES[kind] for kind in in_all],
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
        KIND_NAMES[kind]: [each.answer.milliseconds for each in of_kind if each.answer.milliseconds is not None]
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
        (f"{each.threshold:.2f}", percent(each.shown), percent(each.exact_of_shown), percent(each.exact_kept))
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
        (name, str(len(group)), *(shown(_mean(group, who, measure)) for measure in SCORES for who in WRITERS))
        for name, group in groups.items()
    ]
    files = [each.function.file for each in explained]
    notes = ["100 for the docstring's own words. In brackets 95 % intervals that resample whole files."]
    for measure in SCORES:
        for floor in WRITERS[1:]:
            above = [each.score("server", measure) - each.score(floor, measure) for each in explained]
            found = interval(above, files)
            notes.append(
                f"{_MEASURES[measure]} above {_WRITER_NAMES[floor]}: {shown(found.times(100) if found else None)}."
            )
    text = "A sentence on a function of a held-out file, against the first sentence of its docstring."
    return Section("Explanations", [Table(headers, cells, notes)], text)


def adapters_section(adapters: Mapping[str, Path | None]) -> Section:
    """Which adapter each repository was answered with."""
    cells = [(name, str(folder) if folder else "none: the base model alone") for name, folder in adapters.items()]
    return Section("Adapters", [Table(("repository", "adapter"), cells, n_remarks=1)])


def problems_section(problems: Problems) -> Section:
    """What went wrong; the answers are scored as empty."""
    cells = [(name, what, str(n)) for name, happened in problems.items() for what, n in happened.items()]
    return Section("Failures", [Table(("repository", "what happened", "times"), cells, n_labels=2)])


def line_rows(in_all: Mapping[str, Figures]) -> list[Row]:
    """The figures on lines for the terminal."""
    rows = []
    for kind, found in in_all.items():
        exact, above = found.exact["server"], found.over_repository
        copies = ", ".join(f"copied from {who} {mean(found.exact[who])}" for who in ("file", "repository"))
        note = f"of {found.n_cases}, {brackets(exact)}; {copies}; above repository copy {shown(above)}"
        rows.append(Row(PART, f"{KIND_NAMES[kind]}: exact match", value(exact), "%", note=note))
        rows.append(Row(PART, "  edit similarity", value(found.similarity), "%"))
        rows.append(Row(PART, "  saved characters", value(found.saved), "%"))
        rows.append(Row(PART, "  offered", found.offered, "%"))
    times = in_all["all"]
    rows.append(Row(PART, "an answer, p50", times.p50_ms, "ms", is_timing=True))
    rows.append(Row(PART, "an answer, p95", times.p95_ms, "ms", is_timing=True))
    return rows


def explanation_rows(explained: Sequence[Explained]) -> list[Row]:
    """The figures on explanations for the terminal."""
    rows = []
    for measure in SCORES if explained else ():
        floors = "; ".join(f"{_WRITER_NAMES[who]} {shown(_mean(explained, who, measure))}" for who in WRITERS[1:])
        found = _mean(explained, "server", measure)
        note = f"of {len(explained)} functions, {brackets(found)}; {floors}"
        rows.append(Row(PART, f"explanations: {_MEASURES[measure]}", value(found), "%", note=note))
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
        shown(found.exact["server"]),
        mean(found.similarity),
        mean(found.saved),
        percent(found.offered),
        mean(found.exact["file"]),
        mean(found.exact["repository"]),
        shown(found.over_repository),
        _milliseconds(found.p50_ms),
        _milliseconds(found.p95_ms),
    )


def _mean(explained: Sequence[Explained], who: str, measure: str) -> Interval | None:
    files = [each.function.file for each in explained]
    found = interval([each.score(who, measure) for each in explained], files)
    return None if found is None else found.times(100)


def explanation(each: Explained) -> dict[str, object]:
    """All that another run can be compared with."""
    function = each.function
    told = {"id": function.id, "file": function.file, "name": function.name, "expected": function.expected}
    return {**told, "sentences": each.sentences, "milliseconds": each.milliseconds, "problem": each.problem}


def _estimate(found: Interval | None) -> Estimate | None:
    return None if found is None else Estimate(found.mean, found.low, found.high)


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
