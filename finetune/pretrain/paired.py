"""Whether one of two ways is better on the same cases, with how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

N_RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of a difference over cases, and the interval in which it lies with `LEVEL` certainty."""

    mean: float
    low: float
    high: float


def difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Difference:
    """How much more `ours` is than `theirs`, case by case; a percentile bootstrap over the cases (Efron 1979)."""
    each = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if not len(each):
        return Difference(0.0, 0.0, 0.0)
    rng = np.random.default_rng(seed)
    means = [each[rng.integers(0, len(each), len(each))].mean() for _ in range(N_RESAMPLES)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(float(each.mean()), float(low), float(high))
