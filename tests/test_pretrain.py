"""The steps of `python -m finetune.pretrain`, from a corpus to a base model, on a very small scale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_rows import write_split
from test_samples import source

from finetune.pretrain.__main__ import main
from finetune.pretrain.manifest import Manifest, PackageRecord, identity, write_manifest
from finetune.pretrain.samples import SourceFile
from server.lm.model import load_model


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    records = []
    for split, n_packages in (("train", 3), ("heldout", 2)):
        files = [
            SourceFile(f"{split}{number}", f"{split}{number}/{name}.py", source(name, 8))
            for number in range(n_packages)
            for name in ("main", "other")
        ]
        write_split(folder, split, files)
        records += [
            PackageRecord(f"{split}{number}", "1", "", "", "MIT", 2, len(source("main", 8)) * 2, split)
            for number in range(n_packages)
        ]
    write_manifest(Manifest(identity(folder), "3.11", tuple(records)), folder / "manifest.json")
    return folder


def test_a_corpus_becomes_a_base_model(corpus, tmp_path):
    tokenizer, run, shipped = tmp_path / "tokenizer", tmp_path / "run", tmp_path / "base_model"
    rows = tmp_path / "rows.npy"
    shape = "--layers 1 --width 32 --heads 2 --context 512".split()
    evaluation = "--kilobytes 2 --training-megabytes 0.01 --lines 2 --functions 2 --threads 1".split()
    for step in (
        ["vocabulary", "--corpus", corpus, "--output", tokenizer, "--size", "300"],
        ["rows", "--corpus", corpus, "--tokenizer", tokenizer, "--output", rows, "--length", "128"],
        ["train", "--rows", rows, "--tokenizer", tokenizer, "--output", run, "--threads", "1", *shape]
        + ["--tokens", "2048", "--batch-tokens", "512"],
        ["evaluate", "--checkpoint", run, "--corpus", corpus, *evaluation],
        ["ship", "--checkpoint", run, "--output", shipped],
    ):
        assert main([str(argument) for argument in step]) == 0, step[0]
    figures = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["rows"]["corpus"] == identity(corpus)
    assert recipe["rows"]["tokenizer"] == recipe["tokenizer"] == figures["tokenizer_sha256"]
    assert figures["bits_per_byte"]["bytes"] == pytest.approx(2_000, abs=100)
    assert figures["trained_tokens"] == 2048
    assert (figures["next_line"]["lines"], figures["explanation"]["functions"]) == (2, 2)
    assert figures["mid_line"]["lines"] == 2
    assert figures["former"]["bits_per_byte"] > 0, "the model that the server has now"
    assert (shipped / "loss.svg").read_bytes() == (run / "loss.svg").read_bytes()
    card = (shipped / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"**{figures['bits_per_byte']['model']:.3f}**" in card
    assert str(tmp_path) not in card
    assert load_model(str(shipped), threads=1).supports_explanations


def test_what_is_wrong_is_one_sentence(tmp_path, capsys):
    assert main(["rows", "--corpus", str(tmp_path), "--tokenizer", str(tmp_path), "--output", str(tmp_path / "r")]) == 1
    assert capsys.readouterr().err.startswith(f"error: no tokenizer in {tmp_path}")


@pytest.mark.parametrize("arguments", [[], ["bake"], ["train"], ["evaluate", "--checkpoint"]])
def test_wrong_usage_is_told_apart(arguments):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2


def test_a_run_that_is_interrupted_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    def interrupt(folder: Path, corpus: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune.pretrain.card.read_records", interrupt)
    assert main(["evaluate", "--checkpoint", str(tmp_path), "--corpus", str(tmp_path)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
