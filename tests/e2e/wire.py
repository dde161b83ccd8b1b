"""A language client that speaks bare JSON-RPC: what no well-behaved client library would send can be sent with it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
SERVER = [sys.executable, "-P", "-m", "server"]
WAIT_S = 60.0  # generous: the machine may be busy

Message = dict[str, Any]


class Wire:
    """Both ends of a connection: messages go out as they are, and come in from a thread that reads all the time."""

    def __init__(self, outgoing: IO[bytes], incoming: IO[bytes]) -> None:
        self.seen: list[Message] = []  # everything that has come in and was looked at
        self._outgoing = outgoing
        self._incoming = incoming
        self._arrived: queue.Queue[Message | None] = queue.Queue()
        self._n_requests = 0
        self._n_opened = 0
        threading.Thread(target=self._read, daemon=True).start()

    def send_bytes(self, body: bytes) -> None:
        self._outgoing.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._outgoing.flush()

    def notify(self, method: str, params: Any = None) -> None:
        self.send_bytes(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())

    def send(self, method: str, params: Any = None) -> int:
        """Sends a request; its id."""
        self._n_requests += 1
        message = {"jsonrpc": "2.0", "id": self._n_requests, "method": method, "params": params}
        self.send_bytes(json.dumps(message).encode())
        return self._n_requests

    def reply(self, message_id: int | None) -> Message:
        """The reply to a request; requests of the server that come before are answered with null."""
        return self.wait_for(lambda message: "method" not in message and message.get("id") == message_id)

    def call(self, method: str, params: Any = None) -> Any:
        """The result of a request, which must not be an error."""
        reply = self.reply(self.send(method, params))
        assert "error" not in reply, reply
        return reply["result"]

    def error_code(self, method: str, params: Any = None) -> int:
        """The code of the error that a request must give."""
        code: int = self.reply(self.send(method, params))["error"]["code"]
        return code

    def wait_for(self, is_wanted: Callable[[Message], bool]) -> Message:
        """The next message that is wanted, also among those that were passed over before."""
        for number, message in enumerate(self.seen):
            if is_wanted(message):
                return self.seen.pop(number)
        while (arrived := self._arrived.get(timeout=WAIT_S)) is not None:
            if "method" in arrived and "id" in arrived:
                self.send_bytes(json.dumps({"jsonrpc": "2.0", "id": arrived["id"], "result": None}).encode())
            if is_wanted(arrived):
                return arrived
            self.seen.append(arrived)
        raise AssertionError("the server closed the connection")

    def wait_for_method(self, method: str) -> Message:
        return self.wait_for(lambda message: message.get("method") == method)

    def wait_for_model(self) -> None:
        """Returns once the server says that loading has ended."""
        self.wait_for(
            lambda message: message.get("method") == "$/progress" and message["params"]["value"]["kind"] == "end"
        )

    def execute(self, command: str, *arguments: Any) -> Any:
        return self.call("workspace/executeCommand", {"command": command, "arguments": list(arguments)})

    def initialize(self, **params: Any) -> Message:
        """Opens the session as an editor that shows progress; the result of `initialize`.

        The deadline is out of the way: what is tested here is not how busy the machine is.
        """
        capabilities = {"window": {"workDoneProgress": True}} | params.pop("capabilities", {})
        options = {"completion.deadlineMs": 60_000, "hover.deadlineMs": 60_000} | params.pop(
            "initializationOptions", {}
        )
        session = {"processId": None, "rootUri": None, "capabilities": capabilities, "initializationOptions": options}
        result = self.call("initialize", session | params)
        self.notify("initialized", {})
        return dict(result)

    def open(self, text: str, uri: str | None = None, language: str = "python") -> str:
        """Opens a document, under a new name if none is given."""
        self._n_opened += 1
        uri = uri or f"file:///work/module_{self._n_opened}.py"
        document = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        return uri

    def change(self, uri: str, version: int, text: str, line: int, character: int) -> None:
        """Types `text` at a position."""
        here = {"line": line, "character": character}
        changes = [{"range": {"start": here, "end": here}, "text": text}]
        self.notify(
            "textDocument/didChange", {"textDocument": {"uri": uri, "version": version}, "contentChanges": changes}
        )

    def ask(self, uri: str, line: int, character: int, kind: int = 2) -> int:
        """Sends a request for inline completions; its id."""
        return self.send("textDocument/inlineCompletion", inline_params(uri, line, character, kind))

    def complete(self, uri: str, line: int, character: int, kind: int = 2) -> list[Message]:
        """The items of an inline completion."""
        items: list[Message] = self.call("textDocument/inlineCompletion", inline_params(uri, line, character, kind))[
            "items"
        ]
        return items

    def _read(self) -> None:
        while header := self._incoming.readline():
            name, _, value = header.partition(b":")
            if name.lower() != b"content-length":
                self._arrived.put({"noise": header.decode(errors="replace")})
                continue
            while self._incoming.readline().strip():
                pass
            self._arrived.put(json.loads(self._incoming.read(int(value))))
        self._arrived.put(None)


def inline_params(uri: str, line: int, character: int, kind: int) -> Message:
    position = {"line": line, "character": character}
    return {"textDocument": {"uri": uri}, "position": position, "context": {"triggerKind": kind}}


class Process(Wire):
    """A server process on stdio."""

    def __init__(self, *arguments: str, stderr: Path | None = None, **environment: str) -> None:
        self._stderr = open(stderr or os.devnull, "wb")  # noqa: SIM115  # closed with the process
        self.process = subprocess.Popen(
            [*SERVER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=ROOT,
            env=os.environ | environment,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        super().__init__(self.process.stdin, self.process.stdout)

    def leave(self) -> int:
        """Ends the session as the protocol asks for; the exit status."""
        self.call("shutdown")
        self.notify("exit")
        return self.process.wait(WAIT_S)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except OSError:
            pass
        self._stderr.close()
