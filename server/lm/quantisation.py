"""Weights in 8 bits: blocks of a row share one scale, in the layout of onnxruntime's MatMulNBits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BITS = 8
# All products in 8 bits, in blocks of 32: the best token is that of fp32 at 98.4 % of 8,500 tokens, at 0.08 % more bits
# (shipped model; `python -P -m tests.bench fidelity` measures it again). Blocks of 16 cost a tenth more bytes and gain
# 0.03 % of the bits. With the last product of each layer in fp32, whose inputs have outliers, it was 98.8 %, at
# 45 MB more and 1.35 times the time for a token.
BLOCK_SIZE = 32

_ZERO = 1 << (BITS - 1)  # the code of 0.0; MatMulNBits assumes it where no zero points are given
_ROWS_AT_ONCE = 1024  # bounds the working memory: a token embedding has tens of thousands of rows


def quantise(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(codes, scales) of a matrix (outputs, inputs): (outputs, blocks, BLOCK_SIZE) and (outputs, blocks).

    A value is scale * (code - 128). The last block of a row is filled up with zeros where the width needs it.
    """
    n_outputs, n_inputs = matrix.shape
    n_blocks = -(-n_inputs // BLOCK_SIZE)
    codes = np.empty((n_outputs, n_blocks, BLOCK_SIZE), np.uint8)
    scales = np.empty((n_outputs, n_blocks), np.float32)
    for start in range(0, n_outputs, _ROWS_AT_ONCE):
        rows = matrix[start : start + _ROWS_AT_ONCE]
        padded = np.zeros((len(rows), n_blocks * BLOCK_SIZE), np.float32)
        padded[:, :n_inputs] = rows
        end = start + len(rows)
        codes[start:end], scales[start:end] = _quantise_blocks(padded.reshape(len(rows), n_blocks, BLOCK_SIZE))
    return codes, scales


def _quantise_blocks(blocks: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(codes, scales) of (rows, blocks, BLOCK_SIZE)."""
    highest, lowest = blocks.max(axis=2), blocks.min(axis=2)
    extremes = np.where(highest > -lowest, highest, lowest)
    # There is one code more below zero than above. A negative scale turns a positive extreme to that side.
    scales = extremes / -_ZERO
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales != 0)
    codes = np.rint(blocks * inverse[:, :, None]) + _ZERO
    return codes.clip(0, 2 * _ZERO - 1).astype(np.uint8), scales
