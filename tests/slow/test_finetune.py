"""The command as a user runs it: a published adapter that a server loads, a refusal, an interruption, a kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from finetune.options import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_NO_BETTER, EXIT_PUBLISHED
from server.lm.adapter_manifest import ADAPTER_WEIGHTS_FILE, check_whole, read_manifest
from server.lm.adapter_store import AdapterStore
from server.lm.model import load_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# More by hand: LORACLE_KILLS=20 (that many random moments were tried on 2026-11-27).
N_KILLS = int(os.environ.get("LORACLE_KILLS", "1"))
WORDS = "order price stock member basket invoice label parcel receipt refund shelf voucher ledger vendor".split()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Fourteen files in one style, none a copy of another."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for number, word in enumerate(WORDS):
        draw = random.Random(number)
        lines = [f'"""All about one {word}."""', "", f"from shop.{WORDS[number - 1]} import lookup", "", ""]
        for _ in range(14):
            verb, other = draw.choice("load save check send count merge".split()), draw.choice(WORDS)
            n = draw.randrange(1000)
            lines += [
                f"def {verb}_{word}_{n}({other}_id, amount):",
                f"    {word} = lookup({other}_id, {n})",
                f"    if amount > {draw.randrange(100)}:",
                f"        return {word}.{verb}(amount)",
                f"    return {other}_id",
                "",
                "",
            ]
        (folder / f"{word}.py").write_text("\n".join(lines))
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A short way to an adapter that is better."""
    fields = {"steps": 30, "length": 128, "batch_rows": 4, "rank": 4, "alpha": 8, "learning_rate": 5e-3, "seed": 1}
    (tmp_path / "plan.json").write_text(json.dumps(fields))
    return tmp_path / "plan.json"


