"""A run becomes the base model of the server whole, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from finetune.pretrain.run_folder import weights_sha256, write_card, write_evaluation
from finetune.pretrain.shipping import BASE_MODEL, ShippingError, ship
from server.lm import model_folder
from server.lm.checkpoint import CheckpointError
from server.lm.model import load_model
from server.lm.tokenizer import TokenizerError, load_tokenizer

SHIPPED = {"config.json", "model.safetensors", "tokenizer.json", "MODEL_CARD.md", "loss.svg"}


@pytest.fixture
def run(make_checkpoint: Callable[..., Path]) -> Path:
    """A folder as `train` and `evaluate` leave it."""
    torch.set_num_threads(1)
    folder = make_checkpoint("run")
    (folder / "state.pt").write_bytes(b"large")
    evaluated(folder)
    return folder


def evaluated(folder: Path, **more: object) -> None:
    figures: dict[str, object] = {
        "weights_sha256": weights_sha256(folder),
        "tokenizer_sha256": load_tokenizer(folder).fingerprint,
        "trained_tokens": 8_000_000,
        "explanation": {"chrf": {"over_name": {"value": 2.0, "low": 0.5, "high": 3.5}}},
        **more,
    }
    write_evaluation(folder, figures)
    write_card(folder, "# The card\n")
    (folder / "loss.svg").write_text("<svg/>")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_shipped_is_what_a_server_needs(run, tmp_path):
    output = tmp_path / "server" / "base_model"
    ship(run, output)
    assert set(contents(output)) == SHIPPED
    for name in SHIPPED - {"config.json"}:
        assert contents(output)[name] == contents(run)[name]
    assert [path.name for path in output.parent.iterdir()] == ["base_model"]


def test_the_configuration_says_what_the_model_can(run, tmp_path):
    ship(run, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    own = config.pop("loracle")
    assert own == {"prompt_version": 1, "trained_tokens": 8_000_000, "infilling": True, "explanations": True}
    assert config == json.loads((run / "config.json").read_text())


@pytest.mark.parametrize(("low", "explains"), [(0.5, True), (0.0, False), (-1.5, False)])
def test_sentences_are_shown_by_themselves_only_if_they_surely_beat_the_name(run, tmp_path, low, explains):
    evaluated(run, explanation={"chrf": {"over_name": {"value": low + 1, "low": low, "high": low + 2}}})
    ship(run, tmp_path / "out")
    assert load_model(str(tmp_path / "out"), precision="fp32", threads=1).explains_by_default is explains


def test_server_and_transformers_load_it(run, tmp_path):
    ship(run, tmp_path / "out")
    assert load_model(str(tmp_path / "out"), precision="fp32", threads=1).supports_infilling
    assert GPT2LMHeadModel.from_pretrained(tmp_path / "out").config.n_layer == 2


def test_an_older_model_is_replaced_whole(run, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "merges.txt").write_text("of another tokenizer")
    (tmp_path / "out.partial").mkdir()  # left by a run that was killed
    (tmp_path / "out.partial" / "junk").write_text("x")
    ship(run, output)
    assert set(contents(output)) == SHIPPED
    assert not (tmp_path / "out.partial").exists()
    assert not (tmp_path / "out.former").exists()


def refused(run: Path, tmp_path: Path, error: type[Exception], match: str) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "model.safetensors").write_bytes(b"the former one")
    with pytest.raises(error, match=match):
        ship(run, output)
    assert contents(output) == {"model.safetensors": b"the former one"}


@pytest.mark.parametrize(
    "name, error, match",
    [
        ("config.json", CheckpointError, r"no config\.json"),
        ("model.safetensors", CheckpointError, r"no model\.safetensors"),
        ("tokenizer.json", TokenizerError, "no tokenizer in"),
        ("evaluation.json", ShippingError, "has not been evaluated"),
        ("MODEL_CARD.md", ShippingError, "has not been evaluated"),
        ("loss.svg", ShippingError, "has not been evaluated"),
    ],
)
def test_a_missing_file_is_named(run, tmp_path, name, error, match):
    (run / name).unlink()
    refused(run, tmp_path, error, match)


def test_weights_that_were_not_the_ones_evaluated_are_refused(run, tmp_path):
    weights = load_file(run / "model.safetensors")
    weights["transformer.ln_f.bias"] += 1
    save_file(weights, run / "model.safetensors")
    refused(run, tmp_path, ShippingError, "was evaluated with other weights")


def test_a_tokenizer_of_another_run_is_refused(run, tmp_path, make_checkpoint):
    other = make_checkpoint("other", vocab_size=441)
    shutil.copyfile(other / "config.json", run / "config.json")
    shutil.copyfile(other / "model.safetensors", run / "model.safetensors")
    evaluated(run)
    refused(run, tmp_path, ShippingError, "has 440 entries, the model 441")


def test_weights_that_give_no_numbers_are_refused(run, tmp_path):
    weights = load_file(run / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.weight"][0, 0] = float("nan")
    save_file(weights, run / "model.safetensors")
    evaluated(run)
    refused(run, tmp_path, ShippingError, "give no numbers")


@pytest.fixture
def former(make_checkpoint: Callable[..., Path]) -> Path:
    """Other weights where the run is to go."""
    return make_checkpoint("former", n_layer=1)


def compared(run: Path, former: Path, ours: float, theirs: float) -> None:
    measured = {"weights_sha256": weights_sha256(former), "bits_per_byte": theirs}
    evaluated(run, bits_per_byte={"model": ours}, former=measured)


@pytest.mark.parametrize("ours, theirs", [(0.99, 1.0), (0.5, 1.0)])
def test_better_weights_replace_the_former_ones(run, former, ours, theirs):
    compared(run, former, ours, theirs)
    ship(run, former)
    assert weights_sha256(former) == weights_sha256(run)


@pytest.mark.parametrize("ours, theirs", [(0.991, 1.0), (1.0, 1.0), (1.2, 1.0), (float("nan"), 1.0)])
def test_weights_that_are_hardly_better_are_refused_with_both_figures(run, former, ours, theirs):
    compared(run, former, ours, theirs)
    before = contents(former)
    with pytest.raises(ShippingError, match=rf"take {ours:.4f} bits per byte, those in .* {theirs:.4f} .* 1 % better"):
        ship(run, former)
    assert contents(former) == before


def test_weights_that_were_not_compared_with_those_in_place_are_refused(run, former, make_checkpoint):
    before = contents(former)
    with pytest.raises(ShippingError, match=f"was not measured beside .*--former {former}"):
        ship(run, former)
    compared(run, make_checkpoint("third", n_layer=3), 0.5, 1.0)
    with pytest.raises(ShippingError, match="was not measured beside"):
        ship(run, former)
    assert contents(former) == before


def test_the_same_weights_may_be_shipped_again_with_another_card(run, tmp_path):
    ship(run, tmp_path / "out")
    write_card(run, "# A better card\n")
    ship(run, tmp_path / "out")
    assert (tmp_path / "out" / "MODEL_CARD.md").read_text() == "# A better card\n"


def test_by_default_it_goes_where_the_server_looks():
    assert BASE_MODEL == model_folder._BASE_MODEL
