"""What an answer is worth, and what many are, with the interval in which that lies.

Intervals resample whole files (Efron 1979): the lines of one file are alike, so a file is what was drawn. Every
repository keeps its number of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

N_RESAMPLES = 2_000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Score:
    """One answer against what stood there."""

    exact: float  # 1 or 0
    similarity: float  # 0..1: one less the share of characters to be changed (Levenshtein)
    n_saved: int  # characters right before the first mistake
    n_target: int  # characters that there were


def score(answer: str, target: str) -> Score:
    """The score of an answer; blanks at the ends of both do not count."""
    from rapidfuzz.distance import Levenshtein

    answer, target = answer.rstrip(), target.rstrip()
    n_saved = next((at for at, pair in enumerate(zip(answer, target, strict=False)) if pair[0] != pair[1]), None)
    if n_saved is None:
        n_saved = min(len(answer), len(target))
    similarity = Levenshtein.normalized_similarity(answer, target)
    return Score(float(answer == target), similarity, n_saved, len(target))


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the interval in which it lies with `LEVEL` certainty."""

    mean: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        return Interval(self.mean * factor, self.low * factor, self.high * factor)


def interval(values: Sequence[float], files: Sequence[str], weights: Sequence[float] | None = None) -> Interval | None:
    """The mean of `values` by `weights` (all the same without), and its interval over files; None without values.

    `files` says where each value is from, the repository before the first slash.
    """
    if not len(values):
        return None
    weighted = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums = np.asarray(values, dtype=np.float64) * weighted
    names, numbers = np.unique(np.asarray(files), return_inverse=True)
    sums_by_file = np.bincount(numbers, sums, len(names))
    weights_by_file = np.bincount(numbers, weighted, len(names))
    repositories = np.array([name.partition("/")[0] for name in names])
    rng = np.random.default_rng(0)
    n_times = np.zeros((N_RESAMPLES, len(names)))
    for repository in np.unique(repositories):
        (of_it,) = np.nonzero(repositories == repository)
        n_times[:, of_it] = rng.multinomial(len(of_it), np.full(len(of_it), 1 / len(of_it)), N_RESAMPLES)
    totals = n_times @ weights_by_file
    means = (n_times @ sums_by_file)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(sums.sum() / weighted.sum()), float(low), float(high))
