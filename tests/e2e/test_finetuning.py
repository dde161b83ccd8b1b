"""The adaptation from within an editor: progress, a published adapter that serves, a stop, and what cannot be done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.wire import Message, Process

from server.lm.adapter_store import AdapterStore
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
    answer = server.execute("loracle.finetune", {"timeBudget": "8s"})
    assert answer == {"started": True, "folder": str(repository)}
    assert server.execute("loracle.finetune")["problem"] == "a run goes on already"
    said = told(server)
    assert any(line and line.startswith("step ") for line in reports(server)), said
    if AdapterStore(repository).current() is None:  # a random model may be refused, and then says why
        assert "not published, nothing has changed: " in said and len(said) > 60
        return
    assert said == "Loracle: the adapter of shop is published"
    assert server.execute("loracle.reloadAdapter")["folder"] == str(AdapterStore(repository).current())


def test_a_mistake_is_told_as_the_command_line_tells_it(server: Process) -> None:
    server.execute("loracle.finetune", {"timeBudget": "soon"})
    assert "no time such as" in told(server)


def test_leaving_stops_the_run_and_changes_nothing(server: Process, repository: Path) -> None:
    server.execute("loracle.finetune", {"timeBudget": "60s"})
    assert server.leave() == 0
    assert AdapterStore(repository).current() is None
