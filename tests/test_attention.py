"""Attention in blocks: what torch's own computes, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from finetune import attention
from finetune.attention import causal_attention

N_HEAD, DEPTH = 2, 8


def by_torch(parts: Tensor, batch: int) -> Tensor:
    query, key, value = parts.view(batch, -1, 3, N_HEAD, DEPTH).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    return mixed.transpose(1, 2).reshape(parts.shape[0], -1)


@pytest.mark.parametrize("batch, time", [(1, 1), (2, 15), (2, 16), (3, 17), (1, 50)])
def test_values_and_gradients_are_those_of_torch(batch: int, time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", 16)  # so that rows of less than one block, of one, and of more occur
    torch.manual_seed(0)
    parts = torch.randn(batch * time, 3 * N_HEAD * DEPTH, requires_grad=True)
    weight = torch.randn(batch * time, N_HEAD * DEPTH)
    found, expected = causal_attention(parts, batch, N_HEAD), by_torch(parts, batch)
    torch.testing.assert_close(found, expected)
    (found_grad,) = torch.autograd.grad((found * weight).sum(), parts)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), parts)
    torch.testing.assert_close(found_grad, expected_grad)


def test_what_comes_later_changes_nothing_before() -> None:
    torch.manual_seed(0)
    parts = torch.randn(200, 3 * N_HEAD * DEPTH)
    changed = parts.clone()
    changed[150:] = torch.randn(50, 3 * N_HEAD * DEPTH)
    before, after = causal_attention(parts, 1, N_HEAD), causal_attention(changed, 1, N_HEAD)
    assert torch.equal(before[:150], after[:150])
    assert not torch.equal(before[150:], after[150:])
