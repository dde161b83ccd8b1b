"""Checkpoints of any shape with random weights: speed depends on the shape alone, and nobody has to train one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from server.lm.checkpoint import CONFIG_FILE, WEIGHTS_FILE, tensor_shapes
from server.lm.engine import ModelConfig

_SEED = 20
_EMBEDDING_STD, _BIAS_STD, _NORM_STD = 0.05, 0.05, 0.1
# Layers add this much to what flows through them. With less the head, which is the embedding, would find the last
# token fed to be the best one wherever it looks, and engines that compute something else would still agree.
_LAYER_GAIN = 1.7


def gpt2_shape(n_layer: int, n_head: int, n_embd: int, vocab_size: int = 16_384) -> ModelConfig:
    """A GPT-2 with 1024 positions, as ours are."""
    return ModelConfig(n_layer, n_head, n_embd, 4 * n_embd, 1024, vocab_size, layer_norm_epsilon=1e-5)


def n_parameters(config: ModelConfig) -> int:
    return sum(int(np.prod(shape)) for shape in tensor_shapes(config).values())


def write_random_checkpoint(folder: Path, config: ModelConfig) -> None:
    """Writes configuration and float32 weights to `folder`, always the same for a shape; no tokenizer."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(_SEED)
    tensors = {name: _drawn(rng, name, shape) for name, shape in tensor_shapes(config).items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    fields = asdict(config)
    fields["tie_word_embeddings"] = fields.pop("tied_head")
    # No token ends the text: every engine writes as many as it is asked for.
    fields |= {"model_type": "gpt2", "activation_function": "gelu_new", "bos_token_id": None, "eos_token_id": None}
    (folder / CONFIG_FILE).write_text(json.dumps(fields), encoding="utf-8")


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = rng.standard_normal(shape, np.float32)
    if name.startswith(("wte", "wpe")):
        return values * np.float32(_EMBEDDING_STD)
    if len(shape) == 2:
        return values * np.float32(_LAYER_GAIN / shape[0] ** 0.5)
    if name.endswith("bias"):
        return values * np.float32(_BIAS_STD)
    return 1 + values * np.float32(_NORM_STD)
