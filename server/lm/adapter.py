"""Merging a LoRA adapter, as peft saves it, into the weights of a checkpoint: W + scale * (B A)^T.

Needs numpy and safetensors, no torch. What peft could have saved and we do not merge is refused by its name: a served
model that ignores half of its adapter is worse than none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.lm.adapter_manifest import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, AdapterError
from server.lm.checkpoint import Weights

_LOW_RANK_DOWN, _LOW_RANK_UP = ".lora_A.weight", ".lora_B.weight"
_ROWS, _BASE_BIAS = ".token_adapter.trainable_tokens_delta", ".base_layer.bias"
_LINEAR = ("c_attn", "c_proj", "c_fc")
# Variants of LoRA that change what the tensors mean. Each is off when false, empty or absent.
_UNSUPPORTED = (
    "alpha_pattern",
    "lora_bias",
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "layer_replication",
    "target_parameters",
    "megatron_config",
    "arrow_config",
    "alora_invocation_tokens",
)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What an adapter does, by the name of the tensor that it changes."""

    low_rank: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)  # scale * A, B
    rows: dict[str, tuple[list[int], NDArray[np.float32]]] = field(default_factory=dict)
    whole: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class _Merged(Mapping[str, NDArray[Any]]):
    """Weights of a checkpoint with the changes applied to each tensor as it is read."""

    def __init__(self, weights: Weights, changes: _Changes) -> None:
        self._weights = weights
        self._changes = changes

    def __getitem__(self, name: str) -> NDArray[Any]:
        changes = self._changes
        if name in changes.whole:
            return changes.whole[name]
        value = self._weights[name]
        if name in changes.low_rank:
            down, up = changes.low_rank[name]
            return value.astype(np.float32) + (up @ down).T
        if name in changes.rows:
            indices, rows = changes.rows[name]
            n_rows = max(len(value), max(indices) + 1)
            grown = np.zeros((n_rows, value.shape[1]), np.float32)
            grown[: len(value)] = value
            grown[indices] = rows
            return grown
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def merge_adapter(weights: Weights, adapter_folder: Path) -> Weights:
    """`weights` with the adapter merged in, still read one by one.

    Merged are low-rank updates of the linear layers (with `use_rslora` and `rank_pattern`), biases and layer norms
    that were trained whole, and trained rows of the token embedding, some of which may be new: markers that were
    taught to a model without them (`taught_tokens`). AdapterError for everything else.
    """
    fields = _read_config(adapter_folder)
    tensors = _read_tensors(adapter_folder)
    down, up = (_ending(tensors, ending) for ending in (_LOW_RANK_DOWN, _LOW_RANK_UP))
    if down.keys() != up.keys() or not down:
        raise AdapterError(
            f"{adapter_folder / ADAPTER_WEIGHTS_FILE} holds no complete LoRA: {len(down)} A and {len(up)} B matrices; "
            f"train the adapter again"
        )
    changes = _Changes()
    for module, matrix in down.items():
        if module.rpartition(".")[2] not in _LINEAR:
            raise _unsupported(adapter_folder, f"{module}{_LOW_RANK_DOWN}")
        if matrix.ndim != 2 or up[module].ndim != 2 or not 0 < len(matrix) == up[module].shape[1]:
            raise AdapterError(
                f"the adapter in {adapter_folder} has matrices of shape {matrix.shape} and {up[module].shape} for "
                f"{module}, which cannot be multiplied; train it again"
            )
        # The scale belongs to the module, since `rank_pattern` may give it a rank of its own.
        changes.low_rank[f"{module}.weight"] = (matrix * np.float32(_scale(fields, matrix.shape[0])), up[module])
    for module, rows in _ending(tensors, _ROWS).items():
        changes.rows[f"{module}.weight"] = (_row_indices(adapter_folder, fields, module), rows)
    for module, bias in _ending(tensors, _BASE_BIAS).items():
        changes.whole[f"{module}.bias"] = bias
    for name, value in tensors.items():
        if not name.endswith((_LOW_RANK_DOWN, _LOW_RANK_UP, _ROWS, _BASE_BIAS)):
            if name not in weights or name in ("wte.weight", "lm_head.weight"):  # tied: which of the two is meant?
                raise _unsupported(adapter_folder, name)
            changes.whole[name] = value
    _check_shapes(adapter_folder, weights, changes)
    return _Merged(weights, changes)


