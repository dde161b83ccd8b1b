"""A language client that measures: a server process on stdio, and when each of its answers came.

Speaks JSON-RPC by hand and shares no code with the server. Knows nothing of what is measured.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.bench.positions import position_at
from tests.bench.table import BenchError

SERVER = (sys.executable, "-P", "-m", "server", "--stdio", "--log-level", "warning")
WAIT_S = 60.0
START_S = 180.0  # the first start with a model converts it
# What an environment that happens to be active in the shell would tell the server.
_OF_THE_SHELL = frozenset({"VIRTUAL_ENV", "CONDA_PREFIX"})


class ServerFailure(BenchError):
    """The server died, did not answer in time, or answered an error."""


class NoAnswer(ServerFailure):
    """The server lives and did not answer in time."""


class Pending:
    """A request on its way. Times are those of `time.perf_counter`."""

    def __init__(self, request_id: int, method: str, sent_at: float) -> None:
        self.request_id = request_id
        self.method = method
        self.sent_at = sent_at
        self.arrived_at = 0.0
        self._arrived = threading.Event()
        self._message: dict[str, Any] = {}

    def settle(self, message: dict[str, Any], arrived_at: float) -> None:
        self._message, self.arrived_at = message, arrived_at
        self._arrived.set()

    def within(self, seconds: float) -> bool:
        """Whether the answer came, waiting for it so long at most."""
        return self._arrived.wait(max(seconds, 0.0))

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that the answer is; None for a result."""
        return self._message.get("error")

    def result(self, timeout_s: float = WAIT_S) -> Any:
        """What was answered. ServerFailure when nothing comes, or an error."""
        if not self.within(timeout_s):
            raise NoAnswer(f"the server did not answer {self.method} within {timeout_s:.0f} s")
        if self.error is not None:
            raise ServerFailure(f"{self.method}: {self.error.get('message')}")
        return self._message.get("result")


