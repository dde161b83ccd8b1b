"""The protocol's edges, in one process: a server object, and a client that writes and reads its messages."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from server.lm.errors import UserError
from server.lm.model import LoadedModel
from server.loading import ModelChoice
from server.lsp.logs import keep_source_out
from server.lsp.options import ServeOptions
from server.lsp.processes import is_alive
from server.lsp.protocol import ProtocolServer
from server.lsp.server import Server
from server.scheduler import Urgency
from tests.test_session import WAIT_S, Gate, model

URI = "file:///work/module.py"
RETURN = "def add(first, second):\n    return \n"
HERE = {"line": 1, "character": 11}
SETTINGS = {"completion.debounceMs": 0, "completion.deadlineMs": 60_000, "completion.minConfidence": 0}


class Client:
    """Speaks JSON-RPC to a server in the same event loop, without a stream between them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.messages: list[dict[str, Any]] = []
        self._n_requests = 0
        self._arrived = asyncio.Event()
        server.protocol.set_writer(self, include_headers=False)  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        self.messages.append(json.loads(data))
        self._arrived.set()

    def close(self) -> None: ...

    def raw(self, message: Any) -> None:
        """As the library's reader does it."""
        protocol = self.server.protocol
        try:
            protocol.handle_message(json.loads(json.dumps(message), object_hook=protocol.structure_message))
        except Exception as error:
            self.server.report_server_error(error, ProtocolServer)

    def notify(self, method: str, params: Any = None) -> None:
        self.raw({"jsonrpc": "2.0", "method": method, "params": params})

    def send(self, method: str, params: Any = None) -> int:
        self._n_requests += 1
        self.raw({"jsonrpc": "2.0", "id": self._n_requests, "method": method, "params": params})
        return self._n_requests

    async def reply(self, message_id: int | str) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while True:
                for message in self.messages:
                    if message.get("id") == message_id and "method" not in message:
                        return message
                self._arrived.clear()
                await self._arrived.wait()

    async def call(self, method: str, params: Any = None) -> dict[str, Any]:
        return await self.reply(self.send(method, params))

    async def initialize(self, **params: Any) -> None:
        session = {"processId": None, "rootUri": None, "capabilities": {}, "initializationOptions": SETTINGS}
        assert "result" in await self.call("initialize", session | params)
        self.notify("initialized", {})
        async with asyncio.timeout(WAIT_S):
            while self.server.session.model is None and self.server.session.model_problem is None:
                await asyncio.sleep(0)

    async def open(self, text: str = RETURN) -> None:
        """Opens the document and waits until the server has read ahead in it."""
        document = {"uri": URI, "languageId": "python", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        await self.idle()

    async def idle(self) -> None:
        """Returns when the worker has nothing left to do."""
        job = self.server.session._worker.submit(Urgency.PREFILL, "after all", lambda _: None)
        await asyncio.wrap_future(job.future)

    def change(self, version: int, text: str, **position: int) -> None:
        changes = [{"range": {"start": position, "end": position}, "text": text}]
        self.notify(
            "textDocument/didChange", {"textDocument": {"uri": URI, "version": version}, "contentChanges": changes}
        )

    def ask(self, kind: int = 2, **more: Any) -> int:
        context = {"triggerKind": kind}
        return self.send(
            "textDocument/inlineCompletion",
            {"textDocument": {"uri": URI}, "position": HERE, "context": context} | more,
        )


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest_asyncio.fixture
async def client(gate: Gate) -> AsyncIterator[Client]:
    """A client whose server has a fake model and is initialized."""
    result = Client(Server(ServeOptions(), lambda choice: model(gate)))
    await result.initialize()
    yield result
    gate.open.set()
    result.server.session.close()
    assert result.server.session.join(WAIT_S)


async def within(limit_ms: float, awaited: Awaitable[Any]) -> Any:
    """The awaited result, which must come soon: a busy machine may take ten times as long, a defect takes for ever."""
    return await asyncio.wait_for(awaited, 10 * limit_ms / 1000)


async def test_cancelling_answers_with_the_protocols_code_at_once(client: Client, gate: Gate) -> None:
    await client.open()
    gate.close()
    request = client.ask()
    await gate.reached()
    client.notify("$/cancelRequest", {"id": request})
    assert (await within(50, client.reply(request)))["error"]["code"] == -32800
    gate.open.set()
    client.change(2, "f", line=1, character=11)
    assert (await client.reply(client.ask(position={"line": 1, "character": 12})))["result"]["items"]


async def test_cancelling_a_command_ends_its_work(client: Client, gate: Gate) -> None:
    await client.open("def add(first, second):\n    return first + second\n")
    gate.close()
    target = {"uri": URI, "position": {"line": 0, "character": 5}}
    request = client.send("workspace/executeCommand", {"command": "loracle.explain", "arguments": [target]})
    await gate.reached()
    client.notify("$/cancelRequest", {"id": request})
    assert (await within(50, client.reply(request)))["error"]["code"] == -32800
    n_passed = gate.n_passed
    gate.open.set()
    await client.idle()
    assert gate.n_passed <= n_passed + 1


async def test_a_change_makes_the_request_before_it_empty(client: Client, gate: Gate) -> None:
    await client.open()
    gate.close()
    request = client.ask()
    await gate.reached()
    client.change(2, "x", line=0, character=0)
    assert (await within(50, client.reply(request)))["result"] == {"items": []}


def folder(path: Path) -> dict[str, str]:
    return {"uri": path.as_uri(), "name": path.name}


@pytest_asyncio.fixture
async def two_folders(gate: Gate, tmp_path: Path) -> AsyncIterator[Client]:
    """A client with the workspace folders `one` and `two`, of which `lib` is alike in name alone."""
    for name in ("one", "two", "three"):
        (tmp_path / name / "lib").mkdir(parents=True)
        (tmp_path / name / "lib" / "a.ts").write_text(f"export function in_{name}() {{}}\n", encoding="utf-8")
    result = Client(Server(ServeOptions(), lambda choice: model(gate)))
    folders = [folder(tmp_path / "one"), folder(tmp_path / "two")]
    await result.initialize(
        workspaceFolders=folders,
        initializationOptions=SETTINGS | {"exclude": ["/private/**"], "hover.deadlineMs": 9_000},
    )
    yield result
    result.server.session.close()
    assert result.server.session.join(WAIT_S)


@pytest.mark.parametrize("name", ["one", "two"])
async def test_a_hover_reads_the_files_of_its_own_workspace_folder(
    two_folders: Client, tmp_path: Path, name: str
) -> None:
    uri = (tmp_path / name / "main.ts").as_uri()
    text = f"import {{ in_{name} }} from './lib/a';\nin_{name}();\n"
    document = {"uri": uri, "languageId": "typescript", "version": 1, "text": text}
    two_folders.notify("textDocument/didOpen", {"textDocument": document})
    place = {"textDocument": {"uri": uri}, "position": {"line": 1, "character": 1}}
    value = (await two_folders.call("textDocument/hover", place))["result"]["contents"]["value"]
    assert f"function in_{name}()" in value and "`lib/a.ts:1`" in value


async def explained(client: Client, path: Path) -> str:
    target = {"uri": path.as_uri(), "position": {"line": 0, "character": 18}}
    answer = await client.call("workspace/executeCommand", {"command": "loracle.explain", "arguments": [target]})
    return str(answer["result"]["markdown"])


async def test_unopened_files_are_read_in_the_workspace_alone_as_it_is_now(two_folders: Client, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name / "lib" / "a.ts" for name in ("one", "two", "three"))
    assert "in_one" in await explained(two_folders, first)
    assert await explained(two_folders, third) == ""
    event = {"added": [folder(tmp_path / "three")], "removed": [folder(tmp_path / "one")]}
    two_folders.notify("workspace/didChangeWorkspaceFolders", {"event": event})
    assert await explained(two_folders, first) == ""
    assert "in_three" in await explained(two_folders, third)
    assert two_folders.server.session.explaining.workspace_roots == (tmp_path / "two", tmp_path / "three")


async def test_unopened_files_that_are_barred_are_not_read(two_folders: Client, tmp_path: Path) -> None:
    (tmp_path / "two" / "private").mkdir()
    barred = [tmp_path / "two" / "private" / "a.ts", tmp_path / "two" / ".env", tmp_path / "two" / "link.ts"]
    for path in barred[:2]:
        path.write_text("export function a() {}\n", encoding="utf-8")
    barred[2].symlink_to(barred[0])
    for path in barred:
        assert await explained(two_folders, path) == ""


async def test_a_hover_in_a_barred_file_never_reaches_the_model(
    two_folders: Client, tmp_path: Path, gate: Gate
) -> None:
    await two_folders.idle()
    for path in (tmp_path / "two" / "private" / "a.py", tmp_path / "two" / ".env"):
        document = {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": RETURN}
        two_folders.notify("textDocument/didOpen", {"textDocument": document})
        n_passed = gate.n_passed
        place = {"textDocument": {"uri": path.as_uri()}, "position": {"line": 0, "character": 5}}
        answer = await two_folders.call("textDocument/hover", place)
        assert "def add" in answer["result"]["contents"]["value"]
        assert "second" in await explained(two_folders, path)
        assert gate.n_passed == n_passed


async def test_opening_a_document_again_makes_a_request_about_it_empty(client: Client, gate: Gate) -> None:
    await client.open()
    gate.close()
    request = client.ask()
    await gate.reached()
    opening = asyncio.create_task(client.open("other"))
    assert (await within(50, client.reply(request)))["result"] == {"items": []}
    gate.open.set()
    await opening


async def test_closing_a_document_makes_a_request_about_it_empty(client: Client, gate: Gate) -> None:
    await client.open()
    gate.close()
    request = client.ask()
    await gate.reached()
    client.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert (await within(50, client.reply(request)))["result"] == {"items": []}
    assert (await client.reply(client.ask()))["result"] == {"items": []}


async def test_shutting_down_ends_what_is_under_way(client: Client, gate: Gate) -> None:
    await client.open()
    gate.close()
    request = client.ask()
    await gate.reached()
    assert (await within(50, client.call("shutdown")))["result"] is None
    assert "id" in await within(50, client.reply(request))
    assert (await client.call("textDocument/hover", {}))["error"]["code"] in (-32600, -32602)


async def test_what_goes_wrong_inside_is_an_empty_answer_and_not_a_traceback(
    client: Client, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    await client.open()
    gate.pass_through = lambda: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    assert (await client.reply(client.ask()))["result"] == {"items": []}
    assert "ZeroDivisionError" in caplog.text
    target = {"uri": URI, "position": {"line": 0, "character": 5}}
    answer = await client.call("workspace/executeCommand", {"command": "loracle.explain", "arguments": [target]})
    assert answer["error"]["code"] == -32603
    assert "Traceback" not in json.dumps(answer)
    assert "data" not in answer["error"]
    assert not [message for message in client.messages if message.get("method") == "window/showMessage"]


async def test_a_user_error_in_a_command_is_told_in_its_words(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise UserError("there is no such thing; do this")

    monkeypatch.setattr(client.server.session.explaining, "explain", fail)
    await client.open()
    target = {"uri": URI, "position": HERE}
    answer = await client.call("workspace/executeCommand", {"command": "loracle.explain", "arguments": [target]})
    assert answer["error"] == {"code": -32803, "message": "there is no such thing; do this"}


async def test_an_error_says_where_a_message_is_wrong_and_never_what_stands_there(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    keep_source_out(logging.getLogger())
    reply = await client.reply(client.ask(position={"line": "SECRET", "character": 0}, context="SECRET"))
    assert reply["error"]["code"] == -32602
    assert "$.params.position.line" in reply["error"]["message"]
    assert "SECRET" not in json.dumps(reply)
    client.notify("textDocument/didOpen", {"textDocument": {"text": "SECRET"}})
    client.notify("workspace/didChangeConfiguration", "SECRET")
    assert not [record for record in caplog.records if "SECRET" in record.getMessage() and record.name != "root"]


@pytest.mark.parametrize("message", [[], 3, None, "x", {}, {"id": 1}, {"jsonrpc": "1.0", "id": 1, "method": "x"}])
async def test_what_is_no_message_is_passed_over(client: Client, message: Any) -> None:
    n_messages = len(client.messages)
    client.raw(message)
    assert len(client.messages) == n_messages
    assert "result" in await client.call("workspace/executeCommand", {"command": "loracle.status"})


@pytest.mark.parametrize("params", [{}, {"params": None}, {"params": {}}])
async def test_parameters_that_say_nothing_may_be_left_out(gate: Gate, params: dict[str, Any]) -> None:
    terse = Client(Server(ServeOptions(), lambda choice: model(gate)))
    await terse.call("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
    terse.raw({"jsonrpc": "2.0", "method": "initialized"} | params)
    async with asyncio.timeout(WAIT_S):
        while terse.server.session.model is None:
            await asyncio.sleep(0)
    terse.raw({"jsonrpc": "2.0", "id": "u", "method": "x/unknown"} | params)
    assert (await terse.reply("u"))["error"]["code"] == -32601
    terse.raw({"jsonrpc": "2.0", "id": "s", "method": "shutdown"} | params)
    assert (await terse.reply("s"))["result"] is None


async def test_replies_to_nothing_are_passed_over(client: Client) -> None:
    client.raw({"jsonrpc": "2.0", "id": "unknown", "result": 3})
    client.raw({"jsonrpc": "2.0", "id": "unknown", "error": {"code": 1, "message": "x"}})
    assert "result" in await client.call("workspace/executeCommand", {"command": "loracle.status"})


async def test_an_editor_that_never_says_its_settings_still_gets_a_model(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.lsp.configuration.PULL_TIMEOUT_S", 0.05)
    monkeypatch.setattr("server.lsp.notices.CREATE_TIMEOUT_S", 0.05)
    silent = Client(Server(ServeOptions(), lambda choice: model(gate)))
    capabilities = {"workspace": {"configuration": True}, "window": {"workDoneProgress": True}}
    await silent.initialize(capabilities=capabilities)
    await silent.open()
    assert (await silent.reply(silent.ask()))["result"]["items"]
    silent.server.session.close()


async def test_settings_that_cannot_be_read_are_told_and_the_model_comes_all_the_same(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("server.lsp.configuration.read_settings", fail)
    client = Client(Server(ServeOptions(), lambda choice: model(gate)))
    await client.initialize()
    assert client.server.session.model is not None
    shown = [message["params"]["message"] for message in client.messages if "showMessage" in message.get("method", "")]
    assert len(shown) == 1 and "the settings could not be read" in shown[0]
    client.server.session.close()


async def test_changes_are_registered_for_only_where_the_editor_takes_it(gate: Gate) -> None:
    can = {"dynamicRegistration": True}
    for capabilities, methods in (
        ({}, []),
        ({"didChangeConfiguration": can}, ["workspace/didChangeConfiguration"]),
        ({"didChangeWatchedFiles": can}, ["workspace/didChangeWatchedFiles"]),
    ):
        each = Client(Server(ServeOptions(), lambda choice: model(gate)))
        await each.initialize(capabilities={"workspace": capabilities})
        requests = [message for message in each.messages if message.get("method") == "client/registerCapability"]
        registered = [one["method"] for request in requests for one in request["params"]["registrations"]]
        assert registered == methods
        each.server.session.close()


async def test_the_reason_for_a_missing_model_is_told_once(gate: Gate) -> None:
    def load(choice: ModelChoice) -> LoadedModel:
        raise UserError(f"there is no model {choice.model}; do this")

    editor = Client(Server(ServeOptions(model="nowhere"), load))
    await editor.initialize()
    for _ in range(3):
        editor.notify("workspace/didChangeConfiguration", {"settings": {"loracle": {"threads": 2}}})
        editor.notify("workspace/didChangeConfiguration", {"settings": {"loracle": {"threads": 3}}})
        await editor.call("workspace/executeCommand", {"command": "loracle.status"})
    await editor.call("shutdown")
    shown = [message["params"] for message in editor.messages if message.get("method") == "window/showMessage"]
    assert [message["message"] for message in shown] == ["Loracle: there is no model nowhere; do this"]


async def test_nothing_is_registered_that_is_not_there(client: Client) -> None:
    commands = client.server.protocol.fm.commands
    names = ("explain", "status", "accepted", "why", "finetune", "reloadAdapter", "trust")
    assert set(commands) == {f"loracle.{name}" for name in names}


def test_a_process_is_alive_until_it_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert is_alive(os.getpid())
    assert not is_alive(child.pid)


def test_only_the_arguments_of_the_library_are_kept_from_the_log() -> None:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    root = logging.Logger("root")
    root.addHandler(Kept())
    keep_source_out(root)
    for name in ("pygls.protocol", "server.session"):
        record = logging.LogRecord(name, logging.ERROR, __file__, 1, "request %s: %s", (7, "a text"), None)
        root.handle(record)
    assert lines == ["request 7: ...", "request 7: a text"]
