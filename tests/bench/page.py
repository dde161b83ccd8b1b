"""One self-contained HTML page, and Markdown, of what a measurement found: text, tables and plots.

Nothing on the page is loaded from elsewhere, and the same findings give the same bytes. `plots` draws the plots. Knows
nothing of what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tests.bench.table import Row, number


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text. The first `n_labels` columns name the row, the last `n_remarks` comment on it.

    What lies between are figures.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()  # one paragraph each, below the table
    n_labels: int = 1
    n_remarks: int = 0

    def is_figure(self, column: int) -> bool:
        return self.n_labels <= column < len(self.headers) - self.n_remarks


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture with what it says."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """Part of a page: what is said first, then tables and plots in the order given."""

    title: str
    blocks: Sequence[Table | Plot]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What one part of the measurements found."""

    rows: Sequence[Row]  # for the terminal and for the floors and ceilings
    sections: Sequence[Section] = ()  # for the page
    details: Mapping[str, Any] = field(default_factory=dict)  # for the JSON file, where the rows do not say all


def page(title: str, machine: str, sections: Sequence[Section]) -> str:
    """The page as HTML. `machine`: what it was measured on, and when."""
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="machine">{escape(machine)}</p>']
    if len(sections) > 2:
        links = (f'<a href="#s{at}">{escape(section.title)}</a>' for at, section in enumerate(sections))
        parts.append(f"<nav>{' · '.join(links)}</nav>")
    parts += [_section(at, section) for at, section in enumerate(sections)]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def markdown(title: str, machine: str, sections: Sequence[Section]) -> str:
    """The page without its plots, as Markdown."""
    parts = [f"## {title}", machine]
    for section in sections:
        parts += [f"### {section.title}", section.text]
        for block in section.blocks:
            if isinstance(block, Table):
                parts += [markdown_table(block), *block.notes]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def markdown_table(table: Table) -> str:
    """A Markdown table, padded so that it reads well as text too: columns of figures are flush right."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (table.headers, *table.rows)]
    columns = range(len(table.headers))
    widths = [max(3, *(len(row[column]) for row in cells)) for column in columns]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(widths[column]) if table.is_figure(column) else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (widths[column] - 1) + ("-:"[table.is_figure(column)]) for column in columns]
    return "\n".join([line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])]) + "\n"


def table_of(rows: Sequence[Row]) -> Table:
    """The figures of one part as a table, a mark behind each that breaks its bound."""
    cells = [
        (
            row.what,
            "-" if row.value is None else f"{number(row.value)} {row.unit}".strip(),
            f"{row.bound} ✗" if row.is_missed else row.bound,
            row.note,
        )
        for row in rows
    ]
    return Table(("what", "measured", "bound", "note"), cells, n_remarks=1)


def _section(at: int, section: Section) -> str:
    parts = [f'<section id="s{at}">', f"<h2>{escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    parts += [_table(block) if isinstance(block, Table) else _plot(block) for block in section.blocks]
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        kinds = (' class="figure"' if table.is_figure(column) else "" for column in range(len(cells)))
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    notes = "".join(f'\n<p class="note">{escape(note)}</p>' for note in table.notes)
    head = f"<thead><tr>{row(table.headers, 'th')}</tr></thead>"
    return f'<div class="wide"><table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>{notes}'


def _plot(plot: Plot) -> str:
    return f"<figure>\n{plot.svg}\n<figcaption>{escape(plot.caption)}</figcaption>\n</figure>"


# The plots take the colour of the text around them, so that one page serves light and dark screens.
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#1c1e21, #e4e6e8); background: light-dark(#ffffff, #17191c); }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.2rem; margin-top: 2.4rem; }
a { color: light-dark(#0b5cad, #7fb8f0); }
.machine, .note, figcaption, nav { color: light-dark(#5a6067, #a0a6ad); font-size: 0.9rem; }
.note { margin: 0.3rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; margin: 0.8rem 0; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid light-dark(#dfe3e7, #34383d); }
th.figure, td.figure { text-align: right; white-space: nowrap; }
figure { margin: 1.2rem 0; }
figure svg { max-width: 100%; height: auto; }
"""
