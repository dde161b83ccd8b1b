"""Bits per byte of source text: under a model, under counts of tokens, under xz.

All count the bytes of the same files, so that the figures stand beside each other.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from finetune.pretrain.gpt2 import GPT2
from finetune.pretrain.ngram import NGram
from finetune.pretrain.samples import SourceFile
from server.lm.errors import UserError
from server.lm.prompt import file_header
from server.lm.tokenizer import BytePairTokenizer

WINDOW_TOKENS = 512  # what a completion prompt usually shows

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BitsPerByte:
    """A figure with what it was taken over."""

    bits: float
    n_bytes: int

    @property
    def value(self) -> float:
        """Bits per byte of source text."""
        return self.bits / max(self.n_bytes, 1)


def model_bits(
    model: GPT2, tokenizer: BytePairTokenizer, files: Sequence[SourceFile], window: int = WINDOW_TOKENS
) -> BitsPerByte:
    """Bits of the files' text under the model: left to right behind the path, in windows that overlap by half."""
    bits = sum(float(token_bits(model, tokenizer, file, window).sum()) for file in files)
    return BitsPerByte(bits, _n_bytes(files))


@torch.no_grad()
def token_bits(model: GPT2, tokenizer: BytePairTokenizer, file: SourceFile, window: int = WINDOW_TOKENS) -> Floats:
    """Bits of each token of a file's text, as `model_bits` counts them: (tokens,). Raises `UserError`."""
    special = tokenizer.special
    if special is None:
        raise UserError("the tokenizer has no prompt markers; evaluate a checkpoint that `finetune.pretrain` made")
    header = [*file_header(file.path, tokenizer, special), special.fim_prefix]
    ids = tokenizer.encode(file.text)
    n_shown = min(window, model.shape.n_positions) - len(header)
    parts: list[Floats] = [np.zeros(0)]
    first = 0
    while first < len(ids):
        past = max(first - n_shown // 2, 0)
        end = min(past + n_shown, len(ids))
        row = torch.tensor([[*header, *ids[past:end]]])
        n_new = end - first
        logits = model.head(model.hidden(row[:, :-1])[0, -n_new:])
        nats = functional.cross_entropy(logits, row[0, -n_new:], reduction="none")
        parts.append(nats.double().numpy() / math.log(2))
        first = end
    return np.concatenate(parts)


def byte_bits(token_ids: Sequence[int], bits: Floats, tokenizer: BytePairTokenizer) -> Floats:
    """Bits of each byte of the tokens' text: those of a token lie evenly on its bytes."""
    sizes = np.array([len(tokenizer.token_bytes(token_id)) for token_id in token_ids], dtype=np.int64)
    return np.repeat(bits / np.maximum(sizes, 1), sizes)


def xz_bits(files: Sequence[SourceFile]) -> BitsPerByte:
    """Bits that xz at its strongest (`xz -9e`) spends on all files in one stream."""
    data = b"".join(file.text.encode("utf-8") for file in files)
    return BitsPerByte(8.0 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)), len(data))


def ngram_bits(
    order: int, tokenizer: BytePairTokenizer, training: Sequence[SourceFile], files: Sequence[SourceFile]
) -> BitsPerByte:
    """Bits of the files' text under an n-gram model of the training files, with the same tokens as the model."""
    model = NGram(order, tokenizer.vocab_size, [tokenizer.encode(file.text) for file in training])
    bits = -sum(float(np.log2(model.probabilities(tokenizer.encode(file.text))).sum()) for file in files)
    return BitsPerByte(bits, _n_bytes(files))


def _n_bytes(files: Sequence[SourceFile]) -> int:
    return sum(len(file.text.encode("utf-8")) for file in files)
