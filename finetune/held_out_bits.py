"""How many bits a text costs a model that serves, window by window: of long files a part of each is as fair as a whole.

A window is judged behind what stands before it, half a window or more. Those of one file are drawn by hash, and all
files have their turn: where the time ends early, each of them has been looked into.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from finetune.points import Source
from server.lm.model import LoadedModel
from server.lm.prompt import file_header
from server.lm.tokenizer import Tokenizer

WINDOW_TOKENS = 512
_NATS = math.log(2)

Both = Callable[[Callable[[LoadedModel], float]], tuple[float, float]]  # asks base and adapter, in this order


@dataclass(frozen=True, slots=True)
class FileBits:
    """What the measured windows of one file cost."""

    path: str
    n_bytes: int
    before: float  # bits, under the base
    after: float  # under the adapter


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens that are judged, behind those that are only read."""

    past: int  # the first that is read
    first: int  # the first that is judged
    end: int


def windows(n_tokens: int, n_shown: int, first: int) -> Iterator[Window]:
    """The windows that judge each of the tokens from `first` on once; `n_shown` are seen at a time."""
    while first < n_tokens:
        past = max(first - n_shown // 2, 0)
        end = min(past + n_shown, n_tokens)
        yield Window(past, first, end)
        first = end


def file_bits(model: LoadedModel, path: str, ids: Sequence[int], parts: Sequence[Window]) -> float:
    """Bits of what the windows judge: left to right behind the file's path."""
    return sum(window_bits(model, path, ids, window) for window in parts)


def window_bits(model: LoadedModel, path: str, ids: Sequence[int], window: Window) -> float:
    """Bits of the tokens that a window judges, of all `ids` of a file."""
    shown = [*_header(model, path), *ids[window.past : window.end - 1]]
    n_judged = window.end - window.first
    logits = model.completion_cache.advance(shown, n_keep=n_judged).logits
    assert logits is not None
    rows = logits[:, : model.tokenizer.vocab_size].astype(np.float64)
    highest = rows.max(axis=1)
    normal = highest + np.log(np.exp(rows - highest[:, None]).sum(axis=1))
    return float((normal - rows[np.arange(n_judged), ids[window.first : window.end]]).sum()) / _NATS


def bits_of_files(
    both: Both, models: Sequence[LoadedModel], files: Sequence[Source], seed: int, ends_at: float
) -> tuple[list[FileBits], float]:
    """Bits of as many windows as there is time for, at least of one; and the share of all bytes that they hold.

    `models` are base and adapter, whose tokens of a text are the same. `ends_at` is in seconds of `time.monotonic`.
    """
    tokenizer = models[0].tokenizer
    texts = [(file.path, tokenizer.encode(file.text)) for file in files]
    texts.sort(key=lambda each: _drawn(seed, each[0]))
    turns = []
    for number, (path, ids) in enumerate(texts):
        drawn = sorted(windows_of(models, path, ids), key=lambda window: _drawn(seed, f"{path}:{window.first}"))
        turns += [(turn, number, window) for turn, window in enumerate(drawn)]
    found: dict[int, FileBits] = {}
    for _, number, window in sorted(turns, key=lambda each: each[:2]):
        if found and time.monotonic() >= ends_at:
            break
        path, ids = texts[number]
        before, after = both(partial(window_bits, path=path, ids=ids, window=window))
        n_bytes = _n_bytes(tokenizer, ids[window.first : window.end])
        former = found.get(number, FileBits(path, 0, 0.0, 0.0))
        found[number] = FileBits(path, former.n_bytes + n_bytes, former.before + before, former.after + after)
    n_all = sum(_n_bytes(tokenizer, ids) for _, ids in texts)
    return list(found.values()), sum(each.n_bytes for each in found.values()) / max(n_all, 1)


def windows_of(models: Sequence[LoadedModel], path: str, ids: Sequence[int]) -> list[Window]:
    """The windows of a file that each of `models` can be asked for behind its own header."""
    headers = [_header(model, path) for model in models]
    n_positions = min(model.engine.config.n_positions for model in models)
    n_shown = min(WINDOW_TOKENS, n_positions) - max(len(header) for header in headers)
    # Nothing stands before the first token where there is no header.
    return list(windows(len(ids), n_shown, 0 if all(headers) else 1))


def _header(model: LoadedModel, path: str) -> list[int]:
    special = model.tokenizer.special
    return [] if special is None else [*file_header(path, model.tokenizer, special), special.fim_prefix]


def _n_bytes(tokenizer: Tokenizer, ids: Sequence[int]) -> int:
    return sum(len(tokenizer.token_bytes(token_id)) for token_id in ids)


def _drawn(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogatepass")).digest()
