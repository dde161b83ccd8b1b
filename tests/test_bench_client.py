"""The measuring client: what it sends, when it says an answer came, and how a server's failure is named."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.client import Client, NoAnswer, ServerFailure
from tests.bench.positions import offset_at, position_at
from tests.bench.suggestion import Item, items_of

# Answers each request with its own parameters; some methods do something else.
SERVER = r"""
import json, os, sys, time
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
def send(**message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    stdout.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body)); stdout.flush()
notified = []
while header := stdin.readline():
    stdin.readline()
    message = json.loads(stdin.read(int(header.split(b":")[1])))
    method, number = message.get("method"), message.get("id")
    if method == "die":
        sys.exit("out of order")
    elif method == "fail":
        send(id=number, error={"code": -32603, "message": "no luck"})
    elif method == "stop":
        time.sleep(1000)
    elif method == "workspace/executeCommand":
        send(id=number, result=json.loads(os.environ["STATUS"]))
    elif method == "environment":
        send(id=number, result=dict(os.environ))
    elif method == "ask":
        send(id=99, method="workspace/configuration", params={})
        send(id=number, result=None)
    elif method == "notified":
        send(id=number, result=notified)
    elif number is None or method is None:
        notified.append(message)
    elif method != "hang":
        send(id=number, result=message["params"])
