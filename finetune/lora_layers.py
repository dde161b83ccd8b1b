"""The layers of a GPT-2 with LoRA whose backward computes only what is trained.

Backward, the gradients of the two low-rank matrices come from four thin products, and nothing is computed for frozen
weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class Linear:
    """One linear layer: frozen, or with its low-rank update merged in."""

    def __init__(self, part: Any, dtype: torch.dtype) -> None:
        base = getattr(part, "base_layer", part)
        self._weight = base.weight
        self._dtype = dtype
        self._bias = base.bias.detach().to(dtype)
        self._merged = self._weight.detach().to(dtype)
        self._down = self._up = None
        if base is not part:
            self._down, self._up = part.lora_A["default"].weight, part.lora_B["default"].weight
            self._scale = float(part.scaling["default"])

    def merge(self) -> None:
        """Takes up the low-rank matrices as they are now."""
        if self._down is not None and self._up is not None:
            merged = torch.addmm(self._weight, self._down.t(), self._up.t(), alpha=self._scale)
            self._merged = merged.to(self._dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, inputs) -> (rows, outputs)."""
        if self._down is None:
            return torch.addmm(self._bias, x, self._merged)
        out: Tensor = _MergedLinear.apply(x, self._merged, self._bias, self._down, self._up, self._scale)  # type: ignore[no-untyped-call]
        return out


class _MergedLinear(torch.autograd.Function):
    """x (W + scale (B A)^T) + bias, with W + ... given; gradients for x, A and B only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, merged: Tensor, bias: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, merged, down, up)
        ctx.scale = scale
        return torch.addmm(bias, x, merged)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, merged, down, up = ctx.saved_tensors
        grad = grad_outputs[0]
        thin_down, thin_up = down.to(x.dtype), up.to(x.dtype)
        x_grad = grad @ merged.t() if ctx.needs_input_grad[0] else None
        (rank, n_inputs), n_outputs = down.shape, up.shape[0]
        if 2 * rank * (n_inputs + n_outputs) < n_inputs * n_outputs:
            down_grad = ((grad @ thin_up).t() @ x).float()
            up_grad = (grad.t() @ (x @ thin_down.t())).float()
        else:  # at a high rank the whole gradient is cheaper than the four thin products
            whole = (x.t() @ grad).float()
            down_grad = (whole @ up).t()
            up_grad = (down @ whole).t()
        return x_grad, None, None, down_grad.mul(ctx.scale), up_grad.mul(ctx.scale), None


class RowsOfEmbedding(torch.autograd.Function):
    """Looks tokens up; gradients only for the rows that are trained."""

    @staticmethod
    def forward(ctx: Any, token_ids: Tensor, table: Tensor, rows: Tensor, new_rows: Tensor) -> Tensor:
        ctx.save_for_backward(token_ids, rows)
        ctx.n_tokens = table.shape[0]
        return functional.embedding(token_ids, table)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, None, None, Tensor]:
        token_ids, rows = ctx.saved_tensors
        grad = grad_outputs[0].reshape(-1, grad_outputs[0].shape[-1])
        place = torch.full((ctx.n_tokens,), -1, device=grad.device)
        place[rows] = torch.arange(len(rows), device=grad.device)
        found = place[token_ids.reshape(-1)]
        trained = found >= 0
        out = torch.zeros(len(rows), grad.shape[1], device=grad.device)
        return None, None, None, out.index_add_(0, found[trained], grad[trained])
