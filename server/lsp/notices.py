"""What the user is told: each cause once, in a message; and progress while something takes long."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.exceptions import JsonRpcException

if TYPE_CHECKING:
    from server.lsp.protocol import ProtocolServer

logger = logging.getLogger(__name__)

CREATE_TIMEOUT_S = 5.0
REPORT_SECONDS = 0.5


class Notices:
    """Messages and progress of one server."""

    def __init__(self, server: ProtocolServer) -> None:
        self._server = server
        self._told: set[str] = set()

    def warn(self, causes: Iterable[str]) -> None:
        """Opens one message about those causes that the user has not been told of; for what only the user can mend."""
        new = [cause for cause in dict.fromkeys(causes) if cause not in self._told]
        if new:
            self._told.update(new)
            text = "Loracle: " + "\n".join(new)
            logger.warning("%s", text)
            self._server.window_show_message(types.ShowMessageParams(type=types.MessageType.Warning, message=text))

    async def show_progress(
        self, title: str, work: asyncio.Future[None], percent: Callable[[], int | None] = lambda: None
    ) -> None:
        """Shows that `work` is going on until it ends, and how far it is, in a client that can show it."""
        window = self._server.client_capabilities.window
        if window is None or not window.work_done_progress:
            await asyncio.wait([work])
            return
        token, progress = f"loracle-{uuid.uuid4()}", self._server.work_done_progress
        created = False
        with suppress(JsonRpcException, TimeoutError):
            await asyncio.wait_for(progress.create_async(token), CREATE_TIMEOUT_S)
            created = True
        if created:
            progress.begin(token, types.WorkDoneProgressBegin(title=title, cancellable=False))
        shown = None
        while not (await asyncio.wait([work], timeout=REPORT_SECONDS))[0]:
            if created and (now := percent()) != shown:
                shown = now
                progress.report(token, types.WorkDoneProgressReport(percentage=now))
        if created:
            progress.end(token, types.WorkDoneProgressEnd())
            progress.tokens.pop(token, None)  # pygls keeps them for ever
