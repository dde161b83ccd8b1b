"""What an answer is worth, and how much better one way is than another, by whole files.

Intervals resample them (Efron 1979), and are widened for how few they are: of four files, those that are resampled
alone would hold the truth in three of four cases (Hesterberg 2015, "What Teachers Should Know About the Bootstrap",
The American Statistician 69).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

N_RESAMPLES = 2_000
LEVEL = 0.95
_NORMAL = 1.959964  # standard deviations that hold `LEVEL` of a normal distribution
# As many standard deviations of a sample of so many degrees of freedom, from 1 (Student 1908).
_STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


@dataclass(frozen=True, slots=True)
class Score:
    """One answer against what stood there."""

    exact: float  # 1 or 0
    similarity: float  # 0..1: one less the share of characters to be changed (Levenshtein)
    n_saved: int  # characters right before the first mistake
    n_target: int  # characters that there were


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the interval in which it lies with `LEVEL` certainty."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Changes:
    """How much better one way is than another at the same points, with intervals over files; None without points."""

    exact: Interval | None
    similarity: Interval | None
    saved: Interval | None  # of all characters


def score(answer: str, target: str) -> Score:
    """The score of an answer; blanks at the ends of both do not count."""
    answer, target = answer.rstrip(), target.rstrip()
    n_saved = 0
    while n_saved < min(len(answer), len(target)) and answer[n_saved] == target[n_saved]:
        n_saved += 1
    n_most = max(len(answer), len(target))
    similarity = 1.0 - n_changes(answer, target) / n_most if n_most else 1.0
    return Score(float(answer == target), similarity, n_saved, len(target))


def n_changes(one: str, other: str) -> int:
    """The fewest characters to insert, delete or replace that make `other` of `one` (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for number, character in enumerate(one, 1):
        diagonal, row[0] = row[0], number
        for at, against in enumerate(other, 1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (character != against))
    return row[-1]


def interval(values: Sequence[float], files: Sequence[str], weights: Sequence[float] | None = None) -> Interval | None:
    """The mean of `values` by `weights`, and its interval over `files`; None without values.

    For a paired difference, `values` are the differences. One file tells nothing of others: its interval is the line
    of all numbers.
    """
    if not len(values):
        return None
    weighted = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums = np.asarray(values, dtype=np.float64) * weighted
    names, numbers = np.unique(np.asarray(files), return_inverse=True)
    mean = float(sums.sum() / weighted.sum())
    if len(names) < 2:
        return Interval(mean, -float("inf"), float("inf"))
    sums_by_file = np.bincount(numbers, sums, len(names))
    weights_by_file = np.bincount(numbers, weighted, len(names))
    rng = np.random.default_rng(0)
    n_times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), N_RESAMPLES)
    totals = n_times @ weights_by_file
    means = (n_times @ sums_by_file)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    wider = widening(len(names))
    return Interval(mean, mean + wider * (float(low) - mean), mean + wider * (float(high) - mean))


def changes(ours: Sequence[Score], theirs: Sequence[Score], files: Sequence[str]) -> Changes:
    """What one way gains over another. Each point is in one of `files`."""
    both = list(zip(ours, theirs, strict=True))
    lengths = [max(one.n_target, 1) for one in ours]
    return Changes(
        exact=interval([one.exact - other.exact for one, other in both], files),
        similarity=interval([one.similarity - other.similarity for one, other in both], files),
        saved=interval([(one.n_saved - other.n_saved) / max(one.n_target, 1) for one, other in both], files, lengths),
    )


def widening(n: int) -> float:
    """How much wider an interval over `n` units, at least 2, must be than that of resampled ones.

    These vary too little by (n - 1) / n, and their quantiles are those of a normal distribution, not of Student's.
    """
    freedom = n - 1
    if freedom <= len(_STUDENT):
        student = _STUDENT[freedom - 1]
    else:  # its expansion, exact to a thousandth here
        z = _NORMAL
        student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return float(np.sqrt(n / freedom)) * student / _NORMAL
