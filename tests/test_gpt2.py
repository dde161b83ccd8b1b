"""Our GPT-2 against transformers' own, and the chunked loss against plain cross-entropy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import GPT2LMHeadModel

from finetune.pretrain import gpt2
from finetune.pretrain.gpt2 import GPT2, IGNORED, ChunkedLoss, Shape
from finetune.pretrain.run_folder import load_checkpoint, save_checkpoint
from server.lm.checkpoint import tensor_shapes
from server.lm.engine import ModelConfig

SHAPE = Shape(n_layer=2, n_embd=32, n_head=4, n_positions=48, vocab_size=300)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def model(tmp_path: Path) -> GPT2:
    """Random weights as they are after rounding to fp16, larger than at the start, biases and norms included."""
    torch.manual_seed(3)
    made = GPT2(SHAPE)
    with torch.no_grad():
        for param in made.parameters():
            param.add_(0.1 * torch.randn_like(param))
    save_checkpoint(made, tmp_path / "checkpoint")
    return load_checkpoint(tmp_path / "checkpoint")


@pytest.fixture
def theirs(model: GPT2, tmp_path: Path) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(tmp_path / "checkpoint", dtype=torch.float32).eval()


@pytest.fixture
def token_ids() -> torch.Tensor:
    return torch.randint(SHAPE.vocab_size, (3, 40), generator=torch.Generator().manual_seed(5))


def test_transformers_reads_the_checkpoint_and_gives_the_same_logits(model, theirs, token_ids):
    with torch.no_grad():
        expected = theirs(token_ids).logits
        assert expected.std() > 0.3, "logits that differ"
        torch.testing.assert_close(model.logits(token_ids), expected, rtol=1e-4, atol=1e-5)


def test_transformers_gives_the_same_loss_and_gradients(model, theirs, token_ids):
    labels = token_ids.clone()
    labels[1, 20:] = IGNORED
    loss = model.loss(token_ids[:, :-1], labels[:, 1:])
    expected = theirs(token_ids, labels=labels).loss
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    expected.backward()
    their_gradients = {name: param.grad for name, param in theirs.named_parameters()}
    for name, param in model.named_parameters():
        torch.testing.assert_close(param.grad, their_gradients[name], rtol=1e-3, atol=1e-6)


def test_the_tensors_are_those_that_serving_expects(model):
    config = ModelConfig(2, 4, 32, 128, 48, 300, 1e-5)
    stored = {name.removeprefix("transformer."): tuple(value.shape) for name, value in model.state_dict().items()}
    assert stored == tensor_shapes(config)


@pytest.mark.parametrize("n_rows", [1, 4, 5, 8, 21])
def test_the_loss_in_chunks_is_the_loss(monkeypatch, n_rows):
    monkeypatch.setattr(gpt2, "LOSS_ROWS", 4)
    torch.manual_seed(1)
    hidden, weight = torch.randn(n_rows, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(50, (n_rows,))
    targets[n_rows // 2 + 1 :: 3] = IGNORED
    chunked = 2.5 * ChunkedLoss.apply(hidden, weight, targets)
    expected = 2.5 * functional.cross_entropy(hidden @ weight.t(), targets, ignore_index=IGNORED)
    torch.testing.assert_close(chunked, expected)
    found = torch.autograd.grad(chunked, (hidden, weight))
    torch.testing.assert_close(found, torch.autograd.grad(expected, (hidden, weight)))


def test_nothing_to_predict_costs_nothing():
    hidden = torch.randn(3, 8, requires_grad=True)
    loss = ChunkedLoss.apply(hidden, torch.randn(9, 8), torch.full((3,), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not hidden.grad.any()


def test_no_token_sees_what_follows(model, token_ids):
    changed = token_ids.clone()
    changed[:, 25:] = 0
    with torch.no_grad():
        torch.testing.assert_close(model.logits(changed)[:, :25], model.logits(token_ids)[:, :25])


def test_a_fresh_model_guesses_evenly():
    torch.manual_seed(1)
    token_ids = torch.randint(SHAPE.vocab_size, (4, 40))
    loss = GPT2(SHAPE).loss(token_ids[:, :-1], token_ids[:, 1:])
    assert float(loss.detach()) == pytest.approx(torch.tensor(300.0).log().item(), abs=0.1)
