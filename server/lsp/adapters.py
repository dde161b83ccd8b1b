"""Adapters that come and go while the server runs: looked for every few seconds, and told of once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lsprotocol import types

from server.adapter_choice import untrusted_adapter

if TYPE_CHECKING:
    from pathlib import Path

    from server.lsp.server import Server

logger = logging.getLogger(__name__)

WATCH_SECONDS = 2.0


class AdapterWatch:
    """One server's eye on the adapter of its main folder."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._serving: tuple[Path | None, str | None] = (None, None)  # its folder, and what was in it
        self._told_untrusted = False

    async def watch(self) -> None:
        """Looks until the server ends. Requests go on being answered by the former model while another is loaded."""
        while not self._server.protocol.is_shut_down:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if self._server.session.has_other_adapter():
                    await self.look()
            except Exception:  # looked at again a little later
                logger.exception("looking for adapters failed")

    async def look(self) -> None:
        """Puts in force what is to serve now, and returns when it does."""
        session = self._server.session
        loading = session.choose_model() or session.loading
        if loading is not None:
            await asyncio.wait([loading])
            self.tell()

    def tell(self) -> None:
        """Tells of an adapter that serves now, or of one that cannot, each once."""
        session, notices = self._server.session, self._server.notices
        model = session.model
        if model is not None and model.adapter_problem is not None:
            notices.warn([model.adapter_problem])
        serving = (model.adapter, session.adapter_content) if model is not None and model.adapter else (None, None)
        if model is not None and serving != self._serving:
            self._serving = serving
            said = "the adapter of this workspace serves" if model.adapter else "the base model serves, without adapter"
            logger.info("%s", said)
            message = types.ShowMessageParams(type=types.MessageType.Info, message=f"Loracle: {said}")
            self._server.window_show_message(message)
        if not self._told_untrusted and session.settings.adapter == "auto" and session.roots:
            brought = untrusted_adapter(session.roots[0])
            if brought is not None:
                self._told_untrusted = True
                notices.warn([f"{brought} is not used, as this workspace is not trusted; `loracle.trust` allows it"])