class Client:
    """One server process and the requests to it. Used from one thread, which waits for answers and for nothing else.

    Two others write and read: a server that has stopped reading holds up only the one that writes.
    """

    def __init__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, command: Sequence[str] = SERVER
    ) -> None:
        # Settings of whoever measures must not decide the result.
        self._folder = tempfile.TemporaryDirectory(prefix="loracle-bench-")
        self._stderr_path = Path(self._folder.name, "stderr")
        own = {f"XDG_{name}_HOME": str(Path(self._folder.name, name.lower())) for name in ("CONFIG", "DATA")}
        inherited = {name: value for name, value in os.environ.items() if name not in _OF_THE_SHELL}
        self.started_at = time.perf_counter()
        with self._stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self._folder.name,
                env=inherited | own | dict(environment or {}),
            )
        self._pending: dict[int, Pending] = {}
        self._n_requests = 0
        self._versions: dict[str, int] = {}
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None: nothing more comes
        self._ended: str | None = None  # why no answer can come any more
        self._writer = threading.Thread(target=self._send_on, daemon=True)
        self._writer.start()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self._outgoing.put(None)
        self._writer.join(WAIT_S)  # it holds the stream that is closed here
        for stream in (self.process.stdin, self.process.stdout):
            try:
                assert stream
                stream.close()
            except OSError:
                pass
        self._folder.cleanup()

    def send(self, method: str, params: Any) -> Pending:
        """Sends a request without waiting for its answer."""
        self._n_requests += 1
        pending = Pending(self._n_requests, method, time.perf_counter())
        self._pending[pending.request_id] = pending
        self._write({"id": pending.request_id, "method": method, "params": params})
        if self._ended is not None:  # it may have ended before the request was known to the reader
            raise ServerFailure(self._ended)
        return pending

    def notify(self, method: str, params: Any) -> None:
        self._write({"method": method, "params": params})

    def call(self, method: str, params: Any, timeout_s: float = WAIT_S) -> Any:
        """The result of a request."""
        return self.send(method, params).result(timeout_s)

    def cancel(self, pending: Pending) -> None:
        self.notify("$/cancelRequest", {"id": pending.request_id})

    @property
    def is_dead(self) -> bool:
        """Whether no answer can come any more."""
        return self._ended is not None or self.process.poll() is not None

    def execute(self, command: str, *arguments: Any, timeout_s: float = WAIT_S) -> Any:
        """What a command answers."""
        return self.call("workspace/executeCommand", {"command": command, "arguments": list(arguments)}, timeout_s)

    def initialize(self, settings: Mapping[str, Any] | None = None, root: Path | None = None) -> float:
        """Opens the session, in the folder `root` if given; seconds from the start of the process to the answer."""
        folders = None if root is None else [{"uri": root.as_uri(), "name": root.name}]
        params: dict[str, Any] = {
            "processId": os.getpid(),
            "rootUri": None if root is None else root.as_uri(),
            "workspaceFolders": folders,
            "capabilities": {"textDocument": {"inlineCompletion": {}}},
            "initializationOptions": dict(settings or {}),
        }
        pending = self.send("initialize", params)
        pending.result()
        self.notify("initialized", {})
        return pending.arrived_at - self.started_at

    def ask_status(self) -> Pending:
        """Sends a request for what `loracle.status` tells."""
        return self.send("workspace/executeCommand", {"command": "loracle.status", "arguments": []})

    def status(self) -> dict[str, Any]:
        """What `loracle.status` tells."""
        return dict(self.ask_status().result())

    def wait_for_model(self) -> None:
        """Returns once the model serves. ServerFailure when it does not come."""
        ends_at = time.perf_counter() + START_S
        while time.perf_counter() < ends_at:
            status = self.status()
            if status["modelProblem"]:
                raise ServerFailure(f"no model: {status['modelProblem']}")
            if status["model"]:
                return
            time.sleep(0.01)
        raise ServerFailure(f"the model was not ready within {START_S:.0f} s")

    def wait_for_index(self) -> str | None:
        """Returns once the workspace folder is indexed whole: None. Else what is wrong with its index."""
        ends_at = time.perf_counter() + START_S
        while time.perf_counter() < ends_at:
            folders = self.status().get("index", ())
            if problems := [str(folder["problem"]) for folder in folders if folder["problem"]]:
                return "; ".join(problems)
            if folders and all(folder["isBuilt"] for folder in folders):
                return None
            time.sleep(0.02)
        return f"it was not ready within {START_S:.0f} s"

    def wait_until_idle(self, timeout_s: float) -> None:
        """Returns once the server's model has nothing to do. ServerFailure when that takes too long."""
        ends_at = time.perf_counter() + timeout_s
        while (asked := self.ask_status()).within(ends_at - time.perf_counter()):
            if not asked.result(0).get("busy"):
                return
            time.sleep(0.002)
        raise NoAnswer(f"the server was at work or silent for more than {timeout_s:.0f} s")

    def open(self, uri: str, language_id: str, text: str) -> None:
        """Opens a document, or replaces the text of one that is open."""
        version = self._versions.get(uri, 0) + 1
        if version > 1:
            self._change(uri, {"text": text})
            return
        self._versions[uri] = version
        document = {"uri": uri, "languageId": language_id, "version": version, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})

    def close(self, uri: str) -> None:
        """Closes a document."""
        del self._versions[uri]
        self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})

    @contextmanager
    def opened(self, uri: str, language_id: str, text: str) -> Iterator[None]:
        """The document is open inside, and closed afterwards whatever happens: it is to help with no other."""
        self.open(uri, language_id, text)
        try:
            yield
        finally:
            with suppress(ServerFailure):  # it has ended: nothing is open any more
                self.close(uri)

    def edit(self, uri: str, text: str, start: int, end: int, inserted: str) -> None:
        """Replaces the characters from `start` to `end` of `text`, the document as the server knows it."""
        span = {"start": position_at(text, start), "end": position_at(text, end)}
        self._change(uri, {"range": span, "text": inserted})

    def ask(self, uri: str, position: Mapping[str, int], *, invoked: bool = False) -> Pending:
        """Sends a request for inline completions."""
        context = {"triggerKind": 1 if invoked else 2}
        params = {"textDocument": {"uri": uri}, "position": dict(position), "context": context}
        return self.send("textDocument/inlineCompletion", params)

    def _change(self, uri: str, change: Mapping[str, Any]) -> None:
        self._versions[uri] += 1
        document = {"uri": uri, "version": self._versions[uri]}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})

    def _write(self, message: Mapping[str, Any]) -> None:
        if self._ended is not None:
            raise ServerFailure(self._ended)
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._outgoing.put(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def _send_on(self) -> None:
        """Writes what is to be sent, for as long as the server takes it."""
        stream = self.process.stdin
        assert stream
        while (message := self._outgoing.get()) is not None:
            try:
                stream.write(message)
                stream.flush()
            except (OSError, ValueError):  # it has ended, as the reader notices and tells
                return

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream
        try:
            while header := stream.readline():
                n_bytes = int(header.split(b":")[1])
                while stream.readline().strip():
                    pass
                body = stream.read(n_bytes)
                arrived_at = time.perf_counter()
                message = json.loads(body)
                if "method" not in message:
                    if (pending := self._pending.pop(message.get("id"), None)) is not None:
                        pending.settle(message, arrived_at)
                elif "id" in message:  # a question of the server: none needs more than an empty answer
                    self._write({"id": message["id"], "result": None})
        except (AttributeError, IndexError, TypeError, ValueError, ServerFailure):  # no message, or closed by us
            pass
        self._ended = self._death()
        for pending in list(self._pending.values()):
            pending.settle({"error": {"message": self._ended}}, time.perf_counter())

    def _death(self) -> str:
        """How the server ended, with the last it said."""
        try:
            status: object = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "the server sent something that is no message"
        try:
            said = self._stderr_path.read_text(encoding="utf-8", errors="replace").strip().split("\n")[-1]
        except OSError:
            said = ""
        return f"the server ended with status {status}" + (f": {said}" if said else "")