def taught_tokens(adapter_folder: Path) -> list[int]:
    """The ids whose embedding the adapter brings along; one may be behind the last of the base model."""
    indices = _read_config(adapter_folder).get("trainable_token_indices")
    taught = indices.get("wte", []) if isinstance(indices, dict) else indices
    return [int(index) for index in taught or []]


def _scale(fields: Mapping[str, Any], rank: int) -> float:
    alpha = float(fields["lora_alpha"])
    return alpha / rank**0.5 if fields.get("use_rslora") else alpha / rank


def _row_indices(folder: Path, fields: Mapping[str, Any], module: str) -> list[int]:
    """Which rows of the embedding were trained: peft saves a list, or lists by module name."""
    indices = fields.get("trainable_token_indices")
    if isinstance(indices, dict):
        indices = indices.get(module)
    if module != "wte" or not isinstance(indices, list):
        raise _unsupported(folder, f"{module}{_ROWS}")
    return [int(index) for index in indices]


def _check_shapes(folder: Path, weights: Weights, changes: _Changes) -> None:
    found = {name: (down.shape[1], up.shape[0]) for name, (down, up) in changes.low_rank.items()}
    found |= {name: value.shape for name, value in changes.whole.items()}
    for name, shape in found.items():
        expected = weights[name].shape if name in weights else None
        if shape != expected:
            raise AdapterError(
                f"the adapter in {folder} changes {name} with shape {shape}, the base model has {expected}; "
                f"it was trained for another model: train it again for this one"
            )
    for name, (indices, rows) in changes.rows.items():
        n_tokens, width = weights[name].shape
        if not indices or min(indices) < 0:
            raise AdapterError(
                f"the adapter in {folder} names the tokens {indices} for {name}; train it again for this model"
            )
        new = sorted(index for index in indices if index >= n_tokens)
        if rows.shape != (len(indices), width) or new != list(range(n_tokens, n_tokens + len(new))):
            raise AdapterError(
                f"the adapter in {folder} changes {len(indices)} rows of {name} with values of shape {rows.shape}, "
                f"the base model has {weights[name].shape}; train it again for this model"
            )


def _ending(tensors: Mapping[str, NDArray[np.float32]], ending: str) -> dict[str, NDArray[np.float32]]:
    """The tensors whose name ends so, by the name of their module."""
    return {name.removesuffix(ending): value for name, value in tensors.items() if name.endswith(ending)}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        kind, alpha = fields["peft_type"], fields["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"cannot read the adapter configuration {path}: {error}; train the adapter again") from error
    if kind != "LORA" or not isinstance(alpha, int | float):
        raise _unsupported(folder, f"peft_type = {kind!r} with lora_alpha = {alpha!r}")
    for name in _UNSUPPORTED:
        if fields.get(name):
            raise _unsupported(folder, f"{name} = {fields[name]!r}")
    return dict(fields)


def _read_tensors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The adapter's tensors as float32, named as in the checkpoint."""
    from safetensors import SafetensorError, safe_open

    path = folder / ADAPTER_WEIGHTS_FILE
    try:
        with safe_open(path, framework="numpy") as tensors:
            return {
                name.removeprefix("base_model.model.").removeprefix("transformer."): tensors.get_tensor(name).astype(
                    np.float32
                )
                for name in tensors.keys()  # noqa: SIM118 (not a dict)
            }
    except (OSError, SafetensorError, TypeError) as error:
        raise AdapterError(f"cannot read the adapter {path}: {error}; train it again, or roll back") from error


def _unsupported(folder: Path, what: str) -> AdapterError:
    return AdapterError(f"the adapter in {folder} uses {what}, which cannot be merged; train it again without")
