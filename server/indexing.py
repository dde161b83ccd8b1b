"""The indexes of a session: one for each workspace folder, and one for the open documents that lie in none.

Decides which folder a file belongs to and when to build; runs on the event loop, and never waits. Builds run one at a
time in a thread of their own, and so do looks at the disk. Completions work before the first build is done.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.index.builder import Builder, ChildBuilder
from server.index.live import LiveIndex
from server.index.preparing import Preparing
from server.indexed_folder import IndexedFolder, Terms, cleaned
from server.lm.languages import CODE_SUFFIXES
from server.repository.files import Rule
from server.source_file import location_of

if TYPE_CHECKING:
    from server.lm.context import Document
    from server.settings import Settings

logger = logging.getLogger(__name__)

RESCAN_SECONDS = 120.0  # between looks at the disk, where the editor does not tell what changes
WATCHED_RESCAN_SECONDS = 900.0  # where it does: some tell nothing of a folder that is moved


class Indexing:
    """The indexes of all workspace folders, and one for what lies in none."""

    def __init__(self, builder: Builder | None = None) -> None:
        self._builder = builder or ChildBuilder()
        self._terms = Terms(Rule(CODE_SUFFIXES))
        self._folders: dict[Path, IndexedFolder] = {}
        self._loose = LiveIndex(lambda path, text: cleaned(self._terms.rule, path, text))
        self._loose_preparing = Preparing(self._loose, self._later)
        self._open: dict[str, Document] = {}  # by uri
        self._builds = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loracle-index")
        self._reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loracle-changes")
        self._started = self._closed = False
        self.watches = False  # whether the editor tells of files that change on disk
        self.on_build: Callable[[Path, Future[None]], None] | None = None  # told of each build that is asked for

    def configure(self, settings: Settings) -> None:
        """Puts settings in force; what must not be read any more is gone at once."""
        index = settings.index
        terms = Terms(Rule(CODE_SUFFIXES, settings.exclude), index.enabled, index.dependencies)
        if terms == self._terms:
            return
        self._terms = terms
        for folder in self._folders.values():
            folder.configure(terms)
        self._forget_loose()
        for document in self._open.values():
            self.change(document)
        for path in self._folders if self._started else ():
            self.refresh(path)

    def use_roots(self, roots: Iterable[Path]) -> None:
        """The workspace folders from now on."""
        named = list(dict.fromkeys(roots))
        if named == list(self._folders):
            return
        dropped = [folder for root, folder in self._folders.items() if root not in named]
        self._folders = {
            root: self._folders.get(root) or IndexedFolder(root, self._terms, self._later) for root in named
        }
        for folder in dropped:
            folder.live.shut_down()
        self._forget_loose()
        for document in list(self._open.values()):  # they may lie in another folder now
            location = location_of(document.uri)
            holders = self._holders(location)
            path = holders[0][1] if holders else location.as_posix() if location else document.path
            self.change(replace(document, path=path))

    def start(self) -> None:
        """Takes what was stored of each new folder, and looks for what has changed since, in the background."""
        self._started = True
        for root, folder in self._folders.items():
            if folder.asked_at is None:
                self.refresh(root)

    def refresh(self, root: Path) -> None:
        """Has a folder looked at anew, unless that is about to happen already."""
        folder = self._folders.get(root)
        if folder is None or not self._terms.is_enabled or self._closed:
            return
        if folder.waiting is not None and not folder.waiting.running() and not folder.waiting.done():
            return
        folder.asked_at = time.monotonic()
        folder.waiting = self._builds.submit(folder.build, self._builder)
        if self.on_build is not None:
            self.on_build(root, folder.waiting)

    def index_for(self, document: Document) -> LiveIndex | None:
        """Where to search for a document: in the innermost folder that holds it. None with the index switched off."""
        if not self._terms.is_enabled:
            return None
        holders = self._holders(location_of(document.uri))
        return holders[0][0].live if holders else self._loose

    def change(self, document: Document) -> None:
        """An open document has this text now."""
        self._open[document.uri] = document
        if not self._terms.is_enabled:
            return
        # Of a text that is too long nothing is searched; it need not be held either.
        text = document.text if len(document.text) <= self._terms.rule.limits.max_bytes else ""
        holders = self._holders(location_of(document.uri))
        if not holders:
            self._loose.change(document.path, text, is_open=True)
            self._loose_preparing.soon()
        for number, (folder, path) in enumerate(holders):
            folder.change(document.path if number == 0 else path, text)

    def close(self, uri: str) -> None:
        """A document is not open any more: what is on disk counts again."""
        document = self._open.pop(uri, None)
        if document is None:
            return
        holders = self._holders(location_of(uri))
        if not holders:
            self._loose.close(document.path, None)
        for number, (folder, path) in enumerate(holders):
            folder.close(document.path if number == 0 else path)

    def disk_changed(self, locations: Sequence[Path]) -> None:
        """Files or folders were made, changed or deleted on disk; many at once are a new build."""
        if not self._terms.is_enabled:
            return
        told: dict[Path, list[str]] = {}
        for location in locations:
            for folder, path in self._holders(location):
                told.setdefault(folder.folder, []).append(path)
            for root in self._folders:
                if root.is_relative_to(location):
                    told.setdefault(root, []).append("")
        for root, paths in told.items():
            if self._folders[root].disk_changed(paths):
                self.refresh(root)

    def look_around(self) -> None:
        """Looks at the disk now and then: not everybody tells of what changes there."""
        seconds = WATCHED_RESCAN_SECONDS if self.watches else RESCAN_SECONDS
        for root, folder in self._folders.items():
            if folder.asked_at is not None and folder.seconds_since_asked() > folder.pause(seconds):
                self.refresh(root)

    def percent(self, root: Path) -> int | None:
        """How far the build of a folder is; None when there is none."""
        folder = self._folders.get(root)
        return None if folder is None else folder.percent

    @property
    def problems(self) -> tuple[str, ...]:
        """What the user should know: builds that failed, limits that were reached."""
        if self._closed:  # a build that was ended has not failed
            return ()
        return tuple(problem for folder in self._folders.values() if (problem := folder.problem))

    def status(self) -> list[dict[str, Any]]:
        """For each folder what is indexed, as plain JSON."""
        return [folder.status() for folder in self._folders.values()]

    def shut_down(self) -> None:
        """Drops what waits and ends what runs; what was stored before stays."""
        self._closed = True
        for executor in (self._builds, self._reads):
            executor.shutdown(wait=False, cancel_futures=True)
        for live in (self._loose, *(folder.live for folder in self._folders.values())):
            live.shut_down()
        self._builder.stop()

    def _forget_loose(self) -> None:
        for document in self._open.values():
            self._loose.close(document.path, None)

    def _later(self, work: Callable[[], None]) -> None:
        """Has work done in the reads' thread."""
        try:
            self._reads.submit(_guarded, work)
        except RuntimeError:  # shut down meanwhile
            if not self._closed:
                raise

    def _holders(self, location: Path | None) -> list[tuple[IndexedFolder, str]]:
        """The folders that a file lies in, the innermost first, and its path in each."""
        if location is None:
            return []
        whole = str(location)
        found = []
        for root, folder in self._folders.items():
            prefix = os.path.join(root, "")
            if whole.startswith(prefix):
                found.append((folder, whole[len(prefix) :].replace(os.sep, "/")))
        return sorted(found, key=lambda each: len(each[1]))


def _guarded(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        logger.exception("reading changed files failed")
