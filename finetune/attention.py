"""Causal attention in blocks of queries, with its gradient: on a CPU faster than torch's own.

Torch's CPU kernel computes the half above the diagonal too, and computes the weights again on the way back. Here each
block of queries meets the keys up to its own end only, and its weights are kept. Elsewhere torch's kernel is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 128  # queries


def causal_attention(parts: Tensor, batch: int, n_head: int) -> Tensor:
    """Queries, keys and values side by side, (batch * time, 3 * width) -> (batch * time, width)."""
    if parts.device.type == "cpu":
        out: Tensor = _BlockedAttention.apply(parts, batch, n_head)  # type: ignore[no-untyped-call]
        return out
    width = parts.shape[1] // 3
    query, key, value = parts.view(batch, -1, 3, n_head, width // n_head).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    return mixed.transpose(1, 2).reshape(-1, width)


class _BlockedAttention(torch.autograd.Function):
    """One row of the batch at a time, all heads at once."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, batch: int, n_head: int) -> Tensor:
        query, key, value = _split(parts, batch, n_head)
        time, depth = query.shape[2:]
        out = parts.new_empty(parts.shape[0], parts.shape[1] // 3)
        mixed = out.view(batch, time, n_head, depth).transpose(1, 2)
        kept = []
        later = torch.full((BLOCK, BLOCK), float("-inf"), dtype=parts.dtype).triu_(1)
        for row in range(batch):
            for start in range(0, time, BLOCK):
                end = min(start + BLOCK, time)
                scores = torch.bmm(query[row, :, start:end], key[row, :, :end].transpose(1, 2)).mul_(depth**-0.5)
                scores[:, :, start:] += later[: end - start, : end - start]
                weights = torch.softmax(scores, dim=2, out=scores)
                mixed[row, :, start:end] = torch.bmm(weights, value[row, :, :end])
                kept.append(weights)
        ctx.save_for_backward(parts, *kept)
        ctx.batch, ctx.n_head = batch, n_head
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        parts, *kept = ctx.saved_tensors
        query, key, value = _split(parts, ctx.batch, ctx.n_head)
        time, depth = query.shape[2:]
        grad = grad_outputs[0].contiguous().view(ctx.batch, time, ctx.n_head, depth).transpose(1, 2)
        parts_grad = torch.zeros_like(parts)
        query_grad, key_grad, value_grad = _split(parts_grad, ctx.batch, ctx.n_head)
        weights_of = iter(kept)
        for row in range(ctx.batch):
            for start in range(0, time, BLOCK):
                end = min(start + BLOCK, time)
                weights, out_grad = next(weights_of), grad[row, :, start:end]
                value_grad[row, :, :end] += torch.bmm(weights.transpose(1, 2), out_grad)
                weights_grad = torch.bmm(out_grad, value[row, :, :end].transpose(1, 2))
                scores_grad = torch._softmax_backward_data(weights_grad, weights, 2, weights.dtype)
                scores_grad *= depth**-0.5
                query_grad[row, :, start:end] = torch.bmm(scores_grad, key[row, :, :end])
                key_grad[row, :, :end] += torch.bmm(scores_grad.transpose(1, 2), query[row, :, start:end])
        return parts_grad, None, None


def _split(parts: Tensor, batch: int, n_head: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of queries, keys and values, each (batch, heads, time, depth)."""
    width = parts.shape[1] // 3
    query, key, value = parts.view(batch, -1, 3, n_head, width // n_head).permute(2, 0, 3, 1, 4)
    return query, key, value
