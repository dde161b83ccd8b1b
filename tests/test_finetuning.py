"""`loracle.finetune`, in one process with the server: one run at a time, stopped once, and how it ended is told."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from server.lsp import finetuning
from server.lsp.options import ServeOptions
from server.lsp.server import Server
from tests.test_lsp_protocol import Client
from tests.test_session import WAIT_S, Gate, model

PROGRAM = """
import signal, sys, time
pressed = []
signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
print("step 1 of 9", file=sys.stderr, flush=True)
"""
STOPS = PROGRAM + (
    "while not pressed: time.sleep(0.01)\n"
    "time.sleep(0.4)\n"  # many looks at the token long, as a step of a training may be
    "print('pressed', len(pressed), file=sys.stderr, flush=True)\n"
    "sys.exit(130 if len(pressed) == 1 else 1)\n"
)
IGNORES = PROGRAM + "while True: time.sleep(0.01)\n"


class Editor(Client):
    """A client that shows progress."""

    def write(self, data: bytes) -> None:
        super().write(data)
        message = self.messages[-1]
        if "method" in message and "id" in message:
            reply = {"jsonrpc": "2.0", "id": message["id"], "result": None}
            asyncio.get_running_loop().call_soon(self.raw, reply)

    async def seen(self, method: str, text: str) -> dict[str, Any]:
        """The params of the first message of a method that hold a text."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for message in self.messages:
                    if message.get("method") == method and text in str(message["params"]):
                        return dict(message["params"])
                self._arrived.clear()
                await self._arrived.wait()

    def run(self, **options: object) -> int:
        return self.send("workspace/executeCommand", {"command": "loracle.finetune", "arguments": [options]})


class Children:
    """The processes that are started in the place of a fine-tuning."""

    def __init__(self) -> None:
        self.program = "pass"
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.error: OSError | None = None
        self.commands: list[tuple[str, ...]] = []
        self.started: list[asyncio.subprocess.Process] = []
        self._start = asyncio.create_subprocess_exec

    async def start(self, *command: str, **options: Any) -> asyncio.subprocess.Process:
        self.commands.append(command)
        await self.may_start.wait()
        if self.error is not None:
            raise self.error
        self.started.append(await self._start(sys.executable, "-c", self.program, **options))
        return self.started[-1]


@pytest_asyncio.fixture
async def children(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Children]:
    result = Children()
    monkeypatch.setattr(asyncio, "create_subprocess_exec", result.start)
    monkeypatch.setattr(finetuning, "LOOK_SECONDS", 0.02)
    yield result
    for child in result.started:
        if child.returncode is None:
            child.kill()
            await child.wait()


@pytest_asyncio.fixture
async def editor(children: Children, tmp_path: Path) -> AsyncIterator[Editor]:
    gate = Gate()
    result = Editor(Server(ServeOptions(), lambda choice: model(gate)))
    options = {"index.enabled": False}
    shows = {"window": {"workDoneProgress": True}}
    await result.initialize(rootUri=tmp_path.as_uri(), initializationOptions=options, capabilities=shows)
    yield result
    result.server.session.close()
    assert result.server.session.join(WAIT_S)


async def test_of_two_quick_commands_one_starts_a_run(editor: Editor, children: Children) -> None:
    children.program = IGNORES
    children.may_start.clear()
    first, second = editor.run(), editor.run()
    assert (await editor.reply(second))["result"] == {"started": False, "problem": "a run goes on already"}
    children.may_start.set()
    assert (await editor.reply(first))["result"]["started"] is True
    assert len(children.started) == 1
    children.started[0].kill()
    await editor.seen("window/showMessage", "nothing has changed")
    children.program = "import sys; sys.exit(3)"
    assert (await editor.reply(editor.run()))["result"]["started"] is True  # the next one may


async def test_a_run_that_was_stopped_is_gone_on_with_as_it_was_started(editor: Editor, children: Children) -> None:
    editor.server.session.settings = replace(editor.server.session.settings, exclude=("private/**",))
    children.program = "import sys; sys.exit(3)"
    for options, given, not_given in (
        ({"timeBudget": "2m"}, ("--time-budget", "2m", "--exclude", "private/**"), "--resume"),
        ({"resume": True}, ("--resume", "--exclude", "private/**"), "--time-budget"),
        ({"resume": False}, ("--exclude",), "--resume"),
    ):
        assert (await editor.reply(editor.run(**options)))["result"]["started"] is True
        await editor.seen("window/showMessage", "nothing has changed")
        editor.messages.clear()
        assert set(given) <= set(children.commands[-1]) and not_given not in children.commands[-1]


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
async def test_cancelling_the_progress_presses_once_and_waits(editor: Editor, children: Children) -> None:
    children.program = STOPS
    await editor.reply(editor.run())
    token = (await editor.seen("$/progress", "step 1 of 9"))["token"]
    editor.notify("window/workDoneProgress/cancel", {"token": token})
    said = await editor.seen("window/showMessage", "nothing has changed")
    assert said["message"].startswith(
        "Loracle: stopped, nothing has changed; `loracle.finetune` with `{resume: true}` goes on"
    )
    assert "pressed 1" in str(await editor.seen("$/progress", "pressed"))
    assert children.started[0].returncode == 130
    ended = [each["params"] for each in editor.messages if each.get("method") == "$/progress"]
    assert {"token": token, "value": {"kind": "end"}} in ended


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
async def test_a_run_that_does_not_stop_is_ended(
    editor: Editor, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "STOP_SECONDS", 0.2)
    children.program = IGNORES
    await editor.reply(editor.run())
    token = (await editor.seen("$/progress", "step 1 of 9"))["token"]
    editor.notify("window/workDoneProgress/cancel", {"token": token})
    assert "stopped, nothing has changed" in str(await editor.seen("window/showMessage", "nothing has changed"))
    assert children.started[0].returncode == -9


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
async def test_a_run_that_is_stopped_while_it_is_being_started_ends(
    editor: Editor, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "STOP_SECONDS", 0.2)  # who is started in the background may never hear of Ctrl-C
    children.program = "import time; time.sleep(60)"
    children.may_start.clear()
    request = editor.run()
    async with asyncio.timeout(WAIT_S):
        while not editor.server.finetuning.is_running:
            await asyncio.sleep(0.001)
    editor.server.finetuning.stop()
    children.may_start.set()
    await editor.reply(request)
    assert "stopped" in str(await editor.seen("window/showMessage", "nothing has changed"))


async def test_a_process_that_cannot_be_started_is_a_problem_and_the_next_one_may_start(
    editor: Editor, children: Children
) -> None:
    children.error = FileNotFoundError(2, "No such file or directory")
    answer = (await editor.reply(editor.run()))["result"]
    assert not answer["started"] and "No such file or directory); run `loracle-finetune" in answer["problem"]
    children.error = None
    assert (await editor.reply(editor.run()))["result"]["started"] is True


async def test_how_a_run_ended_is_told_whatever_it_printed(editor: Editor, children: Children) -> None:
    children.program = "import sys; [print('reason', n, file=sys.stderr) for n in range(40)]; sys.exit(3)"
    await editor.reply(editor.run())
    assert "not published, nothing has changed: " in str(await editor.seen("window/showMessage", "reason 39"))
