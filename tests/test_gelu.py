"""The activation in bfloat16: what torch computes, and a derivative within bfloat16's rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from finetune import gelu as module
from finetune.gelu import gelu

FAR = 8.0


def by_torch(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and derivatives in fp32."""
    exact = x.detach().float().requires_grad_()
    value = functional.gelu(exact, approximate="tanh")
    (grad,) = torch.autograd.grad(value.sum(), exact)
    return value.detach(), grad


@pytest.mark.parametrize("n_rows", [0, 1, 4, 5])
def test_values_and_derivatives_are_torchs_within_bfloat16(n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 4)  # so that parts of a row, of all, and of more occur
    x = torch.linspace(-FAR, FAR, n_rows * 1001).reshape(n_rows, 1001).bfloat16().requires_grad_()
    value, grad = by_torch(x)
    found = gelu(x)
    (found_grad,) = torch.autograd.grad(found.sum(), x)
    assert found.dtype == found_grad.dtype == torch.bfloat16
    torch.testing.assert_close(found.detach().float(), value, rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(found_grad.float(), grad, rtol=2**-8, atol=1.5e-3)


def test_far_from_nought_it_is_the_line_or_nothing() -> None:
    x = torch.tensor([[-1e4, -100.0, 0.0, 100.0, 1e4]]).bfloat16().requires_grad_()
    found = gelu(x)
    assert found.tolist() == [[0.0, 0.0, 0.0, *x[0, 3:].tolist()]]
    (grad,) = torch.autograd.grad(found.sum(), x)
    assert grad.tolist() == [[0.0, 0.0, 0.5, 1.0, 1.0]]


def test_fp32_is_torchs_own_to_the_bit() -> None:
    x = torch.linspace(-FAR, FAR, 1001).reshape(1, -1).requires_grad_()
    value, grad = by_torch(x)
    found = gelu(x)
    assert torch.equal(found, value)
    assert torch.equal(torch.autograd.grad(found.sum(), x)[0], grad)
