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
    """All rows and heads at once; queries, keys and values lie apart, as torch would copy them for every product."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, batch: int, n_head: int) -> Tensor:
        query, key, value = apart = _apart(parts, batch, n_head)
        time, depth = query.shape[1:]
        query *= depth**-0.5
        mixed = torch.empty_like(query)
        later = torch.full((BLOCK, BLOCK), float("-inf"), dtype=parts.dtype).triu_(1)
        kept = []
        for start in range(0, time, BLOCK):
            end = min(start + BLOCK, time)
            scores = torch.bmm(query[:, start:end], key[:, :end].transpose(1, 2))
            scores[:, :, start:] += later[: end - start, : end - start]
            weights = torch.softmax(scores, dim=2, out=scores)
            mixed[:, start:end] = torch.bmm(weights, value[:, :end])
            kept.append(weights)
        ctx.save_for_backward(apart, *kept)
        ctx.batch = batch
        return _together(mixed[None], batch)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        apart, *kept = ctx.saved_tensors
        query, key, value = apart
        time, depth = query.shape[1:]
        grad = _apart(grad_outputs[0], ctx.batch, len(query) // ctx.batch, 1)[0]
        apart_grad = torch.empty_like(apart)
        query_grad, key_grad, value_grad = apart_grad
        for start in reversed(range(0, time, BLOCK)):  # the last block meets all keys, so that nothing is zeroed
            end = min(start + BLOCK, time)
            weights, out_grad = kept[start // BLOCK], grad[:, start:end]
            _add(value_grad[:, :end], torch.bmm(weights.transpose(1, 2), out_grad), end == time)
            weights_grad = torch.bmm(out_grad, value[:, :end].transpose(1, 2))
            scores_grad = torch._softmax_backward_data(weights_grad, weights, 2, weights.dtype)
            query_grad[:, start:end] = torch.bmm(scores_grad, key[:, :end])
            _add(key_grad[:, :end], torch.bmm(scores_grad.transpose(1, 2), query[:, start:end]), end == time)
        query_grad *= depth**-0.5
        return _together(apart_grad, ctx.batch), None, None


def _add(total: Tensor, more: Tensor, is_first: bool) -> None:
    if is_first:
        total.copy_(more)
    else:
        total += more


def _apart(parts: Tensor, batch: int, n_head: int, n_parts: int = 3) -> Tensor:
    """(batch * time, parts * width) -> a copy, (parts, batch * heads, time, depth)."""
    depth = parts.shape[1] // (n_parts * n_head)
    split = parts.view(batch, -1, n_parts, n_head, depth).permute(2, 0, 3, 1, 4)
    return split.clone(memory_format=torch.contiguous_format).view(n_parts, batch * n_head, -1, depth)


def _together(apart: Tensor, batch: int) -> Tensor:
    """The way back of `_apart`."""
    n_parts, n_all, time, depth = apart.shape
    split = apart.view(n_parts, batch, n_all // batch, time, depth).permute(1, 3, 0, 2, 4)
    return split.reshape(batch * time, -1)
