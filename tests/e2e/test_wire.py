"""What a server process does with clients that are early, late, confused, silent or gone, and with bad files."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from e2e.wire import ROOT, SERVER, WAIT_S, Process, Wire, inline_params

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Start = Callable[..., Process]
HOVER = {"textDocument": {"uri": "file:///work/module.py"}, "position": {"line": 0, "character": 0}}
RETURN = "def add(first, second):\n    return \n"


def test_requests_before_and_after_the_session_are_refused_with_the_codes_of_the_protocol(start: Start) -> None:
    wire = start()
    assert wire.error_code("textDocument/hover", HOVER) == -32002
    wire.notify("textDocument/didOpen", {"textDocument": {"uri": "a", "languageId": "b", "version": 1, "text": ""}})
    wire.initialize()
    assert wire.error_code("initialize", {"processId": None, "rootUri": None, "capabilities": {}}) == -32600
    assert wire.call("textDocument/hover", HOVER) is None
    assert wire.call("shutdown") is None
    assert wire.error_code("textDocument/hover", HOVER) == -32600
    wire.notify("exit")
    assert wire.process.wait(WAIT_S) == 0


@pytest.mark.parametrize("ending, status", [("exit", 1), ("end of input", 1), ("shutdown, end of input", 0)])
def test_the_exit_status_says_whether_the_client_took_leave(start: Start, ending: str, status: int) -> None:
    wire = start()
    wire.initialize()
    if "shutdown" in ending:
        wire.call("shutdown")
    if "input" in ending:
        assert wire.process.stdin is not None
        wire.process.stdin.close()
    else:
        wire.notify("exit")
    assert wire.process.wait(WAIT_S) == status


def test_what_is_malformed_gets_an_error_and_the_server_serves_on(server: Process) -> None:
    uri = server.open(RETURN)
    for wrong in (
        {"textDocument": {"uri": uri}, "position": {"line": 1, "character": 11}},  # no context
        {"textDocument": {"uri": uri}, "position": {"line": -1, "character": 0}, "context": {"triggerKind": 1}},
        {"textDocument": {"uri": uri}, "position": {"line": "x", "character": 0}, "context": {"triggerKind": 1}},
        [],
        None,
    ):
        assert server.error_code("textDocument/inlineCompletion", wrong) == -32602
    for wrong in (
        [],
        [{}],
        [{"uri": uri}],
        [{"uri": uri, "position": 3}],
        [{"uri": uri, "range": {}}],
        ["x"],
        [{}, {}],
    ):
        arguments = {"command": "loracle.explain", "arguments": wrong}
        assert server.error_code("workspace/executeCommand", arguments) == -32602
    assert server.error_code("workspace/executeCommand", {"command": "loracle.nothing"}) == -32602
    assert server.error_code("textDocument/nothing", {}) == -32601
    server.send_bytes(b"this is not JSON")
    assert server.reply(None)["error"]["code"] == -32700
    server.send_bytes(b"[]")
    server.send_bytes(b'{"id": 1}')
    server.notify("textDocument/didChange", {"textDocument": {"uri": "file:///never/opened.py", "version": 1}})
    server.change("file:///never/opened.py", 2, "x", 0, 0)
    server.notify("$/cancelRequest", {"id": 987_654})
    assert [item["insertText"] for item in server.complete(uri, 1, 11)] == ["first + second"]
    assert not [message for message in server.seen if message.get("method") == "window/showMessage"]


def test_places_that_do_not_exist_are_answered_with_nothing(server: Process) -> None:
    uri = server.open(RETURN)
    assert server.complete(uri, 99, 0) == []
    assert server.complete("file:///never/opened.py", 0, 0) == []
    beyond = {"line": 99, "character": 0}
    for place in ({"textDocument": {"uri": uri}, "position": beyond}, HOVER | {"textDocument": {"uri": "x:y"}}):
        assert server.call("textDocument/hover", place) is None
    nothing = {"markdown": "", "sentence": None, "confidence": 0.0}
    for target in (
        {"uri": uri, "position": {"line": 99, "character": 0}},
        {"uri": "file:///no/such/file.py", "position": HOVER["position"]},
    ):
        assert server.execute("loracle.explain", target) == nothing
    # Past the end of a line is its end.
    assert [item["insertText"] for item in server.complete(uri, 1, 99)] == ["first + second"]


def test_trigger_kinds_counted_from_zero_are_understood(server: Process) -> None:
    uri = server.open(RETURN)
    assert server.complete(uri, 1, 11, kind=0)[0]["insertText"] == "first + second"


def test_cancelling_is_answered_as_such(start: Start) -> None:
    server = start()
    server.initialize(initializationOptions={"completion.debounceMs": 5_000})
    server.wait_for_model()
    uri = server.open(RETURN)
    server.change(uri, 2, " ", 0, 0)
    request = server.ask(uri, 1, 11)
    server.notify("$/cancelRequest", {"id": request})
    assert server.reply(request)["error"]["code"] == -32800
    target = {"uri": uri, "position": {"line": 0, "character": 5}}
    explain = server.send("workspace/executeCommand", {"command": "loracle.explain", "arguments": [target]})
    server.notify("$/cancelRequest", {"id": explain})
    reply = server.reply(explain)  # it may have been ready before the cancel came
    assert "result" in reply or reply["error"]["code"] == -32800
    assert server.execute("loracle.status")["cancelled"] == 1


def test_a_newer_request_or_an_edit_makes_an_older_request_empty(start: Start) -> None:
    server = start()
    server.initialize(initializationOptions={"completion.debounceMs": 5_000})
    server.wait_for_model()
    uri = server.open(RETURN)
    server.change(uri, 2, " ", 0, 0)
    older, newer = server.ask(uri, 1, 11), server.ask(uri, 1, 11)
    assert server.reply(older)["result"] == {"items": []}
    server.change(uri, 3, " ", 0, 0)
    assert server.reply(newer)["result"] == {"items": []}
    assert server.execute("loracle.status")["superseded"] == 2


# Stands for a library that prints: on the stream, on the descriptor, and from a child process.
NOISY_NUMPY = """
import builtins, os
importing, done = builtins.__import__, []
def noisy(name, *arguments, **more):
    if name == "numpy" and not done:
        done.append(print("noise", flush=True))
        os.write(1, b"noise")
        os.system("echo noise")
    return importing(name, *arguments, **more)
