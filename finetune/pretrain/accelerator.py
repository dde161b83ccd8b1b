"""What a GPU is asked to do differently: precision, compilation, batches, and how much of its peak is used.

On a CPU nothing here changes a number: fp32, no compiler.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from finetune.pretrain.gpt2 import GPT2, Shape, chunk_loss, fusible_chunk_loss
from finetune.pretrain.run_folder import TrainingError
from finetune.pretrain.shards import Rows

logger = logging.getLogger(__name__)

GPU_LOSS_ROWS = 16_384  # a 16 k vocabulary then takes a gigabyte of fp32 logits
# Dense bfloat16 by the vendors' data sheets (SXM parts), in 10^12 operations a second.
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}


@dataclass(frozen=True, slots=True)
class Device:
    """Where a run computes."""

    kind: str  # "cpu" or "cuda"
    name: str
    peak_tflops: float | None  # None: no utilisation is told

    @property
    def is_gpu(self) -> bool:
        return self.kind == "cuda"

    def autocast(self) -> AbstractContextManager[object]:
        """bfloat16 for the matrix products of a GPU; parameters and optimizers stay fp32."""
        return torch.autocast("cuda", dtype=torch.bfloat16) if self.is_gpu else nullcontext()

    def put(self, rows: Rows) -> Tensor:
        """The rows as int64 on the device; a GPU's copy runs beside its work."""
        if not self.is_gpu:
            return torch.from_numpy(rows.astype(np.int64))
        pinned = torch.from_numpy(np.ascontiguousarray(rows).view(np.int16)).pin_memory()
        return pinned.to(self.kind, non_blocking=True).long() & 0xFFFF  # ids of 2^15 and more are negative as int16


def find_device(peak_tflops: float | None = None) -> Device:
    """The GPU if there is one; its peak is looked up by its name unless it is given."""
    if not torch.cuda.is_available():
        return Device("cpu", "cpu", peak_tflops)
    name = torch.cuda.get_device_name()
    known = next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
    return Device("cuda", name, peak_tflops or known)


def flops_per_token(shape: Shape, length: int) -> float:
    """Operations that training needs for a token, forward and backward, none counted twice.

    Six for each weight of a matrix product, the tied head included and looked-up embeddings not, and
    6 x layers x width x length for attention, of which the causal half alone is counted. So utilisation reads lower
    than by the count of PaLM (Chowdhery et al. 2022), which takes both halves.
    """
    weights = 12 * shape.n_layer * shape.n_embd**2 + shape.vocab_size * shape.n_embd
    return 6.0 * weights + 6.0 * shape.n_layer * shape.n_embd * length


def prepare(model: GPT2, device: Device, batches: Iterable[tuple[int, int]], compiled: bool) -> float:
    """Makes the model fast on a GPU and compiles it for batches of (rows, length); the seconds that this took.

    Where the compiler fails, the model runs without it, and the log says so. Raises `TrainingError` for batches that do
    not fit.
    """
    if not device.is_gpu:
        return 0.0
    started = time.monotonic()
    torch.set_float32_matmul_precision("high")  # TF32 for what stays fp32
    model.loss_rows = GPU_LOSS_ROWS
    shapes = list(batches)
    if compiled:
        compile_model(model)
    try:
        _try(model, device, shapes)
    except torch.OutOfMemoryError as error:
        raise _too_large(error) from error
    except RuntimeError as error:  # a missing C compiler, or a defect of the model's compiler
        if not compiled:
            raise
        logger.warning("cannot compile, running without: %s", str(error).strip().split("\n")[0])
        uncompile_model(model)
        try:
            _try(model, device, shapes)
        except torch.OutOfMemoryError as full:
            raise _too_large(full) from full
    return time.monotonic() - started


def compile_model(model: GPT2, backend: str = "inductor") -> None:
    """Compiles one block, whose code all blocks share, and the loss of a chunk; shapes are fixed."""
    for block in model.transformer.h:
        block.compile(dynamic=False, backend=backend)
    model.chunk_loss = torch.compile(fusible_chunk_loss, dynamic=False, backend=backend)


def uncompile_model(model: GPT2) -> None:
    """Undoes `compile_model`."""
    for block in model.transformer.h:
        block._compiled_call_impl = None  # torch has no public way back
    model.chunk_loss = chunk_loss


def _try(model: GPT2, device: Device, shapes: Iterable[tuple[int, int]]) -> None:
    """One forward and backward pass of each shape, which leaves the weights alone."""
    for n_rows, length in shapes:
        token_ids = torch.zeros((n_rows, length), dtype=torch.int64, device=device.kind)
        with device.autocast():
            loss = model.loss(token_ids, token_ids)
        loss.backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    torch.cuda.synchronize()


def _too_large(error: Exception) -> TrainingError:
    reason = str(error).split("\n")[0]
    return TrainingError(f"a batch does not fit on the device ({reason}); give a smaller --batch-tokens")
