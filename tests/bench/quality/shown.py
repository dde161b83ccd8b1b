"""Kinds of cases and figures as text, for tables and rows."""

from __future__ import annotations

from tests.bench.quality.scores import Interval

KIND_NAMES = {"next_line": "next line", "mid_line": "mid-line", "api_line": "API line", "all": "all"}


def value(found: Interval | None) -> float | None:
    """The mean; None without one."""
    return None if found is None else found.mean


def mean(found: Interval | None) -> str:
    """12.3"""
    return percent(value(found))


def brackets(found: Interval | None) -> str:
    """[10.1, 14.5]"""
    return "-" if found is None else f"[{found.low:.1f}, {found.high:.1f}]"


def shown(found: Interval | None) -> str:
    """12.3 [10.1, 14.5]"""
    return "-" if found is None else f"{mean(found)} {brackets(found)}"


def percent(share: float | None) -> str:
    """12.3"""
    return "-" if share is None else f"{share:.1f}"
