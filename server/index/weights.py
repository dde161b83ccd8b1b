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


# Fitted on 673 held-out lines (5,737 tokens) of tweepy, mitmproxy, fabric and pychromecast with the model that ships:
# 3.81 nats a token by the model alone, 2.83 with these. Fitted on three of the packages, the fourth gains 0.4 to 1.2.
# Again: `python -P -m tests.bench.fit_mixing --count 70` prints these rows.
WEIGHTS: dict[tuple[Kind, Level], tuple[float, ...]] = {
    ("dependencies", "shorter"): (-1.00, 0.05, -0.97, 0.29, 0.00, -0.50, 2.56, 0.28, -0.66),
    ("dependencies", "longest"): (-0.56, -0.59, 1.13, -0.12, -0.49, 0.30, -0.11, 0.24, 0.01),
    ("file", "shorter"): (-1.90, 0.60, -0.87, 0.58, 0.00, 0.86, -1.91, 0.17, -0.79),
    ("repository", "shorter"): (-2.20, 0.50, -0.17, 0.09, 0.00, 1.17, -1.97, 0.06, -0.65),
    ("file", "longest"): (-1.05, 0.16, 0.44, 0.66, 0.11, -0.41, -1.93, 0.18, -1.01),
    ("repository", "longest"): (-0.19, -0.22, 0.92, 0.42, 0.21, -2.79, 0.71, 0.02, -1.24),
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
