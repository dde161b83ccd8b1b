"""The adapter: loss and gradients are peft's own, and its files are peft's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from finetune import head_loss
from finetune.lora import ROUND_ROWS, LoraModel, LoraShape, _kept
from finetune.pretrain.gpt2 import IGNORED
from server.lm.adapter import merge_adapter
from server.lm.checkpoint import open_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")

EXACT = LoraShape(4, 8, bf16=False)
SHAPES = [
    EXACT,
    replace(EXACT, rank=48, alpha=12),  # so high that the whole gradient of a weight is cheaper
    replace(EXACT, target_modules=("c_attn",)),
    replace(EXACT, token_rows=(3, 5, 9)),
    replace(EXACT, token_rows=tuple(range(5, 300))),
    replace(EXACT, norms=True),
]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Inputs and targets, some of them padding."""
    ids = torch.randint(0, 440, (3, 41), generator=torch.Generator().manual_seed(1))
    ids[:, 7] = 5  # a trained row, as input and as target
    targets = ids[:, 1:].clone()
    targets[0, -9:] = IGNORED
    return ids[:, :-1], targets


def shaken(folder: Path, shape: LoraShape, seed: int = 0) -> LoraModel:
    """An adapter that changes something."""
    model = LoraModel(folder, shape, seed)
    torch.manual_seed(seed)
    model.set_values({name: value + 0.05 * torch.randn_like(value) for name, value in model.values().items()})
    return model


def loss_by_peft(model: LoraModel, ids: Tensor, targets: Tensor) -> Tensor:
    logits = model.peft(input_ids=ids).logits
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def gradients(model: LoraModel, loss: Tensor) -> dict[str, Tensor]:
    named = model.parameters()
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradients_are_those_of_peft(
    tiny_checkpoint: Path, batch: tuple[Tensor, Tensor], shape: LoraShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_loss, "HEAD_ROWS", 50)  # so that the last part is a smaller one
    model = shaken(tiny_checkpoint, shape)
    n_targets = int((batch[1] != IGNORED).sum())
    found, expected = model.loss(*batch, n_targets), loss_by_peft(model, *batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(model, found), gradients(model, expected), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_divergence_and_its_gradients_are_those_of_peft(
    tiny_checkpoint: Path, batch: tuple[Tensor, Tensor], shape: LoraShape
) -> None:
    fresh = LoraModel(tiny_checkpoint, shape, 0)
    before = fresh.hidden_states(batch[0])
    wanted = torch.softmax(fresh.peft(input_ids=batch[0]).logits.detach(), dim=2)
    counted = batch[1] != IGNORED
    model = LoraModel(tiny_checkpoint, shape, 0)
    torch.manual_seed(0)
    model.set_values({name: value + 0.05 * torch.randn_like(value) for name, value in model.values().items()})
    found = model.divergence(*batch, before, 100.0)
    log_probs = torch.log_softmax(model.peft(input_ids=batch[0]).logits, dim=2)
    expected = -(wanted * log_probs).sum(dim=2)[counted].sum() / 100
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(model, found), gradients(model, expected), rtol=1e-3, atol=1e-5)
    for gradient in gradients(fresh, fresh.divergence(*batch, before, 100.0)).values():
        assert gradient.abs().max() < 1e-5  # the base is what is wanted


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_in_bfloat16_give_the_same_within_its_precision(
    tiny_checkpoint: Path, batch: tuple[Tensor, Tensor], shape: LoraShape
) -> None:
    exact, rounded = shaken(tiny_checkpoint, shape), shaken(tiny_checkpoint, replace(shape, bf16=True))
    expected, found = exact.loss(*batch, 111), rounded.loss(*batch, 111)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.0)
    found_gradients, expected_gradients = gradients(rounded, found), gradients(exact, expected)
    for name, expected_gradient in expected_gradients.items():
        assert found_gradients[name].dtype == torch.float32
        alike = functional.cosine_similarity(found_gradients[name].flatten(), expected_gradient.flatten(), dim=0)
        assert alike > 0.98, name


def test_only_the_adapter_is_trained(tiny_checkpoint: Path, batch: tuple[Tensor, Tensor]) -> None:
    model = shaken(tiny_checkpoint, EXACT)
    model.loss(*batch, 100).backward()
    with_gradient = {name for name, value in model.peft.named_parameters() if value.grad is not None}
    assert with_gradient == set(model.parameters())
    assert all("lora_" in name for name in with_gradient)


def test_parts_of_a_batch_add_up_to_the_whole(tiny_checkpoint: Path, batch: tuple[Tensor, Tensor]) -> None:
    model = shaken(tiny_checkpoint, EXACT)
    n_targets = int((batch[1] != IGNORED).sum())
    whole = gradients(model, model.loss(*batch, n_targets))
    halves = [gradients(model, model.loss(batch[0][part], batch[1][part], n_targets)) for part in ([0, 2], [1])]
    added = {name: halves[0][name] + halves[1][name] for name in whole}
    torch.testing.assert_close(added, whole, rtol=1e-4, atol=1e-6)


