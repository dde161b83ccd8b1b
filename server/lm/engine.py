"""What a language model engine offers: logits over a KV cache, and the book-keeping of what that cache holds.

Knows token ids and positions. Knows nothing of text, prompts, onnxruntime or torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.lm.errors import UserError

# A cancelled request frees the worker after one chunk. With 46 M parameters on one thread of a 2-core server 28 tokens
# take 42 ms at worst, 32 take 47, and prefill as a whole loses a twentieth by it. Again: time `Engine.logits`.
PREFILL_CHUNK_TOKENS = 28

Logits = NDArray[np.float32]


class EngineError(UserError):
    """An engine is not installed, or cannot load the model."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a GPT-2."""

    n_layer: int
    n_head: int
    n_embd: int
    n_inner: int  # width of the feed-forward layer, 4 * n_embd unless the checkpoint says otherwise
    n_positions: int  # longest sequence; positions are learned, so nothing beyond exists
    vocab_size: int
    layer_norm_epsilon: float
    tied_head: bool = True  # the head is the token embedding


class Engine(Protocol):
    """A model with `n_slots` independent KV caches. Not for two threads at once."""

    @property
    def config(self) -> ModelConfig:
        """The shape of the model."""

    @property
    def n_slots(self) -> int:
        """Number of KV caches; slots are 0 .. n_slots - 1."""

    def logits(self, slot: int, token_ids: Sequence[int], n_past: int, n_keep: int = 1) -> Logits:
        """Logits after the last `n_keep` of `token_ids`, which are fed at positions `n_past` and up: (n_keep, vocab).

        The first `n_past` positions of the slot must have been fed before. They are attended to, what lay behind them
        is forgotten, so that any shorter prefix may be continued. `n_keep` may be 0. ValueError beyond `n_positions`.
        """


def default_threads() -> int:
    """One core less than this process may use, at least one: the editor and its other servers need one too."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, n_cores - 1)


def check_feed(config: ModelConfig, n_tokens: int, n_past: int, n_keep: int) -> None:
    """ValueError unless `n_tokens` can be fed after `n_past` others and `n_keep` of their logits kept."""
    if n_tokens < 1 or n_past < 0:
        raise ValueError(f"cannot feed {n_tokens} tokens at position {n_past}: at least one token at position 0 or up")
    if not 0 <= n_keep <= n_tokens:
        raise ValueError(f"cannot keep the logits of {n_keep} positions of {n_tokens} tokens fed")
    if n_past + n_tokens > config.n_positions:
        raise ValueError(
            f"{n_past} + {n_tokens} tokens exceed the {config.n_positions} positions of the model; "
            f"cut the prompt to its token budget"
        )


@dataclass(frozen=True, slots=True)
class Advance:
    """What `PrefixCache.advance` did."""

    logits: Logits | None  # (n_keep, vocab) after the last tokens of the sequence; None when stopped before
    n_reused: int  # tokens that were in the cache already
    n_fed: int  # tokens fed now
    finished: bool


def never() -> bool:
    """False: nothing asks to stop."""
    return False


class PrefixCache:
    """The token ids that one KV slot of an engine holds, so that the next sequence feeds only what is new."""

    def __init__(self, engine: Engine, slot: int) -> None:
        self.engine = engine
        self.slot = slot
        self._tokens: list[int] = []

    @property
    def tokens(self) -> tuple[int, ...]:
        """The ids in the cache, from position 0."""
        return tuple(self._tokens)

    def n_common(self, token_ids: Sequence[int]) -> int:
        """Length of the longest common prefix of `token_ids` and the cache."""
        n_common = 0
        for cached, wanted in zip(self._tokens, token_ids, strict=False):
            if cached != wanted:
                break
            n_common += 1
        return n_common

    def forget(self) -> None:
        """Takes the cache for empty: nothing of what was fed is found again."""
        self._tokens.clear()

    def advance(self, token_ids: Sequence[int], *, n_keep: int = 1, should_stop: Callable[[], bool] = never) -> Advance:
        """Makes the cache hold exactly `token_ids`, and gives the logits after the last `n_keep` of them.

        The common prefix stays, except that the last `n_keep` tokens (at least one) are always fed: logits are not
        kept. The rest is fed in chunks, `should_stop` being asked before each; what was fed until then stays. An empty
        sequence, or one longer than the model has positions, is a ValueError and changes nothing.
        """
        n_total = len(token_ids)
        check_feed(self.engine.config, n_total, 0, n_keep)
        n_reused = min(self.n_common(token_ids), n_total - max(n_keep, 1))
        del self._tokens[n_reused:]
        kept: list[Logits] = []
        for start in range(n_reused, n_total, PREFILL_CHUNK_TOKENS):
            if should_stop():
                return Advance(None, n_reused, start - n_reused, finished=False)
            chunk = token_ids[start : start + PREFILL_CHUNK_TOKENS]
            end = start + len(chunk)
            n_wanted = min(len(chunk), max(0, end - (n_total - n_keep)))
            kept.append(self.engine.logits(self.slot, chunk, start, n_wanted))
            self._tokens += chunk
        logits = kept[-1] if n_keep <= len(kept[-1]) else np.concatenate(kept)
        return Advance(logits, n_reused, n_total - n_reused, finished=True)
