"""Muon turns a matrix' gradient into a near-orthogonal step; everything else is AdamW's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from finetune.pretrain.gpt2 import GPT2, Shape
from finetune.pretrain.optimizer import Muon, optimizers, orthogonal

SHAPE = Shape(n_layer=2, n_embd=32, n_head=4, n_positions=16, vocab_size=50)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(2)


@pytest.mark.parametrize("n_rows, n_columns", [(16, 16), (16, 48), (64, 16)])
def test_singular_values_come_near_one(n_rows, n_columns):
    matrices = torch.randn(3, n_rows, n_columns) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1)
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.shape == (3, min(n_rows, n_columns))
    assert values.min() > 0.5 and values.max() < 1.4
    assert torch.linalg.svdvals(matrices[1]).max() > 2 * torch.linalg.svdvals(matrices[1]).min(), "not so before"


def test_the_directions_of_a_matrix_stay():
    u, _, vt = torch.linalg.svd(torch.randn(1, 12, 12))
    matrix = u @ torch.diag_embed(torch.linspace(1.0, 3.0, 12).unsqueeze(0)) @ vt
    found = u.transpose(1, 2) @ orthogonal(matrix) @ vt.transpose(1, 2)
    assert (found - torch.diag_embed(found.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3


def test_a_zero_gradient_gives_a_zero_step():
    assert not orthogonal(torch.zeros(1, 4, 4)).any()


def step_of(param: nn.Parameter, gradient: torch.Tensor, **options: float) -> torch.Tensor:
    before = param.detach().clone()
    param.grad = gradient.clone()
    Muon([param], lr=1.0, **options).step()
    return before - param.detach()


def test_query_key_and_value_are_matrices_of_their_own():
    gradient = torch.randn(16, 48)
    together = step_of(nn.Parameter(torch.zeros(16, 48)), gradient)
    for part, alone in zip(together.split(16, dim=1), gradient.split(16, dim=1), strict=True):
        torch.testing.assert_close(part, step_of(nn.Parameter(torch.zeros(16, 16)), alone))


def test_a_wide_matrix_steps_further():
    step = step_of(nn.Parameter(torch.zeros(16, 64)), torch.randn(16, 64))
    assert torch.linalg.svdvals(step).mean() == pytest.approx(2.0, rel=0.2)


def test_matrices_of_one_shape_do_not_mix():
    gradients = [torch.randn(16, 16), torch.randn(16, 16)]
    params = [nn.Parameter(torch.zeros(16, 16)) for _ in gradients]
    for param, gradient in zip(params, gradients, strict=True):
        param.grad = gradient
    Muon(params, lr=1.0).step()
    for param, gradient in zip(params, gradients, strict=True):
        torch.testing.assert_close(-param.detach(), step_of(nn.Parameter(torch.zeros(16, 16)), gradient))


def test_weights_decay_by_their_own_size():
    step = step_of(nn.Parameter(torch.full((4, 4), 2.0)), torch.zeros(4, 4), weight_decay=0.1)
    torch.testing.assert_close(step, torch.full((4, 4), 0.2))


def test_momentum_outlives_the_gradient():
    param = nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([param], lr=1.0)
    param.grad = torch.randn(8, 8)
    optimizer.step()
    before = param.detach().clone()
    param.grad = torch.zeros(8, 8)
    optimizer.step()
    assert (param.detach() - before).abs().max() > 0.1


def test_muon_takes_the_matrices_of_the_blocks_and_adam_the_rest():
    model = GPT2(SHAPE)
    muon, adam = optimizers(model, 0.02, 3e-3, 0.05)
    names = {id(param): name for name, param in model.named_parameters()}
    of_muon = {names[id(param)] for group in muon.param_groups for param in group["params"]}
    of_adam = {names[id(param)]: group["weight_decay"] for group in adam.param_groups for param in group["params"]}
    assert of_muon == {
        f"transformer.h.{layer}.{part}.weight"
        for layer in range(2)
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert of_muon | set(of_adam) == set(names.values())
    assert of_muon.isdisjoint(of_adam)
    assert {name for name, decay in of_adam.items() if decay} == {"transformer.wte.weight", "transformer.wpe.weight"}


def test_a_state_that_is_loaded_goes_on_alike():
    torch.manual_seed(4)
    gradients = [torch.randn(8, 24) for _ in range(4)]
    unbroken, broken = nn.Parameter(torch.zeros(8, 24)), nn.Parameter(torch.zeros(8, 24))
    optimizer = Muon([unbroken], lr=0.1)
    first, second = Muon([broken], lr=0.1), Muon([broken], lr=0.1)
    for number, gradient in enumerate(gradients):
        unbroken.grad, broken.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        if number == 2:
            second.load_state_dict(first.state_dict())
        (first if number < 2 else second).step()
    assert torch.equal(unbroken, broken)
