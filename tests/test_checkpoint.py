"""Reading checkpoints: what is found and where, what is refused, and that a refusal says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from server.lm import checkpoint as checkpoint_module
from server.lm.checkpoint import CheckpointError, open_checkpoint, read_config, resolve_model


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def in_hub_cache(home: Path, name: str, commit: str = "abc123") -> Path:
    """An empty snapshot folder in the hub cache of this test."""
    snapshot = home / ".cache/huggingface/hub" / f"models--{name.replace('/', '--')}" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return snapshot


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


def test_home_folder_is_understood(user_directory: Path) -> None:
    (user_directory / "models").mkdir()
    assert resolve_model("~/models") == user_directory / "models"


def test_hub_name_resolves_to_the_snapshot_of_main(user_directory: Path) -> None:
    in_hub_cache(user_directory, "org/name", "new")
    wanted = in_hub_cache(user_directory, "org/name", "of-main")
    refs = wanted.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("of-main\n")
    assert resolve_model("org/name") == wanted


def test_hub_name_without_branch_resolves_to_its_snapshot(user_directory: Path) -> None:
    snapshot = in_hub_cache(user_directory, "org/name")
    assert resolve_model("org/name") == snapshot


@pytest.mark.parametrize(
    "variables, hub",
    [
        ({"HF_HUB_CACHE": "a", "HF_HOME": "b", "XDG_CACHE_HOME": "c"}, "a"),
        ({"HF_HOME": "b", "XDG_CACHE_HOME": "c"}, "b/hub"),
        ({"XDG_CACHE_HOME": "c"}, "c/huggingface/hub"),
        ({"HOME": "d"}, "d/.cache/huggingface/hub"),
    ],
    ids=["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"],
)
def test_hub_cache_is_where_the_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], hub: str
) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    snapshot = tmp_path / hub / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    assert resolve_model("org/name") == snapshot


@pytest.mark.parametrize("name", ["org/name", "gpt2"])
def test_unknown_name_says_how_to_download_it(name: str, user_directory: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model(name)
    assert f"`hf download {name}`" in str(caught.value)
    assert str(user_directory) in str(caught.value)


@pytest.mark.parametrize("name", ["/nowhere/model", "a/b/c", "../model", "two words", ""])
def test_what_cannot_be_a_hub_name_is_called_a_missing_folder(name: str) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        resolve_model(name)


def test_a_bare_name_means_the_hub_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_directory: Path
) -> None:
    for folder in ("gpt2", "org/name", "two words"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"gpt2 is not in the hub cache .*; for the folder, name \./gpt2"):
        resolve_model("gpt2")
    snapshot = in_hub_cache(user_directory, "gpt2")
    assert resolve_model("gpt2") == snapshot
    for name in ("./gpt2", "gpt2/", str(tmp_path / "gpt2")):
        assert resolve_model(name) == tmp_path / "gpt2"
    for name in ("org/name", "two words"):
        assert resolve_model(name) == tmp_path / name


@pytest.mark.parametrize("name", ["~no-such-user-here/model", "/" + 5000 * "x", 5000 * "x/"])
def test_a_name_that_the_system_refuses_is_a_problem_in_words(name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be looked for") as caught:
        resolve_model(name)
    assert len(str(caught.value)) < 400


def test_a_folder_that_may_not_be_looked_at_is_a_problem_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(CheckpointError, match=r"'/secret/model' cannot be looked for \(Permission denied\)"):
        resolve_model("/secret/model")


def test_default_is_the_model_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(checkpoint_module.__file__).parents[1]
    assert checkpoint_module._BASE_MODEL.relative_to(package) == Path("base_model")
    monkeypatch.setattr(checkpoint_module, "_BASE_MODEL", tmp_path)
    with pytest.raises(CheckpointError, match=r"base model is missing: .*reinstall loracle.*--model"):
        resolve_model("default")
    (tmp_path / "config.json").write_text("{}")
    assert resolve_model("default") == tmp_path
