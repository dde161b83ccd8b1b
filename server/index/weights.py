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
    n_followed: int = 0  # bytes written behind the cursor, where the match reaches back over all of them
    is_in_word: bool = False  # the most frequent continuation goes on with a word that has begun


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
        float(evidence.is_in_word),
        float(evidence.n_followed > 0),
        math.log2(1 + min(evidence.n_followed, MAX_COUNTED_BYTES)),
    )


def weight(kind: Kind, level: Level, evidence: Evidence) -> float:
    """The share that the finding gets in the mixture, 0..`MAX_WEIGHT`."""
    total = sum(w * x for w, x in zip(WEIGHTS[kind, level], features(evidence), strict=True))
    return MAX_WEIGHT / (1.0 + math.exp(-max(min(total, 30.0), -30.0)))


# Fitted on 673 held-out lines (5,123 tokens) of tweepy, mitmproxy, fabric and pychromecast with the model that ships:
# 2.54 nats a token by the model alone, 2.11 with these. Fitted on three of the packages, the fourth gains 0.1 to 0.6.
# Again: `python -P -m tests.bench.fit_mixing --count 70` prints these rows.
WEIGHTS: dict[tuple[Kind, Level], tuple[float, ...]] = {
    ("dependencies", "shorter"): (-0.23, -0.04, -1.91, 0.17, 0.00, -0.86, 3.91, 0.43, -0.61, -3.32, -0.45, 0.27),
    ("dependencies", "longest"): (-1.19, -0.27, -0.75, 0.29, -0.43, -0.61, 0.60, 0.55, -0.07, -0.84, 0.09, -0.28),
    ("file", "shorter"): (-1.44, 0.12, -0.45, 0.49, 0.00, 0.25, -0.60, 0.18, -0.85, -0.88, 0.57, 0.02),
    ("repository", "shorter"): (-2.36, 1.00, -0.64, 0.16, 0.00, 0.12, -3.16, 0.15, -1.06, 1.51, 0.55, -0.16),
    ("file", "longest"): (-1.57, 0.10, 0.39, 0.55, -0.24, -0.13, -2.01, 0.17, -0.92, 0.46, -0.42, 0.21),
    ("repository", "longest"): (-0.21, -0.64, 1.39, 0.55, 0.43, -2.13, -0.09, 0.07, -1.01, 0.10, 0.13, 0.08),
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
