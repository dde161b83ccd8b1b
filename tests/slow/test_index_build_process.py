"""Builds that are killed leave a whole index, and large trees are indexed within bounds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.index.build import build
from server.index.build_process import BuildError, Progress, start_build
from server.index.segment import Segment
from server.index.store import read_current
from server.repository.files import Rule, list_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Kills itself at the n-th call of a function that changes what lies on disk.
SUICIDE = """
import os, sys
from pathlib import Path
from server.index.build import build

name, n_left = sys.argv[1], int(sys.argv[2])
owner = Path if name == "write_text" else os
usual = getattr(owner, name)

def fatal(*arguments, **options):
    global n_left
    n_left -= 1
    if n_left < 0:
        os.kill(os.getpid(), 9)
    return usual(*arguments, **options)

setattr(owner, name, fatal)
build(Path(sys.argv[3]), Path(sys.argv[4]))
"""


def fill(root: Path, n_files: int, version: int = 0) -> None:
    for number in range(n_files):
        path = root / f"package_{number % 40}" / f"module_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"def function_{number}_{version}(one):\n    return one + {number}\n")


def texts(output: Path) -> dict[str, bytes]:
    """The whole index in use, every byte of it read."""
    generation = read_current(output)
    assert generation is not None
    assert Segment.load(generation.dependencies).n_bytes == 0
    return {file.path: file.text for file in Segment.load(generation.repository).files()}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals here")
@pytest.mark.parametrize(
    "name, n_before", [("mkdir", 1), ("fsync", 0), ("fsync", 3), ("write_text", 1), ("rename", 0), ("replace", 0)]
)
def test_a_build_killed_while_it_writes_leaves_the_former_index(tmp_path: Path, name: str, n_before: int) -> None:
    root, output = tmp_path / "root", tmp_path / "index"
    fill(root, 20)
    build(root, output)
    former = texts(output)
    fill(root, 20, version=1)
    command = [sys.executable, "-P", "-c", SUICIDE, name, str(n_before), str(root), str(output)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert texts(output) == former
    build(root, output)
    assert all(b"_1(one)" in text for text in texts(output).values())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals here")
def test_a_build_killed_at_any_moment_leaves_a_whole_index(tmp_path: Path) -> None:
    root, output = tmp_path / "root", tmp_path / "index"
    fill(root, 400)
    build(root, output)
    versions = [texts(output)]
    for round_number, n_told in enumerate((1, 3, 10, 30, 43, 44, 45)):
        fill(root, 400, version=round_number + 1)
        process = start_build(root, output)
        events = process.events()
        told = [event for event, _ in zip(events, range(n_told), strict=False)]
        assert all(isinstance(event, Progress) for event in told)
        os.kill(process.pid, signal.SIGKILL)
        try:
            list(events)
        except BuildError:
            pass  # else it was done before it was killed
        versions.append(
            {path: text.replace(b"_0(", b"_%d(" % (round_number + 1)) for path, text in versions[0].items()}
        )
        assert texts(output) in versions
    build(root, output)
    assert texts(output) == versions[-1]


@pytest.fixture(scope="module")
def hundred_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a thousand files more than are listed."""
    root: Path = tmp_path_factory.mktemp("many") / "root"
    for folder in range(500):
        inner = root / f"package_{folder}"
        inner.mkdir(parents=True)
        for number in range(202):
            (inner / f"module_{number}.py").touch()
    return root


@pytest.mark.parametrize("repository", [True, False], ids=["git", "walk"])
def test_a_hundred_thousand_files_are_listed_and_the_limit_is_told(hundred_thousand: Path, repository: bool) -> None:
    if repository:
        subprocess.run(["git", "init", "-q"], cwd=hundred_thousand, check=True)
    try:
        found = list_files(hundred_thousand, Rule(frozenset({".py"})))
    finally:
        shutil.rmtree(hundred_thousand / ".git", ignore_errors=True)
    assert len(found.files) == 100_000 and not found.is_whole
    assert [drop.reason for drop in found.drops] == ["beyond the limit"] * 1_000


def test_a_change_of_thousands_of_files_reads_only_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.index import texts as texts_module

    root, output = tmp_path / "root", tmp_path / "index"
    fill(root, 8_000)
    assert build(root, output).n_files == 8_000
    read: list[str] = []
    read_text = texts_module.read_text
    monkeypatch.setattr(texts_module, "read_text", lambda *given: read.append(given[1]) or read_text(*given))
    fill(root, 3_000, version=10)  # one character more each
    assert build(root, output).n_files == 8_000
    assert len(read) == 3_000
    assert sum(b"_10(one)" in text for text in texts(output).values()) == 3_000
