"""Reading checkpoints: what is found, what is refused, and that a refusal says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from server.lm.checkpoint import CheckpointError, open_checkpoint, read_config


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_shape_and_tensors_are_read(tiny_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint)
    config = checkpoint.config
    assert (config.n_layer, config.n_head, config.n_embd, config.n_inner) == (2, 4, 64, 256)
    assert (config.n_positions, config.vocab_size, config.layer_norm_epsilon) == (1024, 440, 1e-5)
    assert config.tied_head
    stored = load_file(tiny_checkpoint / "model.safetensors")
    assert checkpoint.weights["h.1.mlp.c_fc.bias"].tolist() == stored["transformer.h.1.mlp.c_fc.bias"].tolist()
    assert len(checkpoint.weights) == len(stored)


def test_other_names_and_types_hold_the_same_values(make_checkpoint: Callable[..., Path]) -> None:
    import ml_dtypes

    folder = make_checkpoint()
    expected = open_checkpoint(folder).weights["h.0.attn.c_attn.weight"]
    types = {"half": np.float16, "brain": ml_dtypes.bfloat16, "full": np.float32}
    for name, kind in types.items():
        rewrite(folder, lambda tensors, kind=kind: {k: v.astype(kind) for k, v in tensors.items()})
        value = open_checkpoint(folder).weights["h.0.attn.c_attn.weight"]
        assert value.dtype == kind, name
        np.testing.assert_allclose(value.astype(np.float32), expected, rtol=1e-2)
    rewrite(folder, lambda tensors: {k.removeprefix("transformer."): v for k, v in tensors.items()})
    np.testing.assert_allclose(open_checkpoint(folder).weights["h.0.attn.c_attn.weight"], expected, rtol=1e-2)


def test_sharded_weights_are_read(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = open_checkpoint(folder).weights
    assert all(np.array_equal(weights[name.removeprefix("transformer.")], tensors[name]) for name in names)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "field, value",
    [
        ("model_type", "llama"),
        ("activation_function", "relu"),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("reorder_and_upcast_attn", True),
        ("add_cross_attention", True),
        ("quantization_config", {"bits": 4}),
        ("n_layer", 0),
        ("n_head", 5),
        ("vocab_size", "many"),
        ("layer_norm_epsilon", -1.0),
    ],
)
def test_configuration_that_cannot_be_served_is_refused_by_name(
    make_checkpoint: Callable[..., Path], field: str, value: object
) -> None:
    folder = make_checkpoint()
    edit_config(folder, **{field: value})
    with pytest.raises(CheckpointError, match=f"config.json: .*{field} = "):
        read_config(folder)


def test_fields_that_change_nothing_are_accepted(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    edit_config(folder, activation_function="gelu_pytorch_tanh", resid_pdrop=0.2, n_inner=None, use_cache=False)
    assert read_config(folder).n_inner == 256


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def with_tensor(name: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: tensors | {name: value}


@pytest.mark.parametrize(
    "change, said",
    [
        (without("transformer.ln_f.bias"), r"lack the tensor ln_f\.bias"),
        (with_tensor("transformer.ln_f.bias", np.zeros(32, np.float32)), r"ln_f\.bias has shape \[32\].*\[64\]"),
        (with_tensor("transformer.ln_f.bias", np.zeros(64, np.int8)), r"ln_f\.bias is stored as I8; only F32"),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_refused_by_name(
    make_checkpoint: Callable[..., Path], change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    folder = make_checkpoint()
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [None, b"", b"\xff" * 40, b"[1, 2]", b"\x08\0\0\0\0\0\0\0{}      "])
def test_missing_and_damaged_files_are_named(
    make_checkpoint: Callable[..., Path], file: str, damage: bytes | None
) -> None:
    folder = make_checkpoint()
    (folder / file).unlink()
    if damage is not None:
        (folder / file).write_bytes(damage)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert str(folder) in str(caught.value)
    assert any(remedy in str(caught.value) for remedy in ("restore", "download", "name a folder"))


def test_a_truncated_weights_file_is_found_when_opening(make_checkpoint: Callable[..., Path]) -> None:
    path = make_checkpoint() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"cannot read .*model\.safetensors.*restore the file"):
        open_checkpoint(path.parent)


def test_pickled_weights_are_refused(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*can run code.*save_pretrained"):
        open_checkpoint(folder)


def test_fingerprint_covers_configuration_weights_and_tokenizer(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint("one")
    first = open_checkpoint(folder).fingerprint
    assert first == open_checkpoint(make_checkpoint("two")).fingerprint
    (folder / "README.md").write_text("irrelevant")
    assert open_checkpoint(folder).fingerprint == first
    seen = {first}
    for change in (
        lambda: edit_config(folder, note=1),
        lambda: rewrite(folder, with_tensor("transformer.ln_f.bias", np.ones(64, np.float32))),
        lambda: (folder / "tokenizer.json").write_text("{}"),
    ):
        change()
        seen.add(open_checkpoint(folder).fingerprint)
    assert len(seen) == 4
