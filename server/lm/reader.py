"""What the model says after some tokens: log-probabilities of the next one, until a limit of the request is reached.

Knows the KV cache, the deadline and the cancel flag. Knows nothing of text or of what is done with the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from server.lm.engine import Logits, PrefixCache

LogProbs = NDArray[np.float32]  # natural logarithms, (vocab,)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a request has to end whatever the model says."""

    max_new_tokens: int
    deadline: float | None  # seconds of time.monotonic
    cancelled: Callable[[], bool]

    def reached(self) -> Literal["deadline", "cancelled"] | None:
        """The limit on time that is reached, if one is."""
        if self.cancelled():
            return "cancelled"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "deadline"
        return None


class Reader:
    """The model during one request. What it has said once is remembered: lines are weighed, and then one is written."""

    def __init__(self, cache: PrefixCache, limits: Limits, vocab_size: int, never_written: NDArray[np.int32]) -> None:
        self.n_positions = cache.engine.config.n_positions
        self.limits = limits
        self.stopped_by: Literal["deadline", "cancelled"] | None = None  # why `logits` gave None
        self._cache = cache
        self._vocab_size = vocab_size
        self._never_written = never_written
        self._known: dict[tuple[int, ...], Logits] = {}  # ids of a whole sequence -> what follows them

    def knows(self, token_ids: Sequence[int]) -> bool:
        """Whether the logits after `token_ids` are known without a forward."""
        return tuple(token_ids) in self._known

    def n_known(self, token_ids: Sequence[int], n_keep: int) -> int:
        """How many of the first of the last `n_keep` logits of `token_ids` are known without a forward."""
        heads = _heads(token_ids, n_keep)
        return next((n for n, head in enumerate(heads) if head not in self._known), n_keep)

    def logits(self, token_ids: Sequence[int], n_keep: int) -> Logits | None:
        """Logits after the last `n_keep` of `token_ids`, (n_keep, vocab); None once a limit is reached.

        The limits are looked at before each forward. `token_ids` fit the positions of the model.
        """
        heads, n_known = _heads(token_ids, n_keep), self.n_known(token_ids, n_keep)
        if n_known < n_keep:
            advance = self._cache.advance(token_ids, n_keep=n_keep - n_known, should_stop=self._is_over)
            if advance.logits is None:
                self.stopped_by = self.limits.reached() or "cancelled"
                return None
            self._known.update(zip(heads[n_known:], advance.logits, strict=True))
        return np.stack([self._known[head] for head in heads])

    def _is_over(self) -> bool:
        return self.limits.reached() is not None

    def log_probs(self, row: Logits) -> LogProbs:
        """Log-probabilities for one row of logits, markers that are never written masked."""
        log_probs = row[: self._vocab_size].copy()
        log_probs[self._never_written] = -np.inf
        log_probs -= log_probs.max()
        log_probs -= np.log(np.exp(log_probs).sum())
        return log_probs


def _heads(token_ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """The last `n` beginnings of a sequence, the shortest first, itself the last."""
    return [tuple(token_ids[:end]) for end in range(len(token_ids) - n + 1, len(token_ids) + 1)]


def log_sum_exp(logprobs: LogProbs) -> float:
    """Log-probability of any of several things that exclude each other; at least one."""
    highest = logprobs.max()
    return float(highest + np.log(np.exp(logprobs - highest).sum()))
