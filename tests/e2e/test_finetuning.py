"""The adaptation from within an editor: progress, a published adapter that serves, a stop, and what cannot be done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.wire import Message, Process

from server.lm.adapter_manifest import file_hashes
from server.lm.adapter_store import AdapterStore
from tests.adapters import random_adapter
from tests.slow.test_finetune import repository

__all__ = ["repository"]  # the fixture
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def told(server: Process) -> str:
    """What the run's last message says."""

    def is_last(message: Message) -> bool:
        text = message.get("params", {}).get("message", "") if message.get("method") == "window/showMessage" else ""
        return "published" in text or "nothing has changed" in text

    return str(server.wait_for(is_last)["params"]["message"])


@pytest.fixture
def server(start: Callable[..., Process], repository: Path, tiny_checkpoint: Path) -> Process:
    process = start("--threads", "1", model=str(tiny_checkpoint))
    process.initialize(rootUri=repository.as_uri(), initializationOptions={"index.enabled": False})
    process.wait_for_model()
    return process


def reports(server: Process) -> list[Any]:
    values = [each["params"]["value"] for each in server.seen if each.get("method") == "$/progress"]
    return [value.get("message") for value in values if value["kind"] == "report"]


def test_a_run_shows_progress_and_its_adapter_serves(server: Process, repository: Path) -> None:
    answer = server.execute("loracle.finetune", {"timeBudget": "12s"})
    assert answer == {"started": True, "folder": str(repository)}
    assert server.execute("loracle.finetune")["problem"] == "a run goes on already"
    said = told(server)
    assert any(line and line.startswith("step ") for line in reports(server)), said
    assert said == "Loracle: the adapter of shop is published"
    (stored,) = AdapterStore(repository).versions()
    assert stored.is_current and stored.problem is None and stored.manifest is not None
    shown = server.execute("loracle.reloadAdapter")
    assert shown["folder"] == str(stored.folder) and shown["version"] == stored.version
    assert shown["problem"] is None and shown["age"]["learnedFiles"] == len(stored.manifest.trained_files) > 0
    assert shown["age"]["changedFiles"] == 0 and not shown["age"]["runAdvised"], shown


def children_of(process_id: int) -> list[int]:
    """The processes that a process has started and that have not ended; those of Linux alone are known."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = each.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == process_id and state != "Z":
            found.append(int(each.parent.name))
    return found


def test_cancelling_the_progress_ends_the_run_and_changes_nothing(
    server: Process, repository: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    store = AdapterStore(repository)
    store.publish(tmp_path / "candidate", random_adapter(tmp_path / "candidate", tiny_checkpoint))
    before = store.current()
    assert before is not None and server.execute("loracle.reloadAdapter")["folder"] == str(before)
    hashes, others = file_hashes(before), children_of(server.process.pid)
    assert server.execute("loracle.finetune", {"timeBudget": "10m"})["started"]

    def is_step(message: Message) -> bool:
        value = message["params"]["value"] if message.get("method") == "$/progress" else {}
        return str(value.get("message")).startswith("step ")

    token = server.wait_for(is_step)["params"]["token"]
    started = [each for each in children_of(server.process.pid) if each not in others]
    assert len(started) == 1 or sys.platform != "linux"
    server.notify("window/workDoneProgress/cancel", {"token": token})
    began = time.monotonic()
    said = told(server)
    assert said.startswith("Loracle: stopped, nothing has changed; `loracle.finetune` with `{resume: true}` goes on")
    assert time.monotonic() - began < 60
    assert not set(children_of(server.process.pid)) & set(started)
    assert store.current() == before and file_hashes(before) == hashes and len(store.versions()) == 1
    assert server.execute("loracle.status")["adapter"]["folder"] == str(before)
    assert any(store.run_folder.iterdir())  # what was learned is kept


def test_a_mistake_is_told_as_the_command_line_tells_it(server: Process) -> None:
    server.execute("loracle.finetune", {"timeBudget": "soon"})
    assert "no time such as" in told(server)


def test_leaving_stops_the_run_and_changes_nothing(server: Process, repository: Path) -> None:
    server.execute("loracle.finetune", {"timeBudget": "60s"})
    assert server.leave() == 0
    assert AdapterStore(repository).current() is None