def test_without_gradients_the_loss_is_the_same(tiny_checkpoint: Path, batch: tuple[Tensor, Tensor]) -> None:
    model = shaken(tiny_checkpoint, EXACT)
    with torch.no_grad():
        bare = model.loss(*batch, 100)
    torch.testing.assert_close(bare, model.loss(*batch, 100).detach())


def test_a_fresh_adapter_changes_nothing(tiny_checkpoint: Path, batch: tuple[Tensor, Tensor]) -> None:
    base = transformers.GPT2LMHeadModel.from_pretrained(tiny_checkpoint)
    logits = base(input_ids=batch[0]).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten(), ignore_index=IGNORED, reduction="sum")
    for shape in SHAPES:
        found = LoraModel(tiny_checkpoint, shape, 0).loss(*batch, 1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_files_are_read_by_peft_and_merged_by_the_server(
    tiny_checkpoint: Path, tmp_path: Path, batch: tuple[Tensor, Tensor], shape: LoraShape
) -> None:
    model = shaken(tiny_checkpoint, shape)
    model.save(tmp_path)
    base = transformers.GPT2LMHeadModel.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        read = peft.PeftModel.from_pretrained(base, str(tmp_path))
        expected = model.peft(input_ids=batch[0]).logits
        torch.testing.assert_close(read(input_ids=batch[0]).logits, expected)
    by_peft = {name.removeprefix("transformer."): value for name, value in read.merge_and_unload().state_dict().items()}
    weights = open_checkpoint(tiny_checkpoint).weights
    merged = merge_adapter(weights, tmp_path)
    for name in weights:
        np.testing.assert_allclose(merged[name], by_peft[name].numpy(), atol=1e-5, err_msg=name)


def test_the_same_seed_gives_the_same_files_and_no_path_is_in_them(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        shaken(tiny_checkpoint, EXACT, seed).save(tmp_path / name)
    one, two, three = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}
        for name in ("one", "two", "three")
    )
    assert sorted(one) == ["adapter_config.json", "adapter_model.safetensors"]
    assert one == two
    assert one["adapter_model.safetensors"] != three["adapter_model.safetensors"]
    assert json.loads(one["adapter_config.json"])["base_model_name_or_path"] is None
    assert str(tiny_checkpoint).encode() not in one["adapter_config.json"]


def test_values_put_back_are_the_adapter_they_came_from(tiny_checkpoint: Path, batch: tuple[Tensor, Tensor]) -> None:
    for shape in SHAPES:
        first = shaken(tiny_checkpoint, shape)
        second = LoraModel(tiny_checkpoint, shape, 5)
        second.set_values(first.values())
        torch.testing.assert_close(second.loss(*batch, 1), first.loss(*batch, 1))


@pytest.mark.parametrize("token_rows", [(), (3, 5, 9)])
def test_an_untied_head_is_kept(
    make_checkpoint: Callable[..., Path], batch: tuple[Tensor, Tensor], token_rows: tuple[int, ...]
) -> None:
    from safetensors.numpy import save_file

    folder = make_checkpoint("untied", tie_word_embeddings=False)
    tensors = {name: value.numpy() for name, value in load_file(folder / "model.safetensors").items()}
    head = np.random.default_rng(0).standard_normal((440, 64)).astype(np.float32) * 0.2
    save_file({**tensors, "lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    model = shaken(folder, replace(EXACT, token_rows=token_rows))
    n_targets = int((batch[1] != IGNORED).sum())
    found, expected = model.loss(*batch, n_targets), loss_by_peft(model, *batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(model, found), gradients(model, expected), rtol=1e-3, atol=1e-5)


def test_new_markers_begin_as_the_mean_of_the_known_tokens(tiny_checkpoint: Path) -> None:
    model = LoraModel(tiny_checkpoint, replace(EXACT, token_rows=(440, 441)), 0)
    rows = next(value for name, value in model.values().items() if "trainable_tokens" in name)
    known = load_file(tiny_checkpoint / "model.safetensors")["transformer.wte.weight"]
    torch.testing.assert_close(rows, known.mean(dim=0).expand(2, -1))
    ids = torch.tensor([[440, 3, 441, 4]])
    torch.testing.assert_close(model.loss(ids, ids, 4), loss_by_peft(model, ids, ids))


@pytest.mark.parametrize("n_counted", [0, 1, 63, 64, 65, 190, 200])
def test_the_head_sees_all_rows_that_count_and_a_round_number(n_counted):
    counted = torch.zeros(200, dtype=torch.bool)
    counted[torch.randperm(200, generator=torch.Generator().manual_seed(n_counted))[:n_counted]] = True
    kept = _kept(counted)
    assert len(kept) == min(-(-n_counted // ROUND_ROWS) * ROUND_ROWS, 200) and len(kept.unique()) == len(kept)
    assert int(counted[kept].sum()) == n_counted
