"""Stand-ins: a tokenizer of a few entries, engines that need no weights, and an index of one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from server.index.lines import Line
from server.lm.engine import Logits, ModelConfig, check_feed
from server.lm.tokenizer import SPECIAL_TOKEN_NAMES, SpecialTokens, Tokenizer

MARKERS = SpecialTokens(*range(len(SPECIAL_TOKEN_NAMES)))
N_MARKERS = len(SPECIAL_TOKEN_NAMES)

# Ids fed so far -> the logits of the next one, (vocab,).
NextLogits = Callable[[tuple[int, ...]], Logits]


class FakeTokenizer:
    """Markers at ids 0-7, then the given entries; text is cut into the longest entry that fits, from the left."""

    special: SpecialTokens | None = MARKERS
    end_of_text: int | None = MARKERS.end_of_text
    fingerprint = "fake"

    def __init__(self, entries: Sequence[str | bytes]) -> None:
        self._bytes = [b""] * N_MARKERS
        self._bytes += [entry.encode() if isinstance(entry, str) else entry for entry in entries]
        self.vocab_size = len(self._bytes)

    def id_of(self, entry: str | bytes) -> int:
        return self._bytes.index(entry.encode() if isinstance(entry, str) else entry)

    def ids_of(self, *entries: str | bytes) -> tuple[int, ...]:
        return tuple(self.id_of(entry) for entry in entries)

    def encode_once(self, text: str) -> list[int]:
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        data, token_ids = text.encode(), []
        while data:
            longest = max((entry for entry in self._bytes[N_MARKERS:] if data.startswith(entry)), key=len)
            token_ids.append(self.id_of(longest))
            data = data[len(longest) :]
        return token_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]


class FakeEngine:
    """An `Engine` whose logits are a function of all ids before; remembers what it was fed."""

    def __init__(self, next_logits: NextLogits, vocab_size: int, n_positions: int = 1024) -> None:
        self.config = ModelConfig(1, 1, 8, 32, n_positions, vocab_size, 1e-5)
        self.n_slots = 2
        self.n_forwards = 0
        self.n_fed = 0
        self._next_logits = next_logits
        self._slots: list[list[int]] = [[], []]

    def logits(self, slot: int, token_ids: Sequence[int], n_past: int, n_keep: int = 1) -> Logits:
        check_feed(self.config, len(token_ids), n_past, n_keep)
        held = self._slots[slot]
        assert n_past <= len(held), "fed behind a gap"
        assert all(0 <= token_id < self.config.vocab_size for token_id in token_ids)
        held[n_past:] = token_ids
        self.n_forwards += 1
        self.n_fed += len(token_ids)
        ends = range(len(held) - n_keep + 1, len(held) + 1)
        rows = [self._next_logits(tuple(held[:end])) for end in ends]
        logits = np.array(rows, dtype=np.float32).reshape(n_keep, self.config.vocab_size)
        logits.setflags(write=False)  # an engine may hand out its own buffer
        return logits


def noise(vocab_size: int, scale: float = 3.0) -> NextLogits:
    """Random logits, the same for the same ids."""

    def next_logits(token_ids: tuple[int, ...]) -> Logits:
        seed = [len(token_ids), *token_ids]
        return np.random.default_rng(seed).normal(scale=scale, size=vocab_size).astype(np.float32)

    return next_logits


def author(tokenizer: Tokenizer, text: str, confidence: float = 12.0) -> NextLogits:
    """A model that knows one text, has seen it in the tokenizer's own tokens only, and ends it.

    Off that way it guesses. Markers at the start of what it is fed do not matter.
    """
    canonical = tokenizer.encode(text)
    guess = noise(tokenizer.vocab_size, scale=1.0)

    def next_logits(token_ids: tuple[int, ...]) -> Logits:
        fed = [token_id for token_id in token_ids if tokenizer.token_bytes(token_id)]
        logits = guess(token_ids)
        if fed == canonical[: len(fed)]:
            end = MARKERS.end_of_text if len(fed) == len(canonical) else canonical[len(fed)]
            logits[end] += confidence
        return logits

    return next_logits


class OneLine:
    """An index that knows one line, and has no opinion on tokens."""

    def __init__(self, probability: float, text: str = "total") -> None:
        self._line = Line(text, probability, ())

    def opinion(self, *_: object, **__: object) -> None:
        return None

    def ranked(self, *_: object) -> Future[list[Line]]:
        found: Future[list[Line]] = Future()
        found.set_result([self._line])
        return found
