"""A token n-gram model, as the floor under a neural one.

Interpolated absolute discounting (Ney et al. 1994). Counts lie in sorted arrays, one gram a number, so that tens of
megabytes of text are learned in seconds and looked up whole texts at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DISCOUNT = 0.75

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Level:
    """All grams of one length.

    A gram's number is the rank of its context among the shorter grams, times the vocabulary, plus its last token.
    """

    grams: Ints  # ascending
    counts: Ints  # of each gram
    totals: Ints  # of each context: how often something followed it
    kinds: Ints  # of each context: how many different tokens did


class NGram:
    """Probabilities of token ids below `vocab_size`, each after at most `order` - 1 others."""

    def __init__(self, order: int, vocab_size: int, texts: Sequence[Sequence[int]]) -> None:
        """Learns from `texts`; no gram reaches from one into the next."""
        self._vocab_size = vocab_size
        self._levels: list[_Level] = []
        token_ids = np.fromiter((token_id for text in texts for token_id in text), dtype=np.int64)
        starts = np.cumsum([0, *(len(text) for text in texts if len(text))])[:-1]
        contexts, n_contexts = np.zeros(len(token_ids), dtype=np.int64), 1
        for _ in range(order):
            known = contexts >= 0
            grams, ranks, counts = np.unique(
                contexts[known] * vocab_size + token_ids[known], return_inverse=True, return_counts=True
            )
            kinds = np.bincount(grams // vocab_size, minlength=n_contexts)
            totals = np.bincount(contexts[known], minlength=n_contexts)
            self._levels.append(_Level(grams, counts, totals, kinds))
            contexts, n_contexts = _next_contexts(known, ranks, starts), len(grams)

    def probabilities(self, token_ids: Sequence[int]) -> NDArray[np.float64]:
        """The probability of each token of a text after those before it."""
        ids = np.asarray(token_ids, dtype=np.int64)
        values = np.full(len(ids), 1.0 / self._vocab_size)
        contexts = np.zeros(len(ids), dtype=np.int64)
        starts = np.zeros(min(len(ids), 1), dtype=np.int64)
        for level in self._levels:
            seen = contexts >= 0
            seen[seen] = level.totals[contexts[seen]] > 0
            wanted = contexts[seen] * self._vocab_size + ids[seen]
            places = np.minimum(np.searchsorted(level.grams, wanted), max(len(level.grams) - 1, 0))
            found = level.grams[places] == wanted
            kept = np.where(found, level.counts[places] - DISCOUNT, 0.0)
            freed = DISCOUNT * level.kinds[contexts[seen]] * values[seen]
            values[seen] = (kept + freed) / level.totals[contexts[seen]]
            contexts = _next_contexts(seen, np.where(found, places, -1), starts)
        return values


def _next_contexts(known: NDArray[np.bool_], ranks: Ints, starts: Ints) -> Ints:
    """For each place the rank of the gram that ends right before it; -1 where there is none, as at a text's start."""
    ending = np.full(len(known), -1, dtype=np.int64)
    ending[known] = ranks
    contexts = np.roll(ending, 1)
    contexts[starts] = -1
    return contexts
