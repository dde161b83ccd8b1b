"""Loading a model: what it can do then, and what the user reads when it cannot be loaded."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from server.lm.checkpoint import CheckpointError
from server.lm.engine import EngineError
from server.lm.errors import UserError
from server.lm.model import EngineName, LoadedModel, load_model


def test_a_model_is_ready_to_answer(tiny_model: LoadedModel, tiny_checkpoint: Path) -> None:
    token_ids = tiny_model.tokenizer.encode("def add(first, second):\n    return")
    advance = tiny_model.completion_cache.advance(token_ids)
    assert advance.logits is not None and advance.logits.shape == (1, 440)
    assert tiny_model.explanation_cache.tokens == ()
    assert tiny_model.completion_cache.slot != tiny_model.explanation_cache.slot
    assert tiny_model.supports_infilling and tiny_model.supports_explanations
    assert (tiny_model.folder, tiny_model.precision) == (tiny_checkpoint, "fp32")


def test_both_engines_load_the_same_model(tiny_checkpoint: Path, tiny_model: LoadedModel) -> None:
    reference = load_model(str(tiny_checkpoint), engine="torch", precision="int8", threads=1)
    assert reference.precision == "fp32"  # what was asked for is not what torch does
    assert reference.fingerprint == tiny_model.fingerprint
    both = [model.completion_cache.advance([4, 20, 30]).logits for model in (reference, tiny_model)]
    np.testing.assert_allclose(both[0], both[1], atol=1e-3)


def test_eight_bits_are_the_default(tiny_checkpoint: Path) -> None:
    assert load_model(str(tiny_checkpoint), threads=1).precision == "int8"


def test_a_plain_gpt2_is_served_without_infilling(make_checkpoint: Callable[..., Path]) -> None:
    from tokenizers import ByteLevelBPETokenizer

    folder = make_checkpoint(vocab_size=300)
    (folder / "tokenizer.json").unlink()
    plain = ByteLevelBPETokenizer()
    plain.train_from_iterator(["def add(a, b):\n    return a + b\n"] * 9, 280, special_tokens=["<|endoftext|>"])
    plain.save_model(str(folder))
    model = load_model(str(folder), threads=1)
    assert not model.supports_infilling and not model.supports_explanations
    assert model.completion_cache.advance(model.tokenizer.encode("def add(")).finished


def test_tokenizer_of_another_model_is_refused(make_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer .* has 440 entries, the model only 300"):
        load_model(str(make_checkpoint(vocab_size=300)))


def test_model_without_tokenizer_is_refused(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        load_model(str(folder))


def test_missing_torch_names_the_extra(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineError, match=r"pip install 'loracle\[finetune\]'"):
        load_model(str(tiny_checkpoint), engine="torch")


def test_missing_onnxruntime_is_named(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install onnxruntime.*--engine torch"):
        load_model(str(tiny_checkpoint), engine="onnx")


@pytest.mark.parametrize(
    ("engine", "library", "variables"),
    [
        ("onnx", "onnxruntime", {"ORT_DISABLE_TELEMETRY": "1"}),
        ("torch", "torch", {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}),
    ],
)
def test_telemetry_is_off_before_a_library_is_imported(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, engine: EngineName, library: str, variables: dict[str, str]
) -> None:
    for name in variables:
        monkeypatch.setenv(name, "0")  # whatever it was
    monkeypatch.setitem(sys.modules, library, None)  # so that importing it fails
    with pytest.raises(EngineError):
        load_model(str(tiny_checkpoint), engine=engine)
    assert {name: os.environ[name] for name in variables} == variables


def test_auto_takes_torch_where_onnxruntime_is_missing(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else real(name))
    assert load_model(str(tiny_checkpoint), threads=1).precision == "fp32"