"""


COMMAND = [sys.executable, "-I", "-S", "-c", SERVER]


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(command=COMMAND) as result:
        yield result


def test_answers_find_their_requests_and_their_times(client: Client) -> None:
    first, second = client.send("echo", {"n": 1}), client.send("echo", {"n": 2})
    assert (second.result(), first.result()) == ({"n": 2}, {"n": 1})
    assert client.started_at < first.sent_at < second.sent_at
    assert first.sent_at < first.arrived_at <= second.arrived_at


def test_a_session_is_opened_in_a_folder_if_there_is_one(client: Client, tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    client.send = lambda method, params: sent.append(params) or Client.send(client, method, params)  # type: ignore
    client.initialize({"a": 1}, tmp_path)
    client.initialize()
    inside, nowhere = ((params["rootUri"], params["workspaceFolders"]) for params in sent)
    assert inside == (tmp_path.as_uri(), [{"uri": tmp_path.as_uri(), "name": tmp_path.name}])
    assert nowhere == (None, None)


def test_a_question_of_the_server_is_answered_with_nothing(client: Client) -> None:
    client.call("ask", {})
    assert {"jsonrpc": "2.0", "id": 99, "result": None} in client.call("notified", {})


def test_documents_are_opened_once_and_then_changed(client: Client) -> None:
    client.open("file:///a.py", "python", "a\n")
    client.open("file:///a.py", "python", "b\n")
    client.edit("file:///a.py", "b\n", 1, 1, "😀")
    opened, whole, edited = (message["params"] for message in client.call("notified", {}))
    assert opened["textDocument"] == {"uri": "file:///a.py", "languageId": "python", "version": 1, "text": "a\n"}
    assert whole["contentChanges"] == [{"text": "b\n"}]
    here = {"line": 0, "character": 1}
    assert edited["contentChanges"] == [{"range": {"start": here, "end": here}, "text": "😀"}]
    assert [whole["textDocument"]["version"], edited["textDocument"]["version"]] == [2, 3]


def test_an_error_is_named(client: Client) -> None:
    pending = client.send("fail", {})
    with pytest.raises(ServerFailure, match="fail: no luck"):
        pending.result()
    assert pending.error == {"code": -32603, "message": "no luck"}


def test_a_server_that_hangs_is_named(client: Client) -> None:
    pending = client.send("hang", {})
    assert not pending.within(0)
    with pytest.raises(NoAnswer, match="did not answer hang within 0 s"):
        pending.result(timeout_s=0.01)


@pytest.mark.timeout(20)
def test_a_server_that_has_stopped_reading_is_named_however_long_the_document(client: Client) -> None:
    client.send("stop", {})
    client.open("file:///a.py", "python", "x = 1\n" * 200_000)  # more than a pipe holds
    with pytest.raises(NoAnswer, match="did not answer echo within 0 s"):
        client.call("echo", {}, timeout_s=0.1)
    with pytest.raises(NoAnswer, match="at work or silent for more than 0 s"):
        client.wait_until_idle(0.1)


def test_a_document_that_is_longer_than_a_pipe_arrives_whole(client: Client) -> None:
    text = "x = 1\n" * 200_000
    client.open("file:///a.py", "python", text)
    (opened,) = client.call("notified", {})
    assert opened["params"]["textDocument"]["text"] == text


@pytest.mark.parametrize("status, problem", [
    ('{"index": [{"isBuilt": true, "problem": null}]}', None),
    ('{"index": [{"isBuilt": false, "problem": "no space"}]}', "no space"),
    ('{"index": [{"isBuilt": true, "problem": "only 32 MB of it"}]}', "only 32 MB of it"),
    ('{"index": [{"isBuilt": false, "problem": null}]}', "it was not ready within 0 s"),
    ('{"index": []}', "it was not ready within 0 s"),
])  # fmt: skip
def test_what_is_wrong_with_an_index_is_told(status: str, problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.client.START_S", 0.2)
    with Client(command=COMMAND, environment={"STATUS": status}) as client:
        assert client.wait_for_index() == problem


def test_a_document_is_closed_when_an_answer_fails(client: Client) -> None:
    with pytest.raises(ServerFailure, match="no luck"), client.opened("file:///a.py", "python", "a\n"):
        client.call("fail", {})
    assert [message["method"] for message in client.call("notified", {})] == [
        "textDocument/didOpen",
        "textDocument/didClose",
    ]
    with pytest.raises(ServerFailure, match="die: the server ended"), client.opened("file:///a.py", "python", "a\n"):
        client.call("die", {})


def test_the_environment_of_the_shell_does_not_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/somebody's")
    monkeypatch.setenv("CONDA_PREFIX", "/somebody's")
    with Client(command=COMMAND) as client:
        told = client.call("environment", {})
    assert not {"VIRTUAL_ENV", "CONDA_PREFIX"} & set(told)
    with Client(command=COMMAND, environment={"VIRTUAL_ENV": "/ours"}) as client:
        assert client.call("environment", {})["VIRTUAL_ENV"] == "/ours"


def test_a_server_that_dies_is_named_with_its_last_words(client: Client) -> None:
    waiting = client.send("hang", {})
    assert not client.is_dead
    with pytest.raises(ServerFailure, match="ended with status 1: out of order"):
        client.call("die", {})
    assert client.is_dead
    with pytest.raises(ServerFailure, match="ended with status 1"):
        waiting.result()
    with pytest.raises(ServerFailure, match="ended with status 1"):
        client.call("echo", {})


@pytest.mark.parametrize("text, offset, line, character", [
    ("", 0, 0, 0),
    ("ab\ncd", 2, 0, 2),
    ("ab\ncd", 3, 1, 0),
    ("ab\ncd", 5, 1, 2),
    ("ä😀x\n", 3, 0, 4),
    ("\n\n", 2, 2, 0),
    ("a\fb\u2028c", 4, 0, 4),
])  # fmt: skip
def test_positions_count_utf_16_units(text: str, offset: int, line: int, character: int) -> None:
    position = {"line": line, "character": character}
    assert position_at(text, offset) == position
    assert offset_at(text, position) == offset


@pytest.mark.parametrize("line, character", [(3, 0), (-1, 0), (0, -1)])
def test_a_position_outside_of_the_text_is_refused(line: int, character: int) -> None:
    with pytest.raises(ValueError, match="outside of the document"):
        offset_at("a\nb\n", {"line": line, "character": character})


def test_a_range_that_ends_before_it_starts_is_refused() -> None:
    span = {"start": {"line": 0, "character": 2}, "end": {"line": 0, "character": 1}}
    with pytest.raises(ValueError, match="a range from 2 to 1"):
        items_of([{"insertText": "x", "range": span}], "abc\n")


def test_items_are_read_from_lists_and_bare_arrays() -> None:
    span = {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 2}}
    listed = [{"insertText": "xy", "range": span}]
    item = Item("xy", 2, 4)
    assert items_of({"items": listed}, "a\nbcd") == items_of(listed, "a\nbcd") == [item]
    assert items_of(None, "") == items_of({"items": []}, "") == []
    assert item.applied_to("a\nbcd") == "a\nxyd"


# Who measures shares no code with what is measured.

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("server", "finetune")
ASKING = ("tests.bench.client", "tests.bench.suggestion", "tests.bench.quality.asking", "tests.bench.quality.serving")
# Sentences are scored, and those that need no model written, by what scores them in pretraining too: the figures of
# both are to be comparable. Nothing of it knows the protocol, or what the server does to get at a sentence.
SCORING = {
    "finetune.pretrain.bleu.bleu",
    "finetune.pretrain.chrf.chrf",
    "finetune.pretrain.first_sentence.first_sentence",
    "finetune.pretrain.passages.parse",
    "finetune.pretrain.samples.SourceFile",
    "finetune.pretrain.sentences.spelled_out",
    "finetune.pretrain.similar.SimilarFunctions",
    "finetune.pretrain.similar.training_functions",
}


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, inside functions too. We import nothing relatively, nor by a text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Name | ast.Attribute):
            assert ast.unparse(node).split(".")[-1] not in ("import_module", "__import__"), path


def files_behind(name: str) -> Iterator[Path]:
    """The files of ours that an import runs: those of the module, or the one that the name is in, and its packages."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        path = ROOT.joinpath(*parts[:n])
        yield from (file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file())


def imports_of(modules: tuple[str, ...]) -> dict[str, set[str]]:
    """By file what it imports, of all files within `tests` that are run when these modules are imported."""
    found: dict[str, set[str]] = {}
    waiting = [file for module in modules for file in files_behind(module)]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(ROOT).as_posix()
        if name not in found and name.startswith("tests/"):
            found[name] = set(imported(file))
            waiting += [behind for each in found[name] for behind in files_behind(each)]
    return found


def test_the_client_of_quality_shares_no_code_with_the_server() -> None:
    found = imports_of(ASKING)
    assert {"tests/bench/client.py", "tests/bench/quality/part.py", "tests/bench/heldout.py"} <= set(found)
    measured = {file: {name for name in names if name.split(".")[0] in MEASURED} for file, names in found.items()}
    assert {file: names for file, names in measured.items() if names} == {"tests/bench/quality/explaining.py": SCORING}


def test_an_import_of_the_server_would_be_seen() -> None:
    found = imports_of(("tests.bench.index",))
    assert any(name.startswith("server.index.") for name in found["tests/bench/index.py"])
