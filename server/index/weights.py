"""How far the index is believed beside the model: a weight in 0..1 for each thing it found.

A logistic function of how long the match is, how many places it has, how much they agree, and how surely the model
speaks. Fitted by the likelihood of held-out lines; data, script and gain are named where the numbers stand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["dependencies", "repository", "file"]
Level = Literal["longest", "shorter"]

MAX_WEIGHT = 0.999  # the model always keeps a word
MAX_COUNTED_BYTES = 64
LEAST_LOGPROB = -12.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to judge a finding by."""

    n_bytes: int  # of the past that agree, at least one
    n_places: int
    n_tokens: int  # different next tokens among the places looked at
    top_share: float  # 0..1, of the most frequent of them
    top_logprob: float  # the model's, of that token
    model_max: float  # 0..1, of the model's own favourite


def features(evidence: Evidence) -> tuple[float, ...]:
    """The inputs of the logistic function, the constant first; all within some units of nought."""
    n_bytes = min(evidence.n_bytes, MAX_COUNTED_BYTES)
    return (
        1.0,
        math.log2(max(evidence.n_bytes, 1)),
        n_bytes / 16,
        min(math.log2(max(evidence.n_places, 1)), 6.0),
        float(evidence.n_places == 1),
        evidence.top_share,
        evidence.model_max,
        max(evidence.top_logprob, LEAST_LOGPROB),
        math.log2(max(evidence.n_tokens, 1)),
    )


def weight(kind: Kind, level: Level, evidence: Evidence) -> float:
    """The share that the finding gets in the mixture, 0..`MAX_WEIGHT`."""
    total = sum(w * x for w, x in zip(WEIGHTS[kind, level], features(evidence), strict=True))
    return MAX_WEIGHT / (1.0 + math.exp(-max(min(total, 30.0), -30.0)))


# Fitted on held-out lines of tweepy, fabric and pychromecast: `python -P -m tests.bench.fit_mixing` prints these rows.
WEIGHTS: dict[tuple[Kind, Level], tuple[float, ...]] = {
    ("dependencies", "shorter"): (-3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    ("dependencies", "longest"): (-3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    ("file", "shorter"): (-1.74, -0.54, 0.99, 0.62, 0.0, 0.19, 0.67, -0.02, -1.12),
    ("repository", "shorter"): (-0.31, -0.25, 1.19, 0.53, -0.48, -1.19, -0.29, 0.12, -0.82),
    ("file", "longest"): (-1.36, -0.31, 1.28, 0.15, 0.0, 1.58, -0.34, 0.07, -0.62),
    ("repository", "longest"): (-1.99, 0.18, 0.01, 0.66, 0.67, 1.1, -1.68, 0.17, -0.66),
}
# Shorter matches speak first, longer ones overrule them; of two alike, the repository overrules the file, which has
# the same words for other things in it more often (held-out likelihood, the same script).
ORDER: tuple[tuple[Kind, Level], ...] = (
    ("dependencies", "shorter"),
    ("dependencies", "longest"),
    ("file", "shorter"),
    ("repository", "shorter"),
    ("file", "longest"),
    ("repository", "longest"),
)
