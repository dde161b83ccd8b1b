"""The command line: exit status, what goes to stdout and what to stderr, and options on either side of a command."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import __main__ as command_line
from server.__main__ import main
from server.account import COUNTS
from server.index.build_process import BuildError
from server.index.live import REPOSITORY
from server.lsp.options import ServeOptions

SOURCE = "def add(first, second):\n    return first + second\n\n\ntotal = add(1, 2)\nresult = \n"


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    """`main` sets up logging for a process of its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sums.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeOptions]:
    """What the server would have been started with."""
    started: list[ServeOptions] = []
    monkeypatch.setattr("server.lsp.server.serve", lambda options: started.append(options) or 0)
    return started


def usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--stdio"], ["--stdio", "--clientProcessId=7"]])
def test_without_a_command_it_serves_on_stdio(arguments: list[str], served: list[ServeOptions]) -> None:
    assert main(arguments) == 0
    assert served[0].transport == "stdio"
    assert served[0].client_process_id == (7 if len(arguments) == 2 else None)


def test_options_reach_the_server(served: list[ServeOptions], tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = f"--tcp --port 0 --model m --engine onnx --threads 3 --adapter a/b --log-file {log} --log-level DEBUG"
    assert main([*arguments.split(), "--check-parent-process"]) == 0
    assert served[0] == ServeOptions(
        "tcp", "127.0.0.1", 0, "m", "a/b", "onnx", 3, log, "debug", check_parent_process=True
    )
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--unknown"],
        ["--tcp", "--ws"],
        ["--port", "70000"],
        ["--threads", "0"],
        ["--engine", "cuda"],
        ["frob"],
        ["complete"],
        ["complete", "a.py"],
        ["complete", "a.py:3"],
        ["complete", "a.py:x:1"],
        ["explain", "a.py"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "loracle" in usage_error(arguments, capsys)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("missing.py:1:1", "cannot read"),
        ("sums.py:99:1", "has no line 99; its lines are 1 to 7"),
        ("sums.py:1:99", "has no column 99; its columns are 1 to 24"),
        ("latin.py:1:1", "is not UTF-8 text"),
        (":1:1", "cannot read"),
    ],
)
@pytest.mark.parametrize("command", ["complete", "explain"])
def test_a_place_that_is_not_there_is_one_sentence(
    command: str, place: str, says: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file.parent / "latin.py").write_bytes(b"\xff\n")
    assert main([command, f"{file.parent}/{place}"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("loracle: ")
    assert says in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("model", ["nobody/no-such-model", "./no/such/folder"])
def test_an_unknown_model_is_one_sentence(model: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["complete", f"{file}:6:10", "--model", model]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert model in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_completion_as_json(
    order: str, file: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(tiny_checkpoint), "--threads", "1"]
    command = ["complete", f"{file}:6:10", "--json"]
    assert main([*options, *command] if order == "before" else [*command, *options]) == 0
    answer = json.loads(capsys.readouterr().out)
    account = {"ended", "confidence", "milliseconds", "finish", "filters", "tokens", *COUNTS}
    assert set(answer) >= {"text", "range", *account}
    assert {"context", "prompt", "prefill", "decode", "filters"} <= set(answer["milliseconds"])
    assert answer["filters"][0].keys() == {"filter", "action", "reason"}
    assert answer["nPromptTokens"] > 10


def test_a_completion_is_the_only_thing_on_stdout(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from server.completion import Outcome, Suggestion

    offset = SOURCE.index("result = ") + len("result = ")
    outcomes = [Outcome((Suggestion("total", offset, offset, 0.5),), "offered"), Outcome((), "the model ended it here")]
    monkeypatch.setattr("server.terminal.chosen_model", lambda settings, root: None)
    monkeypatch.setattr("server.completion.complete", lambda *_, index: outcomes.pop(0))
    assert main(["complete", f"{file}:6:10"]) == 0
    assert capsys.readouterr() == ("total\n", "")
    assert main(["complete", f"{file}:6:10"]) == 0
    assert capsys.readouterr() == ("", "loracle: nothing is offered there: the model ended it here\n")


def test_the_workspace_is_indexed_for_a_completion_and_the_index_kept(
    file: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "pyproject.toml").write_text("[tool.loracle]\ncompletion.minConfidence = 0\n")
    (file.parent / "other.py").write_text("def other(first, second):\n    result = add(first, second)\n")
    command = ["complete", f"{file}:6:10", "--json", "--model", str(tiny_checkpoint), "--threads", "1"]
    assert main(command) == 0
    sources = [source for token in json.loads(capsys.readouterr().out)["tokens"] for source in token["sources"]]
    assert {"path": "other.py", "line": 2, "tier": "repository"} in sources
    monkeypatch.setattr("server.index.build_process.start_build", None)  # what is kept is used, and nothing built
    assert main(command) == 0
    assert any(token["sources"] for token in json.loads(capsys.readouterr().out)["tokens"])
    (file.parent / "pyproject.toml").write_text("[tool.loracle]\nindex.enabled = false\n")
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == []


def test_what_has_gone_or_changed_since_it_was_indexed_is_not_in_a_completion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.lm.context import Document
    from server.lm.languages import language_for
    from server.settings import Settings
    from server.terminal import index_of

    def texts() -> dict[str, str]:
        index = index_of(tmp_path, Settings())
        assert index is not None
        tiers = index.tiers(Document("", "x.py", language_for("python"), ""), 0)
        tier = next(tier for tier in tiers if tier.name == REPOSITORY)
        files = tier.segment.files()
        return {file.path: file.text.decode() for n, file in enumerate(files) if n not in tier.hidden}

    source = "def {0}(first):\n    return first.{0}\n".format
    names = ("kept", "gone", "ignored", "changed")
    for name in names:
        (tmp_path / f"{name}.py").write_text(source(name))
    assert texts() == {f"{name}.py": source(name) for name in names}
    (tmp_path / "gone.py").unlink()
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    (tmp_path / "changed.py").write_text(source("newer"))

    def fail(*_: object) -> None:
        raise BuildError("no process can be had")

    with monkeypatch.context() as broken:
        broken.setattr("server.index.build_process.start_build", fail)
        assert texts() == {"kept.py": source("kept")}
        assert capsys.readouterr() == ("", "loracle: no process can be had\n")
    assert texts() == {"kept.py": source("kept"), "changed.py": source("newer")}


def test_an_index_that_takes_too_long_or_cannot_be_kept_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.settings import Settings
    from server.terminal import index_of

    assert index_of(tmp_path, Settings(), limit_s=0) is None
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert f"indexing {tmp_path} takes more than" in printed.err
    (tmp_path / "file").touch()
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file"))  # a file where a folder is needed
    assert index_of(tmp_path, Settings()) is None
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "cannot keep the index" in printed.err


def test_a_file_with_secrets_is_not_shown_to_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text("TOKEN=1\n")
    # No model is named that could be loaded: none is needed for this answer.
    assert main(["complete", f"{tmp_path}/.env:1:8", "--json", "--model", "nobody/no-such-model"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] is None
    assert "secrets" in answer["ended"]


@pytest.mark.parametrize("line", [3, 6])
def test_what_is_excluded_is_explained_without_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: int
) -> None:
    """A name that an excluded file defines, and any name in one."""
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "pyproject.toml").write_text('[tool.loracle]\nexclude = ["./private"]\n')
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "sums.ts").write_text("export function add() {}\n" * 6)
    (tmp_path / "main.ts").write_text("import { add } from './private/sums';\n\nadd();\n")
    file = tmp_path / ("main.ts" if line == 3 else "private/sums.ts")
    # No model is named that could be loaded: none is needed for this answer.
    assert main(["explain", f"{file}:{line}", "--json", "--model", "nobody/no-such-model"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert "function add()" in answer["markdown"] and answer["sentence"] is None


def test_an_explanation_shows_the_definition(
    file: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", f"{file}:1", "--model", str(tiny_checkpoint), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"markdown", "sentence", "confidence"}
    assert "def add(first, second)" in answer["markdown"]
    assert main(["explain", f"{file}:5:9", "--model", str(tiny_checkpoint)]) == 0
    assert "def add(first, second)" in capsys.readouterr().out


def test_facts_come_without_a_model_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", f"{file}:1", "--model", "nobody/no-such-model"]) == 1
    printed = capsys.readouterr()
    assert "def add(first, second)" in printed.out
    assert "nobody/no-such-model" in printed.err


@pytest.mark.parametrize("place_of_settings", ["user", "project"])
def test_settings_in_files_count(
    place_of_settings: str,
    file: Path,
    tiny_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from server.settings_files import user_settings_file

    written = 'exclude = ["sums.py"]\ncompletoin = 1\n'
    if place_of_settings == "user":
        user_settings_file().parent.mkdir(parents=True)
        user_settings_file().write_text(written)
    else:
        (file.parent / "pyproject.toml").write_text(f"[tool.loracle]\n{written}")
    assert main(["complete", f"{file}:6:10", "--model", str(tiny_checkpoint)]) == 0
    printed = capsys.readouterr()
    assert "the file is excluded" in printed.err
    assert "completoin" in printed.err


def test_a_file_with_an_endless_number_is_a_problem_in_words(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "pyproject.toml").write_text(f"[tool.loracle]\nthreads = {'9' * 9000}\nexclude = ['*.py']\n")
    assert main(["explain", f"{file}:1"]) in (0, 1)
    assert "pyproject.toml is not valid TOML" in capsys.readouterr().err


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "run", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_has_gone_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOKEN=1\n")
    command = [sys.executable, "-P", "-m", "server", "complete", f"{tmp_path}/.env:1:8", "--json"]
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_log_that_cannot_be_written_does_not_stop_it(
    served: list[ServeOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--log-file", str(tmp_path / "no" / "folder")]) == 0
    assert "cannot write the log" in capsys.readouterr().err
    assert served
