"""Servers for the end-to-end tests, with a model whose text is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.scripted import write_scripted_checkpoint
from e2e.wire import Process

from tests import conftest

SCRIPT = ["def add(first, second):\n    return first + second\n", '"; return first + second\n']


@pytest.fixture(scope="session")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that writes `SCRIPT`."""
    return write_scripted_checkpoint(tmp_path_factory.mktemp("scripted"), SCRIPT, conftest.write_tokenizer)


@pytest.fixture
def start(scripted_model: Path) -> Iterator[Callable[..., Process]]:
    """Starts server processes that end with the test: `start("--tcp")`, `start(model="missing")`."""
    started: list[Process] = []

    def start_one(*arguments: str, model: str | None = None, stderr: Path | None = None, **environment: str) -> Process:
        process = Process("--model", model or str(scripted_model), *arguments, stderr=stderr, **environment)
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server(scripted_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server for all tests of a module, initialized and with its model loaded. Each test opens its own documents."""
    home = str(tmp_path_factory.mktemp("home"))
    folders = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HF_HOME")
    with Process("--model", str(scripted_model), **dict.fromkeys(folders, home)) as process:
        process.initialize()
        process.wait_for_model()
        yield process