builtins.__import__ = noisy
"""


def test_noise_on_stdout_does_not_reach_the_client(start: Start, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOISY_NUMPY)
    log = tmp_path / "stderr.txt"
    server = start(PYTHONPATH=str(tmp_path), stderr=log)
    server.initialize()
    server.wait_for_model()
    uri = server.open(RETURN)
    assert len(server.complete(uri, 1, 11)) == 1
    assert not [message for message in server.seen if "noise" in message]
    assert server.leave() == 0
    assert log.read_text().count("noise") == 3


def test_logs_hold_no_source_text_whatever_goes_wrong(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "stderr.txt"
    server = start("--log-level", "debug", stderr=log)
    server.initialize()
    server.wait_for_model()
    uri = server.open(f"# SECRET_ONE\n{RETURN}")
    server.change(uri, 2, "SECRET_TWO", 0, 0)
    server.complete(uri, 2, 11)
    server.call("textDocument/hover", HOVER)
    server.execute("loracle.explain", {"uri": uri, "position": {"line": 1, "character": 5}})
    server.notify("textDocument/didOpen", {"textDocument": {"uri": uri, "text": "SECRET_THREE", "version": "x"}})
    server.error_code(
        "workspace/executeCommand", {"command": "loracle.explain", "arguments": ["SECRET_FOUR", "SECRET_FIVE"]}
    )
    server.error_code(
        "textDocument/inlineCompletion", inline_params("SECRET_SIX", 0, 0, 1) | {"position": "SECRET_SEVEN"}
    )
    assert server.leave() == 0
    written = log.read_text()
    assert "suggest" in written  # there is a log
    assert "SECRET" not in written
    assert "first + second" not in written


def test_a_missing_model_is_named_once_and_hovers_still_know_the_facts(start: Start, tmp_path: Path) -> None:
    server = start(model=str(tmp_path / "nowhere"))
    server.initialize()
    shown = server.wait_for_method("window/showMessage")["params"]
    assert "nowhere" in shown["message"]
    uri = server.open(RETURN + "add(1, 2)\n")
    assert server.complete(uri, 1, 11) == []
    hover = server.call("textDocument/hover", {"textDocument": {"uri": uri}, "position": {"line": 2, "character": 1}})
    assert "def add(first, second)" in hover["contents"]["value"]
    explained = server.execute("loracle.explain", {"uri": uri, "position": {"line": 2, "character": 1}})
    assert "def add(first, second)" in explained["markdown"]
    assert explained["sentence"] is None
    status = server.execute("loracle.status")
    assert "nowhere" in status["modelProblem"]
    assert server.leave() == 0
    assert not [message for message in server.seen if message.get("method") == "window/showMessage"]


@pytest.mark.parametrize(
    "file, content", [("model.safetensors", b"damaged"), ("config.json", b"{"), ("tokenizer.json", b"")]
)
def test_a_damaged_model_is_named_with_its_file(
    start: Start, scripted_model: Path, tmp_path: Path, file: str, content: bytes
) -> None:
    shutil.copytree(scripted_model, tmp_path / "damaged")
    (tmp_path / "damaged" / file).write_bytes(content)
    server = start(model=str(tmp_path / "damaged"))
    server.initialize()
    assert "damaged" in server.wait_for_method("window/showMessage")["params"]["message"]
    assert server.complete(server.open(RETURN), 1, 11) == []
    assert server.leave() == 0


def test_large_texts_do_not_stall_the_server(server: Process) -> None:
    line = "x = call(argument)  # comment\n"
    large = server.open(line * (10_000_000 // len(line)), "file:///work/large.py")
    long = server.open("x = '" + "y" * 1_000_000 + "'\n" + RETURN, "file:///work/long.py")
    small = server.open(RETURN)
    server.complete(small, 1, 11)
    for uri, at in ((large, 150_000), (long, 0)):
        started = time.monotonic()
        for version in range(2, 12):
            server.change(uri, version, "z", at, 4)
            server.complete(uri, at, 5)
        # Ten keys, each with its request; five times what a machine busy with other things needs.
        assert time.monotonic() - started < 20.0
    assert [item["insertText"] for item in server.complete(small, 1, 11)] == ["first + second"]


def test_unknown_languages_and_schemes_are_served_as_text(server: Process) -> None:
    for uri, language in (("untitled:Untitled-1", "python"), ("x-made-up:thing", "klingon"), ("not a uri", "")):
        server.open(RETURN, uri, language)
        assert isinstance(server.complete(uri, 1, 11), list)
        assert (
            server.call("textDocument/hover", {"textDocument": {"uri": uri}, "position": {"line": 1, "character": 5}})
            is None
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_client_is_served_over_tcp(start: Start) -> None:
    port = free_port()
    process = start("--tcp", "--port", str(port))
    ends_at = time.monotonic() + WAIT_S
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < ends_at
            assert process.process.poll() is None
            time.sleep(0.05)  # nothing tells from outside that a server listens
    with connection, connection.makefile("wb") as outgoing, connection.makefile("rb") as incoming:
        wire = Wire(outgoing, incoming)
        wire.initialize()
        wire.wait_for_model()
        uri = wire.open(RETURN)
        assert [item["insertText"] for item in wire.complete(uri, 1, 11)] == ["first + second"]
        wire.call("shutdown")
        wire.notify("exit")
        assert process.process.wait(WAIT_S) == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVER, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=WAIT_S)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--tcp", "--port", str(port))
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(find_spec("websockets") is not None, reason="websockets is installed")
def test_a_missing_websocket_package_is_named_with_its_remedy() -> None:
    ended = run("--ws")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "pip install 'pygls[ws]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_server_ends_when_the_process_that_started_it_is_gone(start: Start) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    process = start("--check-parent-process")
    process.send("initialize", {"processId": gone.pid, "rootUri": None, "capabilities": {}})
    assert process.process.wait(WAIT_S) == 1


def test_the_server_stays_as_long_as_the_process_that_started_it(start: Start) -> None:
    process = start("--check-parent-process")
    process.initialize(processId=os.getpid())
    process.wait_for_model()
    assert process.leave() == 0
