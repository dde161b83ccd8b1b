"""jedi finds what a name refers to, in a process that can hang or die, and never runs what lies in a workspace."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.static_analysis import MAX_ANALYSED_CHARACTERS, Reference, StaticAnalysis, search_path
from tests.marks import split_at_cursor

TIMEOUT_S = 30.0


# jedi needs most of a second to read the built-in names for the first time, but nothing for this one.
QUICK = "def quick(): ...\nqu<|>ick()\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "shop" / "prices.py").write_text(
        'def total(prices: list[float]) -> float:\n    """All prices together."""\n    return sum(prices)\n',
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def analysis(workspace: Path) -> Iterator[StaticAnalysis]:
    analysis = StaticAnalysis(workspace)
    yield analysis
    analysis.close()


def found(analysis: StaticAnalysis, workspace: Path, marked: str) -> Reference | None:
    text, offset = split_at_cursor(marked)
    answer = analysis.find(workspace / "main.py", text, offset)
    assert answer is not None
    return answer.result(TIMEOUT_S)


def test_a_name_of_another_file_is_found_there(analysis: StaticAnalysis, workspace: Path) -> None:
    reference = found(analysis, workspace, "from shop.prices import total\nto<|>tal([])\n")
    assert reference is not None
    assert (reference.path, reference.line, reference.column) == (workspace / "shop" / "prices.py", 1, 4)
    assert (reference.kind, reference.docstring) == ("function", "All prices together.")


def test_a_built_in_name_has_a_signature_and_no_place(analysis: StaticAnalysis, workspace: Path) -> None:
    reference = found(analysis, workspace, "so<|>rted([])\n")
    assert reference is not None and reference.path is None and reference.module == "builtins"
    assert any("key" in signature for signature in reference.signatures) and reference.docstring


def test_a_method_of_an_inferred_type_is_found(analysis: StaticAnalysis, workspace: Path) -> None:
    reference = found(analysis, workspace, "text = ','.join([])\ntext.spl<|>it()\n")
    assert reference is not None and (reference.name, reference.kind) == ("split", "method")


def test_a_path_function_is_that_of_this_platform(analysis: StaticAnalysis, workspace: Path) -> None:
    reference = found(analysis, workspace, "import os\nos.path.jo<|>in\n")
    assert reference is not None and reference.module == os.path.__name__ and reference.docstring


def test_a_file_outside_the_workspace_sees_its_own_folder(
    analysis: StaticAnalysis, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "beside.py").write_text("def near(): ...\n", encoding="utf-8")
    answer = analysis.find(tmp_path / "main.py", "from beside import near\nnear()\n", 25)
    reference = answer.result(TIMEOUT_S) if answer is not None else None
    assert reference is not None and reference.path == tmp_path / "beside.py"


def test_what_is_not_known_is_none(analysis: StaticAnalysis, workspace: Path) -> None:
    assert found(analysis, workspace, "unknown_na<|>me\n") is None
    assert found(analysis, workspace, "x = \ud800 <|>\n") is None
    assert found(analysis, workspace, "<|>") is None


def test_the_same_question_joins_the_same_answer(analysis: StaticAnalysis, workspace: Path) -> None:
    first = analysis.find(workspace / "main.py", "sorted", 0)
    assert first is analysis.find(workspace / "main.py", "sorted", 0)
    assert first is not analysis.find(workspace / "main.py", "sorted\n", 0)


def test_a_waiting_question_is_dropped_for_a_newer_one(analysis: StaticAnalysis, workspace: Path) -> None:
    answers = [analysis.find(None, f"{number}; print", 4) for number in range(10, 30)]
    last = answers[-1]
    assert last is not None and last.result(TIMEOUT_S) is not None
    assert any(answer is not None and answer.cancelled() for answer in answers[:-1])


def test_nothing_of_the_workspace_is_ever_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    workspace = tmp_path
    marker = tmp_path_factory.mktemp("outside") / "was-run"
    touch = f"open({str(marker)!r}, 'a').write(__file__)\n"
    planted_modules = ("jedi", "parso", "gi", "json", "sitecustomize", "usercustomize", "conftest", "numpy", "typing")
    packages = workspace / ".venv" / "lib" / "python3.11" / "site-packages"
    for folder in (workspace, packages):
        for name in planted_modules:
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "__init__.py").write_text(touch + "def planted(): ...\n", encoding="utf-8")
    (packages / "boxes.py").write_text(touch + "def unpack(box): ...\n", encoding="utf-8")
    (packages / "run.pth").write_text(f"import os; {touch}", encoding="utf-8")
    (workspace / ".jedi").mkdir()
    (workspace / ".jedi" / "project.json").write_text(
        '[1, {"path": ".", "environment_path": ".venv/bin/python", "load_unsafe_extensions": true}]', encoding="utf-8"
    )
    (workspace / ".venv" / "bin").mkdir()
    (workspace / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n", encoding="utf-8")
    for name in ("python", "python3", "python3.11"):
        interpreter = workspace / ".venv" / "bin" / name
        interpreter.write_text(f"#!/bin/sh\necho run >> '{marker}'\nexec '{sys.executable}' \"$@\"\n", encoding="utf-8")
        interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VIRTUAL_ENV", str(workspace / ".venv"))
    monkeypatch.setenv("CONDA_PREFIX", str(workspace / ".venv"))
    monkeypatch.setenv("PATH", f"{workspace / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(workspace))
    monkeypatch.syspath_prepend(str(workspace))
    monkeypatch.chdir(workspace)
    analysis = StaticAnalysis(workspace)
    try:
        in_packages = found(analysis, workspace, "import boxes\nboxes.unp<|>ack(1)\n")
        assert in_packages is not None and in_packages.path == packages / "boxes.py"
        for name in planted_modules:
            found(analysis, workspace, f"import {name}\n{name}.plan<|>ted()\n")
        assert found(analysis, workspace, "import gi\ngi.pla<|>nted()\n") is not None
    finally:
        analysis.close()
    assert not marker.exists()


def test_a_cache_folder_that_cannot_be_made_costs_no_answer(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(in_the_way / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    analysis = StaticAnalysis(workspace)
    try:
        reference = found(analysis, workspace, "from shop.prices import total\nto<|>tal([])\n")
        assert reference is not None and reference.docstring == "All prices together."
    finally:
        analysis.close()


def test_a_search_that_does_not_end_is_ended_and_the_next_one_answered(workspace: Path) -> None:
    """The limit is too small for any answer, and a process that never answered is not tried for ever."""
    analysis = StaticAnalysis(workspace, limit_s=0.001)
    try:
        answers = []
        for number in range(6):
            answer = analysis.find(None, f"import os\nos.path.join({number})\n", 20)
            answers.append(None if answer is None else answer.result(TIMEOUT_S))
        assert answers[-1] is None
        assert analysis.find(None, "print", 0) is None
    finally:
        analysis.close()


def test_a_process_that_died_is_replaced(workspace: Path) -> None:
    analysis = StaticAnalysis(workspace)
    try:
        assert found(analysis, workspace, QUICK) is not None
        assert analysis._process is not None
        analysis._process.kill()
        analysis._process.wait()
        found(analysis, workspace, "#\n" + QUICK)  # lost with the process, or answered by the next
        assert found(analysis, workspace, "##\n" + QUICK) is not None
    finally:
        analysis.close()


def test_closing_does_not_wait_for_a_search(workspace: Path) -> None:
    analysis = StaticAnalysis(workspace)
    answer = analysis.find(workspace / "main.py", "import os\nos.path", 12)
    analysis.close()
    assert answer is not None and (answer.cancelled() or answer.done())
    assert analysis.find(None, "print", 0) is None
    analysis.close()


def test_an_endless_text_is_not_searched(analysis: StaticAnalysis) -> None:
    assert analysis.find(None, "x" * (MAX_ANALYSED_CHARACTERS + 1), 0) is None


def test_without_jedi_there_are_no_answers(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.static_analysis.PathFinder.find_spec", lambda *_: None)
    analysis = StaticAnalysis(workspace)
    answer = analysis.find(None, "print", 0)
    assert answer is not None and answer.result(TIMEOUT_S) is None
    analysis.close()


def test_the_servers_own_packages_stand_in_for_those_of_the_workspace(tmp_path: Path) -> None:
    assert any(folder.endswith("site-packages") for folder in search_path(tmp_path))
    packages = tmp_path / ".venv" / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "src").mkdir()
    path = search_path(tmp_path)
    assert [folder for folder in path if folder.endswith("site-packages")] == [str(packages)]
    assert str(tmp_path / "src") in path
