"""The language server: its features put together, and its life from start to exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from lsprotocol import types
from pygls.uris import to_fs_path

from server.lm.errors import UserError
from server.loading import Load, load_chosen
from server.lsp.adapters import AdapterWatch
from server.lsp.commands import COMMANDS
from server.lsp.configuration import Configuration
from server.lsp.finetuning import Finetuning
from server.lsp.hover import hover
from server.lsp.inline_completion import OPTIONS, inline_completion
from server.lsp.logs import keep_source_out
from server.lsp.notices import Notices
from server.lsp.options import ServeOptions
from server.lsp.processes import watch_process
from server.lsp.protocol import ProtocolServer
from server.session import Session
from server.settings_files import PROJECT_FILE
from server.version import version_of

__all__ = ["Server", "ServeOptions", "TransportError", "serve"]

logger = logging.getLogger(__name__)

MAX_CURSOR_EDIT_CHARACTERS = 2_000  # of a change behind which the cursor is likely; longer ones are pasted or formatted


class TransportError(UserError):
    """The server cannot listen where it was told to."""


class Server(ProtocolServer):
    """One editor's server."""

    def __init__(self, options: ServeOptions, load: Load = load_chosen) -> None:
        super().__init__("loracle", version_of())
        self.options = options
        self.session = Session(load)
        self.notices = Notices(self)
        self.configuration = Configuration(self, options)
        self.adapters = AdapterWatch(self)
        self.finetuning = Finetuning(self)
        self._background: set[asyncio.Task[None]] = set()
        self.session.indexing.on_build = self._show_build
        method: str
        handler: Any
        for method, handler in HANDLERS.items():
            self.feature(method)(handler)
        self.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, OPTIONS)(inline_completion)
        for method, handler in COMMANDS.items():
            self.command(method)(handler)

    def use_workspace_folders(self) -> None:
        """Tells who reads other files where the workspace lies."""
        roots = tuple(map(Path, self.documents.roots()))
        self.session.use_roots(roots)

    def _show_build(self, folder: Path, build: Future[None]) -> None:
        """Shows a build of the index while it goes on, and what is wrong with it after that."""

        async def show() -> None:
            indexing = self.session.indexing
            percent = partial(indexing.percent, folder)
            await self.notices.show_progress(f"Loracle: indexing {folder.name}", asyncio.wrap_future(build), percent)
            self.notices.warn(indexing.problems)

        self.in_background(asyncio.create_task(show()))

    def in_background(self, task: asyncio.Task[None]) -> None:
        """Keeps a task alive that nobody waits for."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def initialize(ls: Server, params: types.InitializeParams) -> None:
    """Before the answer: nothing that takes time."""
    ls.use_documents()
    ls.use_workspace_folders()
    ls.configuration.initialize(params.initialization_options)
    if ls.options.check_parent_process:
        process_id = params.process_id or ls.options.client_process_id
        if process_id is not None:
            ls.in_background(asyncio.create_task(watch_process(process_id)))


async def initialized(ls: Server, _: types.InitializedParams) -> None:
    """Reads the settings and starts loading the model."""
    ls.in_background(asyncio.create_task(ls.configuration.register()))
    await ls.configuration.refresh()
    ls.session.indexing.start()
    ls.in_background(asyncio.create_task(ls.adapters.watch()))


async def did_change_configuration(ls: Server, params: types.DidChangeConfigurationParams) -> None:
    await ls.configuration.refresh(params.settings)


async def project_changed(ls: Server, _: object) -> None:
    """Another project file, or another set of workspace folders."""
    ls.use_workspace_folders()
    await ls.configuration.refresh()
    ls.session.indexing.start()


async def files_changed(ls: Server, params: types.DidChangeWatchedFilesParams) -> None:
    """Source files, which the index reads anew, and project files, which hold settings."""
    paths = [Path(path) for change in params.changes if (path := to_fs_path(change.uri))]
    ls.session.indexing.disk_changed([path for path in paths if path.name != PROJECT_FILE])
    if any(path.name == PROJECT_FILE for path in paths):
        await ls.configuration.refresh()


def did_save(ls: Server, params: types.DidSaveTextDocumentParams) -> None:
    """Other tools may have changed files as well."""
    ls.session.indexing.look_around()


def did_open(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
    """Reads ahead, so that the first completion finds the model warm."""
    ls.session.outdate(params.text_document.uri)
    if (document := ls.documents.find(params.text_document.uri)) is not None:
        snapshot = ls.documents.snapshot(document)
        ls.session.indexing.change(snapshot)
        ls.session.prefill(snapshot, 0)


def did_change(ls: Server, params: types.DidChangeTextDocumentParams) -> None:
    """Makes earlier questions void, and reads ahead to where the cursor likely is."""
    ls.session.outdate(params.text_document.uri)
    document = ls.documents.find(params.text_document.uri)
    if document is None:
        return
    snapshot = ls.documents.snapshot(document)
    ls.session.indexing.change(snapshot)
    if document.last_edit_end is None or len(params.content_changes) != 1:
        return
    if len(params.content_changes[0].text) <= MAX_CURSOR_EDIT_CHARACTERS:
        ls.session.prefill(snapshot, document.last_edit_end)


def did_close(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
    uri = params.text_document.uri
    ls.session.forget(uri)
    ls.session.indexing.close(uri)


def shutdown(ls: Server, _: None) -> None:
    ls.finetuning.stop()
    ls.session.close()


HANDLERS = {
    types.INITIALIZE: initialize,
    types.INITIALIZED: initialized,
    types.SHUTDOWN: shutdown,
    types.TEXT_DOCUMENT_DID_OPEN: did_open,
    types.TEXT_DOCUMENT_DID_CHANGE: did_change,
    types.TEXT_DOCUMENT_DID_CLOSE: did_close,
    types.TEXT_DOCUMENT_HOVER: hover,
    types.WORKSPACE_DID_CHANGE_CONFIGURATION: did_change_configuration,
    types.TEXT_DOCUMENT_DID_SAVE: did_save,
    types.WORKSPACE_DID_CHANGE_WATCHED_FILES: files_changed,
    types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: project_changed,
}


def serve(options: ServeOptions) -> int:
    """Serves one editor until it leaves; the exit status: 0 after `shutdown`, else 1."""
    keep_source_out(logging.getLogger())
    if options.transport == "ws" and find_spec("websockets") is None:
        raise TransportError(
            "--ws needs the package websockets; install it with `pip install 'pygls[ws]'`, or use --tcp"
        )
    server = Server(options)
    try:
        if options.transport == "stdio":
            stdin, stdout = take_stdio()
            server.start_io(stdin, stdout)
        else:
            logger.info("listening on %s port %d (%s)", options.host, options.port, options.transport)
            start = server.start_tcp if options.transport == "tcp" else server.start_ws
            start(options.host, options.port)
    except OSError as error:
        reason = error.strerror or error
        raise TransportError(
            f"cannot listen on {options.host} port {options.port}: {reason}; try another --port"
        ) from error
    except SystemExit as left:  # TCP and WebSocket end by it
        logger.debug("left with %s", left.code)
    status = 0 if server.protocol.is_shut_down else 1
    server.session.close()
    server.session.join(timeout_s=1.0)
    if threading.active_count() > 1:
        # A thread in the middle of loading, or one that waits for stdin: ending the interpreter under it would crash
        # or hang, and nothing is left to be saved.
        logging.shutdown()
        os._exit(status)
    return status


def take_stdio() -> tuple[BinaryIO, BinaryIO]:
    """The real stdin and stdout, for the protocol alone; whatever else is printed or read meets stderr and nothing.

    Done on file descriptors, so that it holds for compiled libraries and child processes too.
    """
    sys.stdout.flush()
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stdin, stdout
