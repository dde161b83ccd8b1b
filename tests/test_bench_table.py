"""Rows keep their bounds or say that they do not, and a busy machine is not taken for a slow program."""

from __future__ import annotations

import json

import pytest

from tests.bench.machine import Machine
from tests.bench.table import Row, as_json, as_text, number, percentile, share


@pytest.mark.parametrize("row, missed", [
    (Row("a", "b", 90.0, at_most=90), False),
    (Row("a", "b", 90.1, at_most=90), True),
    (Row("a", "b", 80.0, at_least=80), False),
    (Row("a", "b", 79.9, at_least=80), True),
    (Row("a", "b", None, at_most=90), True),
    (Row("a", "b", None), False),
    (Row("a", "b", 1e9), False),
])  # fmt: skip
def test_a_bound_is_kept_or_missed(row: Row, missed: bool) -> None:
    assert row.is_missed is missed


def test_the_table_marks_what_is_missed_and_names_a_part_once() -> None:
    rows = [
        Row("replay", "p50", 120.0, "ms", at_most=90),
        Row("replay", "p95", None, "ms"),
        Row("cursors", "n", 3, note="of 4"),
    ]
    first, second, blank, third = as_text(rows).split("\n")
    assert first.split() == ["!", "replay", "p50", "120", "ms", "≤", "90"]
    assert second.split() == ["p95", "-", "ms"]
    assert (blank, third.split()) == ("", ["cursors", "n", "3", "of", "4"])


def test_json_holds_what_the_table_shows() -> None:
    (row,) = json.loads(json.dumps(as_json([Row("a", "b", 120.0, "ms", at_most=90, is_timing=True)])))
    assert (row["part"], row["value"], row["at_most"], row["is_missed"], row["is_timing"]) == (
        "a",
        120.0,
        90,
        True,
        True,
    )


@pytest.mark.parametrize(
    "value, text", [(0.0, "0"), (1234.5, "1234"), (56.78, "56.8"), (0.12345, "0.123"), (-0.0059, "-0.0059")]
)
def test_numbers_have_the_digits_that_say_something(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("values, percent, expected", [
    ([], 50, None),
    ([7.0], 95, 7.0),
    ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
    ([4.0, 1.0, 3.0, 2.0], 51, 3.0),
    ([float(n) for n in range(1, 101)], 95, 95.0),
])  # fmt: skip
def test_a_percentile_is_one_of_the_values(values: list[float], percent: float, expected: float | None) -> None:
    assert percentile(values, percent) == expected


def test_a_share_of_nothing_is_unknown() -> None:
    assert (share(1, 4), share(0, 0)) == (25.0, None)


@pytest.mark.parametrize("load_average, busy_cores, calm", [
    (0.1, 0.0, True),
    (3.0, 0.1, True),  # the last minute is over
    (0.1, 1.0, False),
    (3.0, None, False),
    (None, None, True),
])  # fmt: skip
def test_times_of_a_busy_machine_are_not_valid(
    load_average: float | None, busy_cores: float | None, calm: bool
) -> None:
    machine = Machine("Linux", "a processor", 2, load_average, busy_cores)
    assert machine.is_calm is calm
    assert (machine.warning is None) is calm
    assert "2 cores, a processor" in str(machine)
