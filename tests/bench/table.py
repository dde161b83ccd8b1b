"""What a measurement found: rows with a value, and the bound it has to keep; as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


class BenchError(Exception):
    """Why a part could not be measured, in one sentence."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    part: str
    what: str
    value: float | None  # None: it could not be measured, the note says why
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""
    is_timing: bool = False  # means nothing on a busy machine

    @property
    def is_missed(self) -> bool:
        """Whether the figure breaks its bound, or is missing where there is one."""
        if self.at_most is None and self.at_least is None:
            return False
        if self.value is None:
            return True
        too_high = self.at_most is not None and self.value > self.at_most
        return too_high or (self.at_least is not None and self.value < self.at_least)

    @property
    def bound(self) -> str:
        """The bound as text, empty when there is none."""
        if self.at_most is not None:
            return f"≤ {number(self.at_most)}"
        return "" if self.at_least is None else f"≥ {number(self.at_least)}"


def number(value: float) -> str:
    """A figure with as many digits as say something: 1234, 56.7, 0.123, 0."""
    if value == int(value) or abs(value) >= 1000:
        return str(round(value))
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def as_text(rows: Sequence[Row]) -> str:
    """The rows in columns, by part, a mark in front of each that breaks its bound."""
    cells = [
        (
            "!" if row.is_missed else " ",
            row.part if not at or rows[at - 1].part != row.part else "",
            row.what,
            "-" if row.value is None else number(row.value),
            row.unit,
            row.bound,
            row.note,
        )
        for at, row in enumerate(rows)
    ]
    widths = [max((len(cell[column]) for cell in cells), default=0) for column in range(7)]
    lines: list[str] = []
    for cell in cells:
        padded = [text.ljust(width) for text, width in zip(cell, widths, strict=True)]
        padded[3] = cell[3].rjust(widths[3])
        if cell[1] and lines:
            lines.append("")
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain objects; a program that compares two runs reads these."""
    return [asdict(row) | {"is_missed": row.is_missed} for row in rows]


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest of `values` that at least `percent` of them do not exceed; None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    n_below = -(-len(ordered) * percent // 100)
    return ordered[max(int(n_below), 1) - 1]


def share(part: int, whole: int) -> float | None:
    """Percent; None of nothing."""
    return 100 * part / whole if whole else None
