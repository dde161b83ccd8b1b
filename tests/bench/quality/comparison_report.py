"""This run above another, as tables and as rows for the terminal."""

from __future__ import annotations

from tests.bench.page import Section, Table
from tests.bench.quality.comparison import ALL, Comparison, Difference, SentenceDifference
from tests.bench.quality.shown import KIND_NAMES, brackets, mean, shown, value
from tests.bench.table import Row

PART = "quality"
_N_NAMED = 20  # cases that a table names one by one


def comparison_section(comparison: Comparison) -> Section:
    """This run above the other."""
    headers = ("repository", "kind", "cases in both", "exact match", "in the other run")
    headers += ("copied from file", "copied from repository", "exact match, this above the other")
    headers += ("edit similarity, this above the other", "exact match above repository copy", "other answers")
    cells = [_difference_cells(each) for each in comparison.differences]
    named = comparison.other_answers[:_N_NAMED]
    notes = [f"{comparison.n_only_here} cases are only in this run, {comparison.n_only_there} only in the other."]
    if named:
        notes.append(f"Another answer, the first {len(named)}: {', '.join(named)}.")
    tables = [Table(headers, cells, notes, n_labels=2)]
    if comparison.explanations:
        explained = ("repository", "functions in both", "chrF", "in the other run", "this above the other")
        tables.append(Table(explained, [_explained_cells(each) for each in comparison.explanations]))
    text = "Paired, in percentage points. In brackets 95 % intervals that resample whole files."
    return Section("Against another run", tables, text)


def comparison_rows(comparison: Comparison) -> list[Row]:
    """This run above the other for the terminal: all line cases, then those of each repository."""
    note = f"{comparison.n_only_here} cases only here, {comparison.n_only_there} only there"
    rows = [Row(PART, "other answers than in the other run", len(comparison.other_answers), "cases", note=note)]
    for each in comparison.of_kind(ALL):
        what = f"exact match above the other run{_where(each.repository)}"
        note = f"{brackets(each.exact)}, of {each.n_cases} cases in both: {mean(each.here)} here, "
        note += f"{mean(each.there)} there; above repository copy {shown(each.above_copy)}"
        rows.append(Row(PART, what, value(each.exact), "points", note=note))
    for found in comparison.explanations:
        what = f"explanations: chrF above the other run{_where(found.repository)}"
        note = f"{brackets(found.chrf)}, of {found.n_functions} functions in both"
        rows.append(Row(PART, what, value(found.chrf), "points", note=note))
    return rows


def _where(repository: str) -> str:
    return "" if repository == ALL else f", {repository}"


def _difference_cells(each: Difference) -> tuple[str, ...]:
    rates = (each.here, each.there, each.copies["file"], each.copies["repository"])
    return (
        each.repository,
        KIND_NAMES[each.kind],
        str(each.n_cases),
        *(mean(rate) for rate in rates),
        shown(each.exact),
        shown(each.similarity),
        shown(each.above_copy),
        str(each.n_other_answers),
    )


def _explained_cells(each: SentenceDifference) -> tuple[str, ...]:
    rates = (mean(rate) for rate in (each.here, each.there))
    return each.repository, str(each.n_functions), *rates, shown(each.chrf)
