"""The ways by which settings come in, put in their order, and what follows from a change.

Later wins: the user's file, `[tool.loracle]` of the workspace, `initializationOptions`, what the editor is asked for or
pushes, the command line. What a setting means and which values are valid, `server.settings` knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from server.lm.languages import CODE_SUFFIXES
from server.lsp.options import ServeOptions
from server.settings import SECTION, Layer, is_setting, own_section, read_settings
from server.settings_files import PROJECT_FILE, file_layers

if TYPE_CHECKING:
    from server.lsp.server import Server

logger = logging.getLogger(__name__)

PULL_TIMEOUT_S = 5.0


class Configuration:
    """What each place said last. `refresh` looks at all of them again."""

    def __init__(self, server: Server, options: ServeOptions) -> None:
        self._server = server
        self._command_line = {
            name: value
            for name in ("model", "adapter", "engine", "threads")
            if (value := getattr(options, name)) is not None
        }
        self._initialization_options: Mapping[str, Any] = {}
        self._from_editor: Mapping[str, Any] = {}

    def initialize(self, options: object) -> None:
        """Takes `initializationOptions`, bare or under our name."""
        self._initialization_options = own_section(options)

    async def register(self) -> None:
        """Asks the editor to tell about changed settings and project files, where it takes such requests."""
        workspace = self._server.client_capabilities.workspace
        registrations = []
        if workspace and (can := workspace.did_change_configuration) and can.dynamic_registration:
            registrations.append(
                types.Registration(
                    id="loracle-configuration",
                    method=types.WORKSPACE_DID_CHANGE_CONFIGURATION,
                    register_options=types.DidChangeConfigurationRegistrationOptions(section=SECTION),
                )
            )
        if workspace and (watch := workspace.did_change_watched_files) and watch.dynamic_registration:
            suffixes = ",".join(sorted(suffix.removeprefix(".") for suffix in CODE_SUFFIXES))
            globs = (f"**/{PROJECT_FILE}", f"**/*.{{{suffixes}}}", "**/.gitignore")
            watchers = [types.FileSystemWatcher(glob_pattern=glob) for glob in globs]
            # Of a folder that goes some editors tell its name alone.
            watchers.append(types.FileSystemWatcher(glob_pattern="**/*", kind=types.WatchKind.Delete))
            self._server.session.indexing.watches = True
            registrations.append(
                types.Registration(
                    id="loracle-project-files",
                    method=types.WORKSPACE_DID_CHANGE_WATCHED_FILES,
                    register_options=types.DidChangeWatchedFilesRegistrationOptions(watchers=watchers),
                )
            )
        if registrations:
            params = types.RegistrationParams(registrations=registrations)
            try:
                await asyncio.wait_for(self._server.client_register_capability_async(params), PULL_TIMEOUT_S)
            except (JsonRpcException, TimeoutError) as error:
                logger.info("the editor did not register for changes: %s", type(error).__name__)

    async def refresh(self, pushed: object = None) -> None:
        """Puts the settings of all places in force; `pushed` is what the editor sent of its own accord."""
        workspace = self._server.client_capabilities.workspace
        if workspace and workspace.configuration:
            await self._pull()
        elif isinstance(pushed, Mapping) and (SECTION in pushed or any(map(is_setting, pushed))):
            self._from_editor = own_section(pushed)
        session, notices = self._server.session, self._server.notices
        try:
            layers, problems = self._layers()
            settings, wrong = read_settings(layers)
            problems = (*problems, *wrong)
        except Exception:  # a server without settings would have no model either
            logger.exception("reading the settings failed")
            settings = session.settings
            problems = ("the settings could not be read; the former ones stay in force, and the log says why",)
        loading = session.configure(settings, problems)
        notices.warn(problems)
        if loading is not None:
            await notices.show_progress("Loracle: loading the model", loading)
            if session.model_problem is not None:
                notices.warn([session.model_problem])
            self._server.adapters.tell()
            if settings.hover.enabled:
                session.explaining.warm_up()

    async def _pull(self) -> None:
        params = types.ConfigurationParams(items=[types.ConfigurationItem(section=SECTION)])
        try:
            answer = await asyncio.wait_for(self._server.workspace_configuration_async(params), PULL_TIMEOUT_S)
        except (JsonRpcException, TimeoutError) as error:
            logger.warning("the editor did not say its settings: %s", type(error).__name__)
            return
        self._from_editor = own_section(answer[0] if answer else None)

    def _layers(self) -> tuple[list[Layer], tuple[str, ...]]:
        """What every place says, in their order, and in words which files could not be read."""
        layers, problems = file_layers(map(Path, self._server.documents.roots()))
        layers.append(Layer("initializationOptions", self._initialization_options))
        layers.append(Layer("the editor's settings", self._from_editor))
        layers.append(Layer("command line", self._command_line))
        return layers, problems
