"""What a GPU does differently gives the same, as far as a CPU can show it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from finetune.pretrain import accelerator
from finetune.pretrain.accelerator import Device, flops_per_token
from finetune.pretrain.gpt2 import GPT2, IGNORED, ChunkedLoss, Shape, chunk_loss, fusible_chunk_loss

SHAPE = Shape(n_layer=3, n_embd=32, n_head=4, n_positions=48, vocab_size=300)


@pytest.fixture
def model() -> GPT2:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    return GPT2(SHAPE)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(300, (2, 41), generator=torch.Generator().manual_seed(5))
    targets = ids[:, 1:].clone()
    targets[1, 20:] = IGNORED
    return ids[:, :-1], targets


def gradients(model: GPT2, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = model.loss(*batch)
    loss.backward()
    return {"loss": loss.detach()} | {name: param.grad.clone() for name, param in model.named_parameters()}


def test_the_loss_that_a_compiler_can_fuse_is_the_loss():
    torch.manual_seed(1)
    hidden, weight = torch.randn(21, 16), torch.randn(50, 16)
    targets = torch.randint(50, (21,))
    targets[::4] = IGNORED
    count = torch.tensor(15)
    found = fusible_chunk_loss(hidden, weight, targets, count)
    torch.testing.assert_close(found, chunk_loss(hidden, weight, targets, count))
    assert float(found[0]) > 0


def test_larger_chunks_change_only_the_rounding(model, batch):
    expected = gradients(model, batch)
    model.loss_rows, model.chunk_loss = 7, fusible_chunk_loss
    torch.testing.assert_close(gradients(model, batch), expected)


def test_bfloat16_comes_close_and_the_parameters_stay_fp32(model, batch, monkeypatch):
    expected = gradients(model, batch)
    seen = []
    forward = ChunkedLoss.forward
    monkeypatch.setattr(
        ChunkedLoss,
        "forward",
        staticmethod(lambda ctx, hidden, *rest: seen.append(hidden.dtype) or forward(ctx, hidden, *rest)),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(model, batch)
    assert seen == [torch.bfloat16]
    assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=0.01)
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - value).norm() < 0.05 * value.norm() + 1e-6, name


def test_rows_become_ids_of_the_model(monkeypatch):
    rows = np.array([[0, 1, 40_000, 65_535]], dtype=np.uint16)
    assert Device("cpu", "cpu", None).put(rows).tolist() == rows.tolist()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_args, **_options: tensor)
    assert Device("cuda", "H200", None).put(rows).tolist() == rows.tolist()


def test_operations_are_counted_for_what_is_multiplied(model):
    matrices = [p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "wpe" not in name]
    attention = 3 * (2 * 2 * 40 / 2 * 32) * 3  # forward and twice as much backward; scores and mix; half of them
    assert flops_per_token(SHAPE, 40) == 6 * sum(matrices) + attention


@pytest.mark.parametrize(
    "name, given, peak", [("NVIDIA H200", None, 989.0), ("NVIDIA H200", 800.0, 800.0), ("X", None, None)]
)
def test_the_peak_is_known_by_name_unless_it_is_given(monkeypatch, name, given, peak):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert accelerator.find_device(given) == Device("cuda", name, peak)
