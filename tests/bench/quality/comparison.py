"""This run against another, case by case: in all and by repository, beside what copying is worth in the same cases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.quality.cases import KINDS
from tests.bench.quality.explaining import SCORES
from tests.bench.quality.scores import Interval, interval, score
from tests.bench.table import BenchError

ALL = "all"  # repositories, or kinds
COPIES = ("file", "repository")

Told = Mapping[str, Any]  # a case or an explanation, as the JSON of a run holds it


@dataclass(frozen=True, slots=True)
class OtherRun:
    """What the JSON file of a run holds of quality."""

    cases: list[Told]
    explanations: list[Told]


@dataclass(frozen=True, slots=True)
class Difference:
    """What this run has above the other in cases that both have, in percentage points, paired."""

    repository: str
    kind: str
    n_cases: int
    here: Interval | None  # exact matches, %
    there: Interval | None
    copies: Mapping[str, Interval | None]  # exact matches of copying from there, %
    exact: Interval | None
    similarity: Interval | None
    above_copy: Interval | None  # this run's exact matches above those of copying from the repository
    n_other_answers: int  # cases with another answer


@dataclass(frozen=True, slots=True)
class SentenceDifference:
    """What this run's sentences have above the other's on functions that both explain, in points of chrF, paired."""

    repository: str
    n_functions: int
    here: Interval | None
    there: Interval | None
    chrf: Interval | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs."""

    differences: tuple[Difference, ...]  # all repositories first; of each the kinds, then all kinds
    explanations: tuple[SentenceDifference, ...]  # all repositories first; empty where none are in both
    n_only_here: int
    n_only_there: int
    other_answers: tuple[str, ...]  # ids of the cases with another answer

    @property
    def agrees(self) -> bool:
        """Whether both have the same cases with the same answers."""
        return not (self.other_answers or self.n_only_here or self.n_only_there)

    def of_kind(self, kind: str) -> list[Difference]:
        """All repositories together, then each."""
        return [each for each in self.differences if each.kind == kind]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run_in(path: Path) -> OtherRun:
    """The run in a JSON file. BenchError where there is none."""
    try:
        quality = json.loads(path.read_text(encoding="utf-8"))["details"]["quality"]
        return OtherRun(list(quality["cases"]), list(quality.get("explanations", ())))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BenchError(f"{path} holds no run of quality to compare with ({type(error).__name__})") from error


def compare(
    here: Sequence[Told],
    there: Sequence[Told],
    explained_here: Iterable[Told] = (),
    explained_there: Iterable[Told] = (),
) -> Comparison:
    """What differs between two runs, told as in their JSON files."""
    pairs = _pairs(here, there)
    return Comparison(
        tuple(
            _difference(repository, kind, [pair for pair in of_it if kind in (ALL, pair[0]["kind"])])
            for repository, of_it in _by_repository(pairs).items()
            for kind in (*KINDS, ALL)
        ),
        tuple(
            _sentences(repository, of_it)
            for repository, of_it in _by_repository(_pairs(explained_here, explained_there)).items()
            if of_it
        ),
        len(here) - len(pairs),
        len({each["id"] for each in there}) - len(pairs),
        tuple(ours["id"] for ours, theirs in pairs if ours["answer"] != theirs["answer"]),
    )


def _pairs(here: Iterable[Told], there: Iterable[Told]) -> list[tuple[Told, Told]]:
    known = {each["id"]: each for each in there}
    return [(each, known[each["id"]]) for each in here if each["id"] in known]


def _by_repository(pairs: Sequence[tuple[Told, Told]]) -> dict[str, list[tuple[Told, Told]]]:
    """All pairs, then those of each repository."""
    found = {ALL: list(pairs)}
    for pair in pairs:
        found.setdefault(pair[0]["file"].partition("/")[0], []).append(pair)
    return found


def _difference(repository: str, kind: str, pairs: Sequence[tuple[Told, Told]]) -> Difference:
    files = [ours["file"] for ours, _ in pairs]
    exact = [ours["exact"] for ours, _ in pairs]
    copies = {who: [score(ours["copies"][who], ours["target"]).exact for ours, _ in pairs] for who in COPIES}

    def above(values: Sequence[float], floor: Sequence[float]) -> Interval | None:
        return _percent([value - low for value, low in zip(values, floor, strict=True)], files)

    there = [theirs["exact"] for _, theirs in pairs]
    return Difference(
        repository,
        kind,
        len(pairs),
        here=_percent(exact, files),
        there=_percent(there, files),
        copies={who: _percent(values, files) for who, values in copies.items()},
        exact=above(exact, there),
        similarity=above([ours["similarity"] for ours, _ in pairs], [theirs["similarity"] for _, theirs in pairs]),
        above_copy=above(exact, copies["repository"]),
        n_other_answers=sum(ours["answer"] != theirs["answer"] for ours, theirs in pairs),
    )


def _sentences(repository: str, pairs: Sequence[tuple[Told, Told]]) -> SentenceDifference:
    files = [ours["file"] for ours, _ in pairs]
    here, there = (
        [SCORES["chrf"](pair[side]["sentences"]["server"], pair[0]["expected"]) for pair in pairs] for side in (0, 1)
    )
    above = [ours - theirs for ours, theirs in zip(here, there, strict=True)]
    return SentenceDifference(
        repository, len(pairs), _percent(here, files), _percent(there, files), _percent(above, files)
    )


def _percent(values: Sequence[float], files: Sequence[str]) -> Interval | None:
    found = interval(values, files)
    return None if found is None else found.times(100)
