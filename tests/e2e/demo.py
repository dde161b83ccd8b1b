"""What an editor sees, in a terminal: ghost text and an explanation from a real server process.

    python -P tests/e2e/demo.py [FILE] [--model MODEL]

A language client of its own over stdio; it shares no code with the server. FILE is Python; without one, the example
under tests/cases/demo. Ends with 1 when no completion or no sentence of the model came.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parents[1] / "cases" / "demo" / "inventory.py"
SERVER = [sys.executable, "-P", "-m", "server", "--stdio", "--log-level", "warning"]
START_SECONDS = 120  # the first start on a machine converts the model
N_COMPLETIONS = 3
BOLD, DIM, GREEN, PLAIN = ("\033[1m", "\033[2m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("",) * 4


class DemoError(Exception):
    """What the server did not do, in one sentence."""


class Client:
    """A language server as a child process, and requests to it one at a time."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.n_requests = 0
        threading.Thread(target=self._read, daemon=True).start()

    def request(self, method: str, params: Any, timeout_s: float = 60.0) -> Any:
        """The result; requests of the server that arrive meanwhile are answered with null."""
        self.n_requests += 1
        self._send({"id": self.n_requests, "method": method, "params": params})
        ends_at = time.monotonic() + timeout_s
        while True:
            try:
                message = self.messages.get(timeout=max(ends_at - time.monotonic(), 0.001))
            except queue.Empty:
                raise DemoError(f"the server did not answer {method} within {timeout_s:.0f} s") from None
            if message is None:
                raise DemoError(f"the server ended with status {self.process.wait()} instead of answering {method}")
            if "method" in message:
                self._react(message)
            elif message.get("id") == self.n_requests:
                if "error" in message:
                    raise DemoError(f"{method}: {message['error']['message']}")
                return message["result"]

    def notify(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def close(self) -> int:
        """The server's exit status after the orderly end of the protocol."""
        self.request("shutdown", None)
        self.notify("exit", None)
        return self.process.wait(timeout=20)

    def _react(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._send({"id": message["id"], "result": None})
        elif message["method"] == "window/showMessage":
            print(f"{BOLD}server says:{PLAIN} {message['params']['message']}")

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin
        try:
            self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            self.process.stdin.flush()
        except BrokenPipeError:
            raise DemoError(f"the server ended with status {self.process.wait()}") from None

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream
        while header := stream.readline():
            n_bytes = int(header.split(b":")[1])
            while stream.readline().strip():
                pass
            self.messages.put(json.loads(stream.read(n_bytes)))
        self.messages.put(None)


def cursors(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Where a user would pause: after the first word of an indented line, with the rest still to be written."""
    for number, line in enumerate(lines):
        match = re.match(r"\s+(return|for \w+ in|\w+ [+-]?=|self\.\w+ =|if|with)\s", line)
        if match:
            yield number, match.end()


def undocumented_functions(lines: list[str]) -> Iterator[tuple[int, int]]:
    """The names of functions that have no docstring, as positions; longer names first, they say more."""
    found = []
    for number, line in enumerate(lines[:-1]):
        match = re.match(r"\s*(?:async )?def (\w+)\(.*:\s*$", line)
        if match and not match[1].startswith("__") and '"""' not in lines[number + 1]:
            found.append((-len(match[1]), number, match.start(1)))
    return ((number, column) for _, number, column in sorted(found))


def show_completions(client: Client, uri: str, lines: list[str]) -> int:
    """How many completions came, each printed in its place."""
    n_shown, version = 0, 1
    for number, column in cursors(lines):
        # The rest of the line is taken away, as if the user had just typed up to the cursor.
        before, rest = lines[number][:column], lines[number][column:]
        version += 1
        text = "\n".join([*lines[:number], before, *lines[number + 1 :]])
        document = {"uri": uri, "version": version}
        client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})
        started = time.monotonic()
        params = {
            "textDocument": {"uri": uri},
            "position": {"line": number, "character": column},
            "context": {"triggerKind": 2},  # as somebody types
        }
        items = client.request("textDocument/inlineCompletion", params)["items"]
        if not items:
            continue
        text = items[0]["insertText"]
        start = items[0]["range"]["start"]["character"]
        print(f"\ncompletion at line {number + 1}, column {column + 1}, {1000 * (time.monotonic() - started):.0f} ms")
        for above in range(max(number - 2, 0), number):
            print(f"  {DIM}{above + 1:4} | {lines[above]}{PLAIN}")
        print(f"  {number + 1:4} | {before[:start]}{GREEN}{text}{PLAIN}    {DIM}(the file had: {rest.strip()}){PLAIN}")
        n_shown += 1
        if n_shown == N_COMPLETIONS:
            break
    return n_shown


def show_explanation(client: Client, uri: str, lines: list[str]) -> bool:
    """Whether the model wrote a sentence; it is printed with the facts around it."""
    for number, column in undocumented_functions(lines):
        started = time.monotonic()
        argument = {"uri": uri, "position": {"line": number, "character": column}}
        answer = client.request("workspace/executeCommand", {"command": "loracle.explain", "arguments": [argument]})
        if answer and answer.get("sentence"):
            print(f"\nexplanation at line {number + 1}, {1000 * (time.monotonic() - started):.0f} ms")
            print(f"  {number + 1:4} | {lines[number]}")
            print(f"  the model says: {GREEN}{answer['sentence']}{PLAIN}")
            print("\n  as a hover:")
            print("\n".join(f"    {DIM}{line}{PLAIN}" for line in answer["markdown"].splitlines()))
            return True
    return False


def wait_for_model(client: Client) -> None:
    """Returns once `loracle.status` says that the model is loaded."""
    ends_at = time.monotonic() + START_SECONDS
    while time.monotonic() < ends_at:
        status = client.request("workspace/executeCommand", {"command": "loracle.status", "arguments": []})
        if status["model"]:
            return
        if status["modelProblem"]:
            raise DemoError(f"the server has no model: {status['modelProblem']}")
        time.sleep(0.1)
    raise DemoError(f"the model was not ready within {START_SECONDS} s")


def run(path: Path, model: str | None) -> int:
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    started = time.monotonic()
    client = Client([*SERVER, "--model", model] if model else SERVER)
    try:
        uri = path.as_uri()
        settings = {"completion": {"deadlineMs": 2000, "minConfidence": 0}, "hover": {"generate": "always"}}
        client.request(
            "initialize",
            {
                "processId": None,
                "rootUri": path.parent.as_uri(),
                "capabilities": {"textDocument": {"inlineCompletion": {}}},
                "initializationOptions": settings,
            },
        )
        answered = time.monotonic()
        client.notify("initialized", {})
        document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        client.notify("textDocument/didOpen", {"textDocument": document})
        wait_for_model(client)
        print(f"{BOLD}Loracle{PLAIN}, a language server on this machine: python {' '.join(SERVER[1:])}")
        print(f"`initialize` answered after {answered - started:.1f} s, model ready {time.monotonic() - started:.1f} s")
        print(f"file: {path.name}, {len(lines)} lines")
        n_completions = show_completions(client, uri, lines)
        document = {"uri": uri, "version": 1000}
        client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})
        explained = show_explanation(client, uri, lines)
        client.close()
    finally:
        client.process.kill()
    if not n_completions:
        raise DemoError("the server offered no completion")
    if not explained:
        raise DemoError("the server offered no sentence of the model")
    print("\nNothing left this machine. Next: point your editor at the command `loracle` (README.md).")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Completions and an explanation from a real server process.")
    parser.add_argument("file", nargs="?", type=Path, default=EXAMPLE)
    parser.add_argument("--model", help="as for the server itself")
    arguments = parser.parse_args()
    try:
        return run(arguments.file.resolve(), arguments.model)
    except (DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
