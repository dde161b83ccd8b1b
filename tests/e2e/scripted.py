"""A checkpoint that writes known text: a real GPT-2 whose weights make each token foretell the next.

Attention is off and the feed-forward layer is linear (gelu(x) - gelu(-x) = x), so the weights that lead from one token
of a text to the one after it are solved for. Small, certain of itself, and with all of the pipeline around it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 128
CERTAINTY = 3.0  # how far the next token's embedding outweighs all else


def write_scripted_checkpoint(folder: Path, texts: Sequence[str], write_tokenizer: Any, **shape: Any) -> Path:
    """A folder whose model continues any token of `texts` with the one that follows it there."""
    from safetensors.numpy import save_file

    from server.lm.tokenizer import load_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    follows: dict[int, int] = {}
    for text in texts:
        for token, after in itertools.pairwise(tokenizer.encode(text)):
            if follows.setdefault(token, after) != after:
                raise ValueError(f"{tokenizer.decode([token])!r} is followed by two things in {texts}")
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "n_layer": 1,
        "n_embd": WIDTH,
        "n_head": 4,
        "n_positions": 1024,
        "vocab_size": tokenizer.vocab_size,
        **shape,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(_weights(config, follows), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _weights(config: dict[str, Any], follows: dict[int, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    embeddings = rng.standard_normal((config["vocab_size"], WIDTH))
    embeddings -= embeddings.mean(axis=1, keepdims=True)
    embeddings /= embeddings.std(axis=1, keepdims=True)  # layer norm then changes nothing
    now, after = embeddings[list(follows)], embeddings[list(follows.values())]
    step = np.linalg.pinv(now) @ (CERTAINTY * after - now)
    identity = np.eye(WIDTH)
    norm = {"weight": np.ones(WIDTH), "bias": np.zeros(WIDTH)}
    weights = {
        "transformer.wte.weight": embeddings,
        "transformer.wpe.weight": np.zeros((config["n_positions"], WIDTH)),
    }
    weights |= {f"transformer.ln_f.{name}": value for name, value in norm.items()}
    for layer in range(config["n_layer"]):
        block = f"transformer.h.{layer}"
        for ln in ("ln_1", "ln_2"):
            weights |= {f"{block}.{ln}.{name}": value for name, value in norm.items()}
        inner = np.zeros((WIDTH, 4 * WIDTH))
        inner[:, :WIDTH], inner[:, WIDTH : 2 * WIDTH] = identity, -identity
        outer = np.zeros((4 * WIDTH, WIDTH))
        if layer == config["n_layer"] - 1:  # the others do nothing but take time
            outer[:WIDTH], outer[WIDTH : 2 * WIDTH] = step, -step
        weights |= {
            f"{block}.attn.c_attn.weight": np.zeros((WIDTH, 3 * WIDTH)),
            f"{block}.attn.c_attn.bias": np.zeros(3 * WIDTH),
            f"{block}.attn.c_proj.weight": np.zeros((WIDTH, WIDTH)),
            f"{block}.attn.c_proj.bias": np.zeros(WIDTH),
            f"{block}.mlp.c_fc.weight": inner,
            f"{block}.mlp.c_fc.bias": np.zeros(4 * WIDTH),
            f"{block}.mlp.c_proj.weight": outer,
            f"{block}.mlp.c_proj.bias": np.zeros(WIDTH),
        }
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}
