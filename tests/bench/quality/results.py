"""What a run found at its cases: the server's answers beside those of copying, and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.quality.asking import Answer
from tests.bench.quality.cases import KINDS, Case
from tests.bench.quality.scores import Interval, Score, interval, score
from tests.bench.table import percentile, share

WRITERS = ("server", "file", "repository")  # the last two are copies from there
THRESHOLDS = tuple(step / 20 for step in range(19))  # 0, 0.05, ... 0.9


@dataclass(frozen=True, slots=True)
class Result:
    """One case with all answers to it."""

    case: Case
    answer: Answer
    copies: Mapping[str, str]  # by source: "file", "repository"
    scores: Mapping[str, Score]  # by writer

    def as_json(self) -> dict[str, Any]:
        """All that another run can be compared with."""
        return {
            "id": self.case.id,
            "file": self.case.file,
            "kind": self.case.kind,
            "target": self.case.target,
            "answer": self.answer.text,
            "exact": self.scores["server"].exact,
            "similarity": round(self.scores["server"].similarity, 4),
            "confidence": self.answer.confidence,
            "milliseconds": None if self.answer.milliseconds is None else round(self.answer.milliseconds, 1),
            "ended": self.answer.ended,
            "problem": self.answer.problem,
            "copies": dict(self.copies),
        }


def result(case: Case, answer: Answer, copies: Mapping[str, str]) -> Result:
    """The case with its answers scored."""
    written = {"server": answer.text, **copies}
    return Result(case, answer, copies, {who: score(text, case.target) for who, text in written.items()})


@dataclass(frozen=True, slots=True)
class Figures:
    """Some results in figures; shares in percent, None without results."""

    n_cases: int
    exact: Mapping[str, Interval | None]  # by writer
    similarity: Interval | None
    saved: Interval | None  # of the characters that there were, those right before the first mistake
    offered: float | None  # share of the cases
    over_repository: Interval | None  # exact matches above those of copying from the repository, case by case
    p50_ms: float | None
    p95_ms: float | None


def figures(results: Sequence[Result]) -> Figures:
    """The figures of some results."""
    files = [each.case.file for each in results]

    def percent(values: Sequence[float], weights: Sequence[float] | None = None) -> Interval | None:
        found = interval(values, files, weights)
        return None if found is None else found.times(100)

    server = [each.scores["server"] for each in results]
    milliseconds = [each.answer.milliseconds for each in results if each.answer.milliseconds is not None]
    return Figures(
        n_cases=len(results),
        exact={who: percent([each.scores[who].exact for each in results]) for who in WRITERS},
        similarity=percent([each.similarity for each in server]),
        saved=percent([each.n_saved / each.n_target for each in server], [each.n_target for each in server]),
        offered=share(sum(bool(each.answer.text) for each in results), len(results)),
        over_repository=percent([each.scores["server"].exact - each.scores["repository"].exact for each in results]),
        p50_ms=percentile(milliseconds, 50),
        p95_ms=percentile(milliseconds, 95),
    )


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What would be shown with a `minConfidence`; shares in percent."""

    threshold: float
    shown: float | None  # of all cases
    exact_of_shown: float | None
    exact_kept: float | None  # of the exact matches that there are without a threshold


def sweep(results: Sequence[Result]) -> list[AtThreshold]:
    """The trade-off of withholding what the model is unsure of."""
    n_exact = sum(each.scores["server"].exact for each in results)
    found = []
    for threshold in THRESHOLDS:
        shown = [each for each in results if each.answer.text and (each.answer.confidence or 0.0) >= threshold]
        n_right = sum(each.scores["server"].exact for each in shown)
        found.append(
            AtThreshold(
                threshold,
                share(len(shown), len(results)),
                share(int(n_right), len(shown)),
                share(int(n_right), int(n_exact)),
            )
        )
    return found


def highest_threshold(results: Sequence[Result], loss: float = 0.05) -> float | None:
    """The highest `minConfidence`, in hundredths, that loses at most this share of the exact matches; None of none."""
    sure = sorted(each.answer.confidence or 0.0 for each in results if each.scores["server"].exact)
    if not sure:
        return None
    return int(100 * sure[int(loss * len(sure))] + 1e-9) / 100


def by_kind(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each kind, then all."""
    found: dict[str, list[Result]] = {kind: [each for each in results if each.case.kind == kind] for kind in KINDS}
    return found | {"all": list(results)}