def command(repository: Path, base: Path, *options: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-P", "-m", "finetune", str(repository), "--base", str(base), *options]


def run(repository: Path, base: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(repository, base, *options), capture_output=True, text=True, timeout=500)


def test_a_run_publishes_what_a_server_loads_and_reports_it(
    repository: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    done = run(repository, tiny_checkpoint, "--time-budget", "12s", "--report", str(report))
    assert done.returncode == EXIT_PUBLISHED, done.stderr
    assert "14 files with" in done.stderr and "published as" in done.stderr and "bits per byte" in done.stderr
    found = json.loads(report.read_text())
    assert found["published"] and found["evaluation"]["bits_after"] < found["evaluation"]["bits_before"]
    page = report.with_suffix(".html").read_text()
    assert "<svg" in page and "Published." in page and "<script" not in page and 'src="http' not in page
    store = AdapterStore(repository)
    (stored,) = store.versions()
    assert stored.is_current and stored.manifest is not None and stored.manifest.trained_files
    assert not store.run_folder.exists()
    assert load_model(str(tiny_checkpoint), adapter=store.current()).adapter == store.current()
    assert found["manifest"]["base"]["fingerprint"] == stored.manifest.base.fingerprint
    listed = run(repository, tiny_checkpoint, "--list")
    assert listed.stdout.startswith(f"* {stored.version}") and "bits per byte" in listed.stdout


def test_what_is_no_better_is_refused_and_nothing_changes(repository: Path, tiny_checkpoint: Path) -> None:
    done = run(repository, tiny_checkpoint, "--time-budget", "6s", "--learning-rate", "1e-12")  # learns nothing
    assert done.returncode == EXIT_NO_BETTER, done.stderr
    assert "not published, nothing has changed:" in done.stderr and "not surely easier to predict" in done.stderr
    assert AdapterStore(repository).current() is None


def test_an_interrupted_run_goes_on_and_publishes(repository: Path, tiny_checkpoint: Path) -> None:
    child = subprocess.Popen(
        command(repository, tiny_checkpoint, "--time-budget", "20s"), stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("step"):
            break
    child.send_signal(signal.SIGINT)
    rest = child.stderr.read()
    assert child.wait(60) == EXIT_INTERRUPTED, rest
    assert "--resume" in rest and AdapterStore(repository).current() is None
    done = run(repository, tiny_checkpoint, "--time-budget", "20s", "--resume")
    assert done.returncode == EXIT_PUBLISHED, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
def test_a_kill_at_any_moment_leaves_the_published_adapter_whole(repository: Path, tiny_checkpoint: Path) -> None:
    assert run(repository, tiny_checkpoint, "--time-budget", "6s").returncode == EXIT_PUBLISHED
    store, draw = AdapterStore(repository), random.Random(1)
    for _ in range(N_KILLS):
        child = subprocess.Popen(command(repository, tiny_checkpoint, "--time-budget", "6s"), stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(4, 16))
        child.kill()
        child.wait()
        current = store.current()
        assert current is not None
        check_whole(current, read_manifest(current))
    assert run(repository, tiny_checkpoint, "--time-budget", "6s").returncode == EXIT_PUBLISHED


def test_a_killed_run_is_gone_on_with(repository: Path, tiny_checkpoint: Path) -> None:
    child = subprocess.Popen(
        command(repository, tiny_checkpoint, "--time-budget", "8s"), stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("step"):
            break
    child.kill()
    child.wait()
    (repository / "later.py").write_text("def later():\n    return 1\n" * 40)  # the run keeps the text it began with
    done = run(repository, tiny_checkpoint, "--resume")
    assert done.returncode == EXIT_PUBLISHED, done.stderr
    current = AdapterStore(repository).current()
    assert current is not None and "later.py" not in read_manifest(current).trained_files


def test_a_plan_gives_the_same_bytes_again(repository: Path, tiny_checkpoint: Path, tmp_path: Path, plan: Path) -> None:
    report = tmp_path / "report.json"
    first = run(repository, tiny_checkpoint, "--plan", str(plan), "--seed", "3", "--report", str(report))
    again = run(repository, tiny_checkpoint, "--plan", str(report))
    weights = []
    for done in (first, again):
        assert done.returncode == EXIT_PUBLISHED, done.stderr
    for stored in AdapterStore(repository).versions():
        assert stored.manifest is not None and stored.manifest.seed == 3
        weights.append((stored.folder / ADAPTER_WEIGHTS_FILE).read_bytes())
    assert len(weights) == 2 and weights[0] == weights[1]


def test_two_processes_train_together_as_one_does(
    repository: Path, tiny_checkpoint: Path, tmp_path: Path, plan: Path
) -> None:
    alone = run(repository, tiny_checkpoint, "--plan", str(plan), "--output", str(tmp_path / "alone"))
    assert alone.returncode == EXIT_PUBLISHED, alone.stderr
    own = command(repository, tiny_checkpoint, "--plan", str(plan), "--output", str(tmp_path / "both"))
    several = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29571"]
    done = subprocess.run([*several, *own[own.index("-m") :]], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("published as") == 1
    one, both = (load_file(tmp_path / name / ADAPTER_WEIGHTS_FILE) for name in ("alone", "both"))
    assert one.keys() == both.keys() and len(AdapterStore(repository).versions()) == 2
    for name, value in one.items():
        np.testing.assert_allclose(both[name], value, atol=2e-3, err_msg=name)


def test_what_is_odd_in_a_repository_is_left_out_by_reason(repository: Path, tiny_checkpoint: Path, plan: Path) -> None:
    (repository / "latin.py").write_bytes("name = 'caf\xe9'\n".encode("latin-1") * 20)
    (repository / "made_pb2.py").write_text("# Generated by the protocol buffer compiler.  DO NOT EDIT!\nx = 1\n" * 9)
    key = "AKIA" + "QWERTYUIOPASDFGH"
    (repository / "keys.py").write_text(f'def connect():\n    access_key = "{key}"\n    return access_key\n' * 3)
    done = run(repository, tiny_checkpoint, "--plan", str(plan))
    assert done.returncode == EXIT_PUBLISHED, done.stderr
    assert "left out: 1 not UTF-8" in done.stderr.replace("left out: 1 generated, 1 not", "left out: 1 not")
    assert "in keys.py" in done.stderr and key not in done.stderr
    current = AdapterStore(repository).current()
    assert current is not None and key.encode() not in b"".join(path.read_bytes() for path in current.iterdir())


def test_generated_code_alone_and_too_few_files_are_refused_with_counts(tiny_checkpoint: Path, tmp_path: Path) -> None:
    made, few = tmp_path / "made", tmp_path / "few"
    made.mkdir(), few.mkdir()
    for number in range(9):
        text = f"# Generated by the protocol buffer compiler.  DO NOT EDIT!\nvalue_{number} = {number}\n"
        (made / f"m{number}_pb2.py").write_text(text * 40)
    done = run(made, tiny_checkpoint)
    assert done.returncode == EXIT_ERROR and "0 files" in done.stderr and "9 generated" in done.stderr
    for number in range(4):
        (few / f"m{number}.py").write_text(f"value_{number} = {number}\n")
    done = run(few, tiny_checkpoint)
    assert done.returncode == EXIT_ERROR and "4 files" in done.stderr and "at least" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_that_cannot_be_written_is_told_before_minutes_are_spent(
    repository: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = run(repository, tiny_checkpoint, "--report", str(tmp_path / "file" / "report.json"))
    assert done.returncode == EXIT_ERROR and "nothing has been done yet" in done.stderr
    assert "Traceback" not in done.stderr and "timing" not in done.stderr


def test_a_data_folder_that_cannot_be_written_is_told_before_minutes_are_spent(
    repository: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    began = time.monotonic()
    done = run(repository, tiny_checkpoint)
    assert done.returncode == EXIT_ERROR and time.monotonic() - began < 60
    assert "cannot write to" in done.stderr and "Traceback" not in done.stderr


def test_a_dry_run_trains_nothing_and_lists_what_is_left_out(repository: Path, tiny_checkpoint: Path) -> None:
    (repository / "made_pb2.py").write_text("# Generated by the protocol buffer compiler.  DO NOT EDIT!\nx = 1\n" * 9)
    done = run(repository, tiny_checkpoint, "--dry-run")
    assert done.returncode == 0 and "left out: made_pb2.py: generated" in done.stderr
    assert not AdapterStore(repository).folder.exists()


def test_a_repository_without_anything_to_learn_is_refused_with_counts(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("words\n" * 200)
    done = run(tmp_path, tiny_checkpoint)
    assert done.returncode == EXIT_ERROR and "0 files" in done.stderr and "1 unsupported" in done.stderr
