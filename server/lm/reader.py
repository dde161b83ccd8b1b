"""What the model says after some tokens: log-probabilities of the next one, until a limit of the request is reached.

Knows the KV cache, the deadline and the cancel flag. Knows nothing of text or of what is done with the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from server.lm.engine import Logits, PrefixCache

LogProbs = NDArray[np.float32]  # natural logarithms, (vocab,)


class Mixer(Protocol):
    """Another opinion on the next token. A text so far is what follows the fed prompt, pending text included."""

    def prepare(self, texts: Sequence[bytes]) -> None:
        """These are the texts so far that will be asked about next, most likely: there is time until then."""

    def mix(self, log_probs: LogProbs, text_so_far: bytes) -> LogProbs:
        """The log-probabilities to use."""


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
    """The model during one request."""

    def __init__(
        self,
        cache: PrefixCache,
        limits: Limits,
        vocab_size: int,
        never_written: NDArray[np.int32],
        mixer: Mixer | None,
    ) -> None:
        self.n_positions = cache.engine.config.n_positions
        self.limits = limits
        self.stopped_by: Literal["deadline", "cancelled"] | None = None  # why `logits` gave None
        self._cache = cache
        self._vocab_size = vocab_size
        self._never_written = never_written
        self._mixer = mixer

    def logits(self, token_ids: list[int], texts: Sequence[bytes]) -> Logits | None:
        """Logits after the last of `token_ids`, one row for each of `texts`: (n_texts, vocab); None at a limit.

        `texts` are what follows the fed prompt there. The limits are looked at before each forward. `token_ids` fit the
        positions of the model.
        """
        limits = self.limits
        if self._mixer is not None and limits.reached() is None:
            self._mixer.prepare(texts)
        advance = self._cache.advance(token_ids, n_keep=len(texts), should_stop=lambda: limits.reached() is not None)
        if advance.logits is None:
            self.stopped_by = limits.reached() or "cancelled"
            if self._mixer is not None:
                self._mixer.prepare(())  # nothing is asked any more
        return advance.logits

    def log_probs(self, row: Logits, text_so_far: bytes) -> LogProbs:
        """Log-probabilities for one row of logits: markers that are never written masked, other opinions mixed in.

        `text_so_far` is what follows the fed prompt.
        """
        log_probs = row[: self._vocab_size].copy()
        log_probs[self._never_written] = -np.inf
        log_probs -= log_probs.max()
        log_probs -= np.log(np.exp(log_probs).sum())
        if self._mixer is not None:
            log_probs = np.array(self._mixer.mix(log_probs, text_so_far), dtype=np.float32)
            log_probs[self._never_written] = -np.inf
        return log_probs


def log_sum_exp(logprobs: LogProbs) -> float:
    """Log-probability of any of several things that exclude each other; at least one."""
    highest = logprobs.max()
    return float(highest + np.log(np.exp(logprobs - highest).sum()))
