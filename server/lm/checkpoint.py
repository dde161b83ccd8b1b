"""Reading a GPT-2 checkpoint: its shape, its weights and its fingerprint.

Everything that is wrong with a checkpoint is found here and told as a `CheckpointError`. Knows nothing of where models
lie. Needs numpy and safetensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from server.lm.engine import ModelConfig
from server.lm.errors import UserError

Weights = Mapping[str, NDArray[Any]]  # the tensors of a model by name, as `CheckpointWeights` names them

CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")

_READABLE = ("F32", "F16", "BF16")

# Of these configuration fields the graph implements the first value only; the others mean the same computation.
_SUPPORTED: Mapping[str, tuple[object, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
}
# What transformers assumes where config.json is silent.
_DEFAULTS: Mapping[str, int] = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 50257}


class CheckpointError(UserError):
    """A model cannot be found or read, or is of a kind that is not supported."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A GPT-2 on disk, checked but not yet read."""

    folder: Path
    config: ModelConfig
    weights: Weights  # of the files, or with an adapter merged in
    fingerprint: str  # sha256 over configuration, weights and tokenizer
    explains_by_default: bool = True  # False: by its maker's own measure a function's name says more


class CheckpointWeights(Mapping[str, NDArray[Any]]):
    """The tensors of a checkpoint by name, each read from its file when asked for, so that they need not all fit.

    Names are without the `transformer.` that some checkpoints carry: `wte.weight`, `h.0.attn.c_attn.weight`, ...
    Values are float32, float16 or bfloat16 as stored.
    """

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        """`files`: which file of the folder holds a tensor, by its name in the file."""
        self._folder = folder
        self._stored = {name.removeprefix("transformer."): (name, file) for name, file in files.items()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        import ml_dtypes  # noqa: F401 (importing it teaches numpy bfloat16; onnx brings it along)
        from safetensors import SafetensorError, safe_open

        stored_name, file = self._stored[name]
        try:
            with safe_open(self._folder / file, framework="numpy") as tensors:
                value: NDArray[Any] = tensors.get_tensor(stored_name)
        except (OSError, SafetensorError) as error:
            raise _damaged(self._folder / file, error) from error
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def open_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`; every tensor is known to be there with its shape, none is read yet."""
    config = read_config(folder)
    files = _weight_files(folder)
    weights = CheckpointWeights(folder, files)
    _check_tensors(folder, files, config)
    fingerprint = _fingerprint(folder, sorted(set(files.values())))
    ours = _read_json(folder / CONFIG_FILE).get("loracle")
    explains = not isinstance(ours, dict) or ours.get("explanations", True) is not False
    return Checkpoint(folder, config, weights, fingerprint, explains)


def read_config(folder: Path) -> ModelConfig:
    """The shape in config.json. A field that asks for what our graph does not do is refused by its name."""
    path = folder / CONFIG_FILE
    fields = _read_json(path)
    for name, values in _SUPPORTED.items():
        value = fields.get(name, values[0])
        if value not in values:
            raise CheckpointError(
                f"{path}: {name} = {json.dumps(value)} is not supported, only {json.dumps(values[0])} is; "
                f"use another checkpoint"
            )
    shape = {name: _positive(path, name, fields.get(name, default)) for name, default in _DEFAULTS.items()}
    if shape["n_embd"] % shape["n_head"]:
        raise CheckpointError(
            f"{path}: n_embd = {shape['n_embd']} is not a multiple of n_head = {shape['n_head']}; the file is damaged"
        )
    epsilon = fields.get("layer_norm_epsilon", 1e-5)
    if not isinstance(epsilon, int | float) or not epsilon > 0:
        raise CheckpointError(f"{path}: layer_norm_epsilon = {epsilon!r} is not a number above 0; the file is damaged")
    n_inner = fields.get("n_inner")
    return ModelConfig(
        n_layer=shape["n_layer"],
        n_head=shape["n_head"],
        n_embd=shape["n_embd"],
        n_inner=4 * shape["n_embd"] if n_inner is None else _positive(path, "n_inner", n_inner),
        n_positions=shape["n_positions"],
        vocab_size=shape["vocab_size"],
        layer_norm_epsilon=float(epsilon),
        tied_head=fields.get("tie_word_embeddings", True) is not False,
    )


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint of this shape must hold."""
    width, inner = config.n_embd, config.n_inner
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config.vocab_size, width),
        "wpe.weight": (config.n_positions, width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    if not config.tied_head:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    for layer in range(config.n_layer):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{layer}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        for linear, n_inputs, n_outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            shapes[f"h.{layer}.{linear}.weight"] = (n_inputs, n_outputs)
            shapes[f"h.{layer}.{linear}.bias"] = (n_outputs,)
    return shapes


def _weight_files(folder: Path) -> dict[str, str]:
    """For each tensor, as it is stored, the file of the folder that holds it."""
    if (folder / WEIGHTS_FILE).is_file():
        return dict.fromkeys(_headers(folder / WEIGHTS_FILE), WEIGHTS_FILE)
    if (folder / INDEX_FILE).is_file():
        parts = _read_json(folder / INDEX_FILE).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(file, str) for file in parts.values()):
            raise CheckpointError(f"{folder / INDEX_FILE} has no weight_map of names; download the model again")
        return {str(name): Path(file).name for name, file in parts.items()}
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if pickled:
        raise CheckpointError(
            f"{folder} holds its weights as {pickled[0]}, a format that can run code when read; "
            f"save the model again with `model.save_pretrained(folder, safe_serialization=True)`"
        )
    raise CheckpointError(f"no {WEIGHTS_FILE} in {folder}; restore the file or download the model again")


def _check_tensors(folder: Path, files: Mapping[str, str], config: ModelConfig) -> None:
    """CheckpointError unless every tensor of the shape is there, with its size and a readable type."""
    headers: dict[str, tuple[tuple[int, ...], str, str]] = {}
    for file in sorted(set(files.values())):
        for name, (shape, kind) in _headers(folder / file).items():
            headers[name.removeprefix("transformer.")] = (shape, kind, file)
    for name, expected in tensor_shapes(config).items():
        if name not in headers:
            raise CheckpointError(f"the weights in {folder} lack the tensor {name}; download or save the model again")
        shape, kind, file = headers[name]
        if shape != expected:
            raise CheckpointError(
                f"{folder / file}: tensor {name} has shape {list(shape)}, but {CONFIG_FILE} says {list(expected)}; "
                f"the two files are not from the same model"
            )
        if kind not in _READABLE:
            raise CheckpointError(
                f"{folder / file}: tensor {name} is stored as {kind}; only {', '.join(_READABLE)} are supported"
            )


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and stored type of every tensor in a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
            return {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _fingerprint(folder: Path, weight_files: list[str]) -> str:
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, *weight_files, *TOKENIZER_FILES):
        path = folder / name
        try:
            with path.open("rb") as file:
                digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _damaged(path, error) from error
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no {path.name} in {path.parent}: not a checkpoint folder, or an incomplete download; "
            f"name a folder with {CONFIG_FILE}, {WEIGHTS_FILE} and a tokenizer"
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path} does not hold a JSON object; download or save the model again")
    return fields


def _positive(path: Path, name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{path}: {name} = {value!r} is not a whole number above 0; the file is damaged")
    return value


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"cannot read {path}: {error}; restore the file, or download or save the model again")
