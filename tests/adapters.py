"""Adapters for tests: random low-rank matrices in the files that peft writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from server.lm.adapter_manifest import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, Manifest, file_hashes
from server.lm.checkpoint import open_checkpoint
from server.lm.model import base_identity
from server.lm.tokenizer import load_tokenizer


def random_adapter(folder: Path, checkpoint: Path, seed: int = 0, rank: int = 2, scale: float = 0.3) -> Manifest:
    """Writes an adapter for a checkpoint into `folder`; its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    base = open_checkpoint(checkpoint)
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(base.config.n_layer):
        n_in, n_out = base.weights[f"h.{layer}.attn.c_attn.weight"].shape
        name = f"base_model.model.transformer.h.{layer}.attn.c_attn"
        tensors[f"{name}.lora_A.weight"] = scale * rng.standard_normal((rank, n_in)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = scale * rng.standard_normal((n_out, rank)).astype(np.float32)
    save_file(tensors, folder / ADAPTER_WEIGHTS_FILE)
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["c_attn"]}
    (folder / ADAPTER_CONFIG_FILE).write_text(json.dumps(fields))
    identity = base_identity(base, load_tokenizer(checkpoint))
    return Manifest(identity, "2026-01-02T03:04:05Z", "shop", None, file_hashes(folder), seed)
