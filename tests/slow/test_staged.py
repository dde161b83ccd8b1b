"""The whole way to a lent machine and back, on a very small scale, with what that machine has."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from finetune.pretrain.provenance import Provenance, write_provenance
from finetune.pretrain.run_folder import load_checkpoint, read_log, read_progress, read_recipe
from finetune.pretrain.shards import read_shards
from finetune.pretrain.staged import is_running
from server.lm.model import load_model
from server.lm.tokenizer import load_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 64
ALLOWED = {"torch", "numpy", "safetensors", "tokenizers"}
TEXT = "def add(first, second):\n    return first + second\n\n\nfor name in names:\n    print(name)\n"


def pretrain(*arguments: object, exit_code: int = 0) -> str:
    """Runs a step as a user does; what it wrote to both streams."""
    command = [sys.executable, "-P", "-m", "finetune.pretrain", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + done.stderr


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@pytest.fixture
def shards(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """Rows of real tokens in shuffled lines, in three shards or more."""
    tokenizer = load_tokenizer(tiny_checkpoint)
    generator = np.random.default_rng(0)
    lines = TEXT.split("\n")
    rows = []
    for _ in range(400):
        text = "\n".join(generator.choice(lines, 60))
        rows.append([4, *tokenizer.encode(text)[:LENGTH]])
    np.save(tmp_path / "rows.npy", np.array(rows, dtype=np.uint16))
    origin = Provenance("feed", tokenizer.fingerprint, LENGTH, 1, 1_000)
    write_provenance(tmp_path / "rows.npy", origin)
    n_bytes = len((tmp_path / "rows.npy").read_bytes())
    pretrain(
        "shard", "--rows", tmp_path / "rows.npy", "--output", tmp_path / "made", "--megabytes", n_bytes / 2**20 / 12
    )
    assert len(read_shards(tmp_path / "made").shards) >= 2
    return tmp_path / "made"


def test_shards_become_a_checkpoint_on_another_machine(shards, tmp_path, tiny_checkpoint):
    arrived, output = tmp_path / "arrived", tmp_path / "out"
    run = output / "run"
    arrived.mkdir()
    for name in ("shards.json", "shard-000.xz"):
        shutil.copy(shards / name, arrived)
    n_rows = read_shards(shards).shards[0].n_rows
    tokens = 6 * n_rows * LENGTH
    command = ["staged", "--shards", arrived, "--tokenizer", tiny_checkpoint, "--output", output, "--tokens", tokens]
    command += "--layers 2 --width 64 --heads 4 --context 128 --batch-tokens 512 --warmup-steps 5 --threads 1".split()
    command += "--checkpoint-seconds 0.2 --log-seconds 0.2 --peak-tflops 0.1 --part-megabytes 0.1".split()
    command += ["--heldout", shards / "shard-001.xz"]

    said = pretrain(*command)
    assert "training in the background as process" in said
    process = int(said.partition("as process ")[2].split(",")[0])
    wait_for(lambda: (run / "state.pt").is_file(), "a saved state")
    os.killpg(process, signal.SIGKILL)
    wait_for(lambda: not is_running(output), "the end of the killed run")
    killed_at = read_progress(run)
    assert 0 < killed_at.tokens < tokens and set(killed_at.visits["rows"]) == {0}
    assert not (run / "model.safetensors").exists()

    shutil.copy(shards / "shard-001.xz", arrived)
    said = pretrain(*command, "--watch", 100)
    assert not is_running(output)
    assert "tokens/s" in said and "% of the peak" in said and "held-out rows" in said
    progress = read_progress(run)
    assert (
        progress.tokens >= tokens
        and progress.visits["rows"][: len(killed_at.visits["rows"])] == killed_at.visits["rows"]
    )
    assert 1 in progress.visits["rows"]
    assert pretrain(*command, "--watch", 100).count("finished; the parts are in") == 1

    parts = sorted((output / "parts").glob("part-*"))
    assert len(parts) > 2 and max(path.stat().st_size for path in parts) <= 0.1 * 2**20
    journeys = [tmp_path / "journey1", tmp_path / "journey2"]
    for journey, names in zip(journeys, (parts[:2], parts[2:]), strict=True):
        journey.mkdir()
        for path in [*names, output / "parts" / "parts.json"]:
            shutil.copy(path, journey)
    joined = tmp_path / "joined"
    said = pretrain("join", "--parts", journeys[0], "--output", joined, exit_code=1)
    assert all(f"{path.name} is missing" in said for path in parts[2:]) and not joined.exists()
    pretrain("join", "--parts", *journeys, "--output", joined)

    for name in ("model.safetensors", "config.json", "recipe.json", "log.jsonl", "tokenizer.json"):
        assert (joined / name).read_bytes() == (run / name).read_bytes(), name
    assert read_progress(joined) == progress
    assert read_recipe(joined)["rows"]["shards_sha256"] == read_shards(shards).identity
    assert read_log(joined)[-1]["loss"] < 0.8 * np.log(440)
    figures = json.loads((joined / "staged.json").read_text())
    assert figures["tokens"] == progress.tokens and figures["flop_utilisation"] > 0
    assert figures["heldout"]["nats_per_token"] < 0.8 * np.log(440)

    token_ids = load_tokenizer(joined).encode(TEXT)[:40]
    with torch.no_grad():
        ours = load_checkpoint(joined).logits(torch.tensor([token_ids]))[0]
        theirs = GPT2LMHeadModel.from_pretrained(joined, dtype=torch.float32)(torch.tensor([token_ids])).logits[0]
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
    served = load_model(str(joined), precision="fp32", threads=1).engine.logits(0, token_ids, 0, n_keep=1)
    assert np.abs(served[-1] - ours[-1].numpy()).max() < 1e-3


# The steps of a lent machine with everything else that we depend on hidden, as it is not there.
REFUSING = """
import sys

sys.modules.update(dict.fromkeys({refused!r}))  # None: an import fails
from finetune.pretrain.__main__ import main
for arguments in {commands!r}:
    assert main(arguments) == 0, arguments
"""


def other_modules() -> set[str]:
    """The modules of our dependencies that a lent machine may lack."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    names = {re.split(r"[^a-z0-9-]", line)[0].replace("-", "_") for line in lines}
    return (names | {"ml_dtypes", "huggingface_hub"}) - ALLOWED


def test_training_and_joining_need_only_what_the_machine_has(shards, tmp_path, tiny_checkpoint):
    assert {"transformers", "peft", "onnx", "platformdirs", "tree_sitter"} <= other_modules()
    given = f"staged --shards {shards} --tokenizer {tiny_checkpoint} --output {tmp_path}/out --layers 1 --width 16"
    staged = [*given.split(), *"--heads 2 --context 64 --tokens 512 --batch-tokens 256 --threads 1".split()]
    commands = [
        [*staged, "--heldout", f"{shards}/shard-000.xz", "--foreground"],
        ["join", "--parts", f"{tmp_path}/out/parts", "--output", f"{tmp_path}/joined"],
    ]
    code = REFUSING.format(refused=sorted(other_modules()), commands=commands)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "joined" / "model.safetensors").is_file()
