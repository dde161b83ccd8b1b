"""Merging adapters: as peft merges them, or a refusal that names what cannot be merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from server.lm.adapter import AdapterError, merge_adapter
from server.lm.checkpoint import open_checkpoint

RANK, WIDTH = 2, 64
ATTENTION = "base_model.model.transformer.h.0.attn.c_attn"


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["c_attn", "c_proj", "c_fc"]},
        {"target_modules": ["c_attn"], "use_rslora": True, "rank_pattern": {"h.0.attn.c_attn": 2}},
        {"target_modules": ["c_attn"], "bias": "lora_only"},
        {"target_modules": ["c_fc"], "modules_to_save": ["ln_f", "ln_1"]},
        {"target_modules": ["c_attn"], "trainable_token_indices": {"wte": [3, 5, 7]}},
        {"target_modules": ["c_attn"], "trainable_token_indices": [4]},
    ],
    ids=lambda options: " ".join(sorted(options)),
)
def test_merged_weights_are_those_of_peft(tiny_checkpoint: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    import peft
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    base = transformers.GPT2LMHeadModel.from_pretrained(tiny_checkpoint)
    lora = peft.LoraConfig(r=4, lora_alpha=12, fan_in_fan_out=True, **options)
    model = peft.get_peft_model(base, lora)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    merged_by_peft = model.merge_and_unload().state_dict()
    expected = {name.removeprefix("transformer."): value for name, value in merged_by_peft.items()}

    weights = open_checkpoint(tiny_checkpoint).weights
    merged = merge_adapter(weights, tmp_path)
    assert set(merged) == set(weights)
    changed = [name for name in weights if not np.array_equal(merged[name], weights[name])]
    assert changed
    for name in weights:
        np.testing.assert_allclose(merged[name], expected[name].numpy(), atol=1e-5, err_msg=name)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter folder with the least that can be merged."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4}))
    save_file(
        {
            f"{ATTENTION}.lora_A.weight": np.ones((RANK, WIDTH), np.float32),
            f"{ATTENTION}.lora_B.weight": np.ones((3 * WIDTH, RANK), np.float32),
        },
        tmp_path / "adapter_model.safetensors",
    )
    return tmp_path


def matrix(n_rows: int, n_columns: int) -> np.ndarray:
    return np.zeros((n_rows, n_columns), np.float32)


def with_tensors(folder: Path, **tensors: Any) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path) | {name.replace("__", "."): value for name, value in tensors.items()}, path)


def with_fields(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_update_is_scaled_by_alpha_over_rank(tiny_checkpoint: Path, adapter: Path) -> None:
    weights = open_checkpoint(tiny_checkpoint).weights
    name = "h.0.attn.c_attn.weight"
    np.testing.assert_allclose(merge_adapter(weights, adapter)[name], weights[name] + 4 / RANK * RANK, rtol=1e-5)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda folder: with_fields(folder, peft_type="IA3"), "peft_type = 'IA3'"),
        (lambda folder: with_fields(folder, use_dora=True), "use_dora = True"),
        (lambda folder: with_fields(folder, alpha_pattern={"c_attn": 2}), "alpha_pattern"),
        (lambda folder: with_tensors(folder, lm_head__weight=matrix(440, 64)), r"lm_head\.weight"),
        (lambda folder: with_tensors(folder, wte__weight=matrix(440, 64)), r"wte\.weight"),
        (lambda folder: with_tensors(folder, wte__lora_embedding_A=matrix(2, 440)), "lora_embedding_A"),
        (
            lambda folder: with_tensors(
                folder,
                lm_head__lora_A__weight=matrix(2, 64),
                lm_head__lora_B__weight=matrix(440, 2),
            ),
            r"lm_head\.lora_A\.weight",
        ),
        (lambda folder: with_tensors(folder, x__lora_A__weight=matrix(2, 64)), "2 A and 1 B"),
        (
            lambda folder: with_tensors(folder, **{f"{ATTENTION}.lora_B.weight": matrix(100, 2)}),
            r"h\.0\.attn\.c_attn\.weight with shape \(64, 100\), the base model has \(64, 192\)",
        ),
        (
            lambda folder: with_tensors(folder, wte__token_adapter__trainable_tokens_delta=matrix(2, 64)),
            r"wte\.token_adapter",  # and no indices in the configuration
        ),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), r"adapter_config\.json.*train"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), r"adapter_model\.safetensors.*train"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), r"adapter_model\.safetensors.*train"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_named(
    tiny_checkpoint: Path, adapter: Path, change: Callable[[Path], None], said: str
) -> None:
    change(adapter)
    with pytest.raises(AdapterError, match=said):
        merge_adapter(open_checkpoint(tiny_checkpoint).weights, adapter)


@pytest.mark.parametrize(
    ("down", "up", "indices", "said"),
    [
        ((2, 64), (192, 3), None, "cannot be multiplied"),
        ((64,), (192, 2), None, "cannot be multiplied"),
        ((0, 64), (192, 0), None, "cannot be multiplied"),
        ((2, 64), (192, 2), [-1, 3], "names the tokens"),
        ((2, 64), (192, 2), [], "names the tokens"),
        ((2, 64), (192, 2), [440, 442], "changes 2 rows"),
    ],
)
def test_matrices_that_do_not_fit_each_other_are_refused(
    tiny_checkpoint: Path,
    tmp_path: Path,
    down: tuple[int, ...],
    up: tuple[int, ...],
    indices: list[int] | None,
    said: str,
) -> None:
    tensors = {
        f"{ATTENTION}.lora_A.weight": np.zeros(down, np.float32),
        f"{ATTENTION}.lora_B.weight": np.zeros(up, np.float32),
    }
    fields: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}
    if indices is not None:
        name = "base_model.model.transformer.wte.token_adapter.trainable_tokens_delta"
        tensors[name] = np.zeros((max(len(indices), 1), WIDTH), np.float32)
        fields["trainable_token_indices"] = {"wte": indices}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
    with pytest.raises(AdapterError, match=said):
        merge_adapter(open_checkpoint(tiny_checkpoint).weights, tmp_path)
