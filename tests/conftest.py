"""Fixtures for every test: a user directory of its own, and a tiny random GPT-2 that is a whole checkpoint."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest

if TYPE_CHECKING:
    from server.lm.model import LoadedModel

# No test measures time: a busy machine must not fail one.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Enough text for merges across spaces, over indentation and inside names; every byte is in the vocabulary anyway.
TOKENIZER_TEXT = [
    "def add(first, second):\n    return first + second\n\n\nclass Point:\n    def __init__(self, x, y):\n",
    "        self.x = x\n        self.y = y\n\n    def move(self, dx):\n        self.x += dx\n        return self\n",
    "for name in names:\n    if name is None:\n        continue\n    print(name)\nimport os\nimport sys\n",
    "total = add(1, 2)\nresult = [value for value in values if value > 0]\nprint(result)\nreturn total\n",
    "const total = add(1, 2);\nfunction add(a: number, b: number): number {\n  return a + b;\n}\n",
]
TINY_VOCAB_SIZE = 440
TINY_SHAPE = {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 1024, "vocab_size": TINY_VOCAB_SIZE}


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of home folders, a new one each time. In a folder apart: pytest looks through its own for every new one."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def user_directory(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home folder: caches, settings, adapters and the hub cache all land in it."""
    home = next(homes)
    home.mkdir()
    live_in(home, monkeypatch)
    return home


def live_in(home: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes a folder the user's own for this process and those that it starts."""
    for name in ("HOME", "USERPROFILE"):
        patch.setenv(name, str(home))
    for name, folder in (
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("LOCALAPPDATA", "AppData/Local"),
        ("APPDATA", "AppData/Roaming"),
        ("HF_HOME", ".cache/huggingface"),
    ):
        patch.setenv(name, str(home / folder))
    patch.delenv("HF_HUB_CACHE", raising=False)
    patch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    patch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.json, model.safetensors and tokenizer.json; read it, never write into it."""
    folder = tmp_path_factory.mktemp("tiny_checkpoint")
    write_checkpoint(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """`make_checkpoint(name="other", n_embd=48, ...)`: another random checkpoint, configuration fields overridden."""

    def make(name: str = "checkpoint", **config_fields: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_checkpoint(folder, **config_fields)
        write_tokenizer(folder)
        return folder

    return make


@pytest.fixture
def tiny_model(tiny_checkpoint: Path) -> Iterator[LoadedModel]:
    """The tiny checkpoint served exactly (fp32), with empty caches."""
    from server.lm.model import load_model

    yield load_model(str(tiny_checkpoint), precision="fp32", threads=1)


def write_checkpoint(folder: Path, seed: int = 7, **config_fields: Any) -> None:
    """config.json and model.safetensors of a random GPT-2 under the names that transformers saves."""
    from safetensors.numpy import save_file

    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 0,
        **TINY_SHAPE,
        **config_fields,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(random_weights(config, seed), folder / "model.safetensors", metadata={"format": "pt"})


def random_weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Weights large enough that logits differ by several nats: freshly initialised ones are all but equal."""
    rng = np.random.default_rng(seed)
    width, inner = config["n_embd"], config.get("n_inner") or 4 * config["n_embd"]

    def normal(*shape: int, scale: float, mean: float = 0.0) -> np.ndarray:
        return (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray]:
        weight, bias = normal(width, scale=0.1, mean=1.0), normal(width, scale=0.05)
        return {f"{name}.weight": weight, f"{name}.bias": bias}

    def linear(name: str, n_in: int, n_out: int) -> dict[str, np.ndarray]:
        weight, bias = normal(n_in, n_out, scale=1.8 * n_in**-0.5), normal(n_out, scale=0.05)
        return {f"{name}.weight": weight, f"{name}.bias": bias}

    weights = {
        "transformer.wte.weight": normal(config["vocab_size"], width, scale=0.25),
        "transformer.wpe.weight": normal(config["n_positions"], width, scale=0.1),
        **norm("transformer.ln_f"),
    }
    for layer in range(config["n_layer"]):
        block = f"transformer.h.{layer}"
        weights |= norm(f"{block}.ln_1") | norm(f"{block}.ln_2")
        weights |= linear(f"{block}.attn.c_attn", width, 3 * width) | linear(f"{block}.attn.c_proj", width, width)
        weights |= linear(f"{block}.mlp.c_fc", width, inner) | linear(f"{block}.mlp.c_proj", inner, width)
    return weights


def write_tokenizer(folder: Path) -> None:
    """tokenizer.json: our markers at ids 0-7, every byte, and merges up to `TINY_VOCAB_SIZE`."""
    from tokenizers import pre_tokenizers, trainers

    from server.lm.tokenizer import SPECIAL_TOKEN_NAMES, new_backend

    backend = new_backend()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKEN_NAMES),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=16,
        show_progress=False,
    )
    backend.train_from_iterator(TOKENIZER_TEXT, trainer)
    backend.save(str(folder / "tokenizer.json"))
