"""`loracle.finetune`: the command of that name as a child process, with progress in the editor, and a way to stop."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from server.lm.errors import UserError

if TYPE_CHECKING:
    from server.lsp.server import Server

logger = logging.getLogger(__name__)

CREATE_TIMEOUT_S = 5.0
LOOK_SECONDS = 0.3
STOP_SECONDS = 60.0  # for a run that was asked to stop: a step may be long, and what was learned is kept after it
MAX_LINE_BYTES = 1_000_000
N_TOLD = 12  # last lines that tell how it ended
PUBLISHED, NO_BETTER, INTERRUPTED = 0, 3, 130  # exit statuses
_REFUSED = "not published, nothing has changed:"
_STEP = re.compile(r"step (\d+) of (\d+)")


class Finetuning:
    """At most one run at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._child: asyncio.subprocess.Process | None = None
        self._is_starting = False
        self._stopped_at: float | None = None  # time.monotonic(), of the run that goes on or was the last

    @property
    def is_running(self) -> bool:
        """Whether a run goes on, or is being started."""
        return self._is_starting or (self._child is not None and self._child.returncode is None)

    @property
    def _was_stopped(self) -> bool:
        return self._stopped_at is not None

    async def start(self, root: Path, options: Sequence[str]) -> bool:
        """Starts a run and returns; how it ended is told in a message. False where one goes on already.

        UserError where the process cannot be started.
        """
        if self.is_running:
            return False
        self._is_starting, self._child, self._stopped_at = True, None, None  # before anybody else has a turn
        command = (sys.executable, "-P", "-m", "finetune", str(root), *options)
        try:
            self._child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
            )
        except OSError as error:
            raise UserError(
                f"cannot start {sys.executable} ({error.strerror or error}); "
                f"run `loracle-finetune {root}` in a terminal instead"
            ) from error
        finally:
            self._is_starting = False
        if self._was_stopped:  # while it was being started
            self._interrupt(self._child)
        self._server.in_background(asyncio.create_task(self._follow(self._child, root)))
        return True

    def stop(self) -> None:
        """Ends a run as Ctrl-C does: what was learned is kept, and nothing has changed. Does so once for each run."""
        if self.is_running and self._stopped_at is None:
            self._stopped_at = time.monotonic()
            if self._child is not None:
                self._interrupt(self._child)

    @staticmethod
    def _interrupt(child: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError, ValueError):
            child.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)

    async def _follow(self, child: asyncio.subprocess.Process, root: Path) -> None:
        token, lines = await self._shown(root), deque[str](maxlen=N_TOLD)
        reading = asyncio.create_task(self._read(child, token, lines))
        while not (await asyncio.wait([reading], timeout=LOOK_SECONDS))[0]:
            if token is not None and self._server.work_done_progress.tokens[token].cancelled():
                self.stop()
            if self._stopped_at is not None and time.monotonic() - self._stopped_at > STOP_SECONDS:
                with suppress(ProcessLookupError):
                    child.kill()  # its state is whole at any moment
        status = await child.wait()
        if token is not None:
            self._server.work_done_progress.end(token, types.WorkDoneProgressEnd())
            self._server.work_done_progress.tokens.pop(token, None)
        self._tell(root, status, list(lines))
        if status == PUBLISHED:
            await self._server.adapters.look()

    async def _shown(self, root: Path) -> str | None:
        """The token of the progress in the editor; None where it shows none."""
        window, progress = self._server.client_capabilities.window, self._server.work_done_progress
        if window is None or not window.work_done_progress:
            return None
        token = f"loracle-finetune-{uuid.uuid4()}"
        with suppress(JsonRpcException, TimeoutError):
            await asyncio.wait_for(progress.create_async(token), CREATE_TIMEOUT_S)
            title = f"Loracle: learning {root.name}"
            progress.begin(token, types.WorkDoneProgressBegin(title=title, cancellable=True, percentage=0))
            return token
        return None

    async def _read(self, child: asyncio.subprocess.Process, token: str | None, lines: deque[str]) -> None:
        assert child.stderr is not None
        async for raw in child.stderr:
            line = raw.decode("utf-8", "replace").strip()
            if not line:
                continue
            lines.append(line)
            step = _STEP.match(line)
            percent = None if step is None else 100 * int(step[1]) // max(int(step[2]), 1)
            if token is not None:
                report = types.WorkDoneProgressReport(message=line, percentage=percent)
                self._server.work_done_progress.report(token, report)

    def _tell(self, root: Path, status: int, lines: list[str]) -> None:
        logger.info("the adaptation of %s ended with status %d", root, status)
        if status == PUBLISHED:
            kind, said = types.MessageType.Info, f"the adapter of {root.name} is published"
        elif status == NO_BETTER:
            reasons = lines[lines.index(_REFUSED) + 1 :] if _REFUSED in lines else lines
            kind, said = types.MessageType.Warning, f"{_REFUSED} {' '.join(reasons)}"
        elif status == INTERRUPTED or self._was_stopped:
            said = "stopped, nothing has changed; `loracle.finetune` with `{resume: true}` goes on"
            kind = types.MessageType.Info
        else:
            last = lines[-1].removeprefix("loracle-finetune: ") if lines else f"it ended with status {status}"
            kind, said = types.MessageType.Error, f"nothing has changed: {last}"
        self._server.window_show_message(types.ShowMessageParams(type=kind, message=f"Loracle: {said}"))
