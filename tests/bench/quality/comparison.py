"""This run against another, case by case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.quality.cases import KINDS
from tests.bench.quality.scores import Interval, interval
from tests.bench.table import BenchError


@dataclass(frozen=True, slots=True)
class Difference:
    """What this run has above the other in cases that both have, in percentage points."""

    kind: str
    n_cases: int
    exact: Interval | None
    similarity: Interval | None
    n_other_answers: int  # cases with another answer


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs."""

    differences: tuple[Difference, ...]  # by kind, then in all
    n_only_here: int
    n_only_there: int
    other_answers: tuple[str, ...]  # ids of the cases with another answer

    @property
    def agrees(self) -> bool:
        """Whether both have the same cases with the same answers."""
        return not (self.other_answers or self.n_only_here or self.n_only_there)


def cases_of(path: Path) -> list[dict[str, Any]]:
    """The cases in the JSON file of a run. BenchError where there are none."""
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["details"]["quality"]["cases"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} holds no run of quality to compare with ({type(error).__name__})") from error
    return list(cases)


def compare(here: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]]) -> Comparison:
    """What differs between the cases of two runs, as `Result.as_json` gives them."""
    known = {each["id"]: each for each in there}
    pairs = [(each, known[each["id"]]) for each in here if each["id"] in known]
    by_kind = {kind: [pair for pair in pairs if pair[0]["kind"] == kind] for kind in KINDS} | {"all": pairs}
    return Comparison(
        tuple(_difference(kind, of_kind) for kind, of_kind in by_kind.items()),
        len(here) - len(pairs),
        len(known) - len(pairs),
        tuple(ours["id"] for ours, theirs in pairs if ours["answer"] != theirs["answer"]),
    )


def _difference(kind: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Difference:
    files = [ours["file"] for ours, _ in pairs]

    def above(what: str) -> Interval | None:
        found = interval([ours[what] - theirs[what] for ours, theirs in pairs], files)
        return None if found is None else found.times(100)

    n_other = sum(ours["answer"] != theirs["answer"] for ours, theirs in pairs)
    return Difference(kind, len(pairs), above("exact"), above("similarity"), n_other)
