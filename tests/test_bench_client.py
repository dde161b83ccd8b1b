"""The measuring client: what it sends, when it says an answer came, and how a server's failure is named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.client import Client, NoAnswer, ServerFailure, offset_at, position_at
from tests.bench.suggestion import Item, items_of

# Answers each request with its own parameters; some methods do something else.
SERVER = r"""
import json, sys
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


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(command=[sys.executable, "-I", "-S", "-c", SERVER]) as result:
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


def test_items_are_read_from_lists_and_bare_arrays() -> None:
    span = {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 2}}
    listed = [{"insertText": "xy", "range": span}]
    item = Item("xy", 2, 4)
    assert items_of({"items": listed}, "a\nbcd") == items_of(listed, "a\nbcd") == [item]
    assert items_of(None, "") == items_of({"items": []}, "") == []
    assert item.applied_to("a\nbcd") == "a\nxyd"
