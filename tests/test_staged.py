"""The command for a lent machine: what it needs, what it says, and that it is started once."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import numpy as np
import pytest

from finetune.pretrain import staged
from finetune.pretrain.__main__ import main
from finetune.pretrain.gpt2 import GPT2, Shape
from finetune.pretrain.run_folder import TrainingError, save_checkpoint
from finetune.pretrain.shards import write_shards
from finetune.pretrain.staged import Finish, StagedError, heldout_figures, is_running, watch
from server.lm.tokenizer import load_tokenizer


@pytest.fixture
def folder(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A folder with a tokenizer, and shards of rows that were made with it for all we know."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_bytes((tiny_checkpoint / "tokenizer.json").read_bytes())
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).integers(8, 440, size=(20, 17)).astype(np.uint16))
    write_shards(tmp_path / "rows.npy", tmp_path / "shards", 100_000)
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    given = (
        f"staged --shards {folder}/shards --tokenizer {folder}/tokenizer --output {folder}/out --layers 1 --width 16"
    )
    return [*given.split(), *"--heads 2 --context 16 --tokens 64 --batch-tokens 32 --threads 1".split(), *more]


def test_a_run_that_is_alive_is_not_started_again(folder, monkeypatch, caplog):
    (folder / "out").mkdir()
    monkeypatch.setattr(subprocess, "Popen", lambda *_a, **_o: pytest.fail("a second run was started"))
    with (folder / "out" / "staged.lock").open("w") as lock, caplog.at_level("INFO"):
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_running(folder / "out")
        assert main(arguments(folder)) == 0
    assert "the training is running" in caplog.text
    assert not is_running(folder / "out")


def test_what_has_arrived_is_unpacked_before_the_run_needs_it(folder, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_a, **_o: pytest.fail("it is running"))
    (folder / "out").mkdir()
    with (folder / "out" / "staged.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(arguments(folder)) == 0
    assert len(list((folder / "out" / "run" / "unpacked").glob("*.npy"))) == 1


def test_a_finished_run_is_left_alone(folder, monkeypatch, caplog):
    monkeypatch.setattr(subprocess, "Popen", lambda *_a, **_o: pytest.fail("it is finished"))
    (folder / "out" / "parts").mkdir(parents=True)
    (folder / "out" / "parts" / "parts.json").write_text("{}")
    with caplog.at_level("INFO"):
        assert main(arguments(folder, "--watch", "5")) == 0
    assert "finished; the parts are in" in caplog.text


def test_a_run_that_died_is_told_with_its_last_lines(tmp_path, capsys):
    (tmp_path / "staged.log").write_text("".join(f"line {number}\n" for number in range(9)))
    with pytest.raises(StagedError, match=r"ended without a result, see .*staged\.log; the same command goes on"):
        watch(tmp_path, 60)
    assert capsys.readouterr().out.split("\n")[:-1] == [f"line {number}" for number in range(4, 9)]


@pytest.mark.parametrize("missing", ["shards", "tokenizer"])
def test_what_is_missing_is_one_sentence(folder, capsys, missing):
    (folder / missing).rename(folder / "away")
    assert main(arguments(folder, "--foreground")) == 1
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("error: ") and str(folder / missing) in error


def test_held_out_rows_are_judged_without_their_padding(folder, tmp_path):
    shape = Shape(1, 16, 2, 16, 440)
    save_checkpoint(GPT2(shape), tmp_path / "run")
    tokenizer = load_tokenizer(folder / "tokenizer")
    rows = np.full((3, 17), 6, dtype=np.uint16)
    rows[:, :5] = tokenizer.encode("def move(dx, dy):\n    self.z *= dx\n")[:5]
    np.save(tmp_path / "heldout.npy", rows)
    plan = Finish(folder / "tokenizer", tmp_path / "heldout.npy", 2, 1)
    found = heldout_figures(tmp_path / "run", plan)
    n_bytes = sum(len(tokenizer.token_bytes(int(token_id))) for token_id in rows[0, 1:5])
    assert (found["rows"], found["tokens"], found["bytes"]) == (2, 8, 2 * n_bytes)
    assert found["nats_per_token"] == pytest.approx(np.log(440), abs=0.3)
    assert found["bits_per_byte"] == pytest.approx(found["nats_per_token"] / np.log(2) * 4 / n_bytes, rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 40), (2, 17)])
def test_held_out_rows_for_another_model_are_named(folder, tmp_path, shape):
    save_checkpoint(GPT2(Shape(1, 16, 2, 16, 300)), tmp_path / "run")
    np.save(tmp_path / "heldout.npy", np.full(shape, 400, dtype=np.uint16))
    with pytest.raises(TrainingError, match=f"{tmp_path}/heldout.npy holds .* ids up to 400, the model takes 16 and"):
        heldout_figures(tmp_path / "run", Finish(folder / "tokenizer", tmp_path / "heldout.npy", 2, 1))


def test_a_folder_that_cannot_be_written_is_named(folder):
    (folder / "out").write_text("in the way")
    with pytest.raises(StagedError, match=f"cannot start a run in {folder}/out"):
        staged.start(folder / "out", folder / "shards", folder / "cache", [])
