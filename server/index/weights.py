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


# Fitted on 943 held-out lines (7,127 tokens) of tweepy, mitmproxy, fabric and pychromecast with the model that ships,
# near the weights before: 2.50 nats a token by the model alone, 2.13 with those before, 2.10 with these. Fitted on
# three of the packages, the fourth has 2.11; free of the weights before, 2.15.
# Again: `python -P -m tests.bench.fit_mixing --count 100` prints these rows.
WEIGHTS: dict[tuple[Kind, Level], tuple[float, ...]] = {
    ("dependencies", "shorter"): (-1.04, -0.52, -0.84, 0.31, 0.00, -0.79, 4.46, 0.25, -0.70, -3.91, -1.67, 0.49),
    ("dependencies", "longest"): (-1.06, -0.20, 0.84, -0.14, -0.14, -0.23, -2.09, 0.36, -0.20, 1.92, -1.02, 0.49),
    ("file", "shorter"): (-2.69, 0.84, -1.35, 0.37, 0.00, 1.03, -2.36, 0.21, -0.49, -0.21, -0.23, 0.26),
    ("repository", "shorter"): (-2.16, 0.20, 0.15, 0.07, 0.00, 0.69, -1.12, 0.09, -0.51, 0.38, 0.31, -0.04),
    ("file", "longest"): (-1.26, 0.09, 0.48, 0.51, -0.10, -0.26, -2.53, 0.21, -0.94, 1.28, -0.42, 0.13),
    ("repository", "longest"): (-2.17, 0.42, 0.21, 0.09, -0.53, -0.84, -1.43, 0.18, -0.77, 1.73, 0.37, 0.03),
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
