"""The indexes of a session: one for each workspace folder, built in a child process, kept up to date by what happens.

Told of changes from the event loop, which never waits here: git and the disk are asked in a thread of their own, and
builds run one at a time in another. Searched from the model's worker. Completions work before the first build is done.
What may be read at all, `server.repository` decides: of open documents too, before anybody else's cursor sees them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.index.builder import Builder, Built, ChildBuilder, wanted
from server.index.live import MAX_CHANGED_BYTES, LiveIndex
from server.lm.errors import UserError
from server.lm.languages import CODE_SUFFIXES
from server.repository.files import CleanFile, Rule, clean_text, read_text
from server.repository.listing import passed_over
from server.source_file import location_of

if TYPE_CHECKING:
    from server.lm.context import Document
    from server.settings import Settings

logger = logging.getLogger(__name__)

MAX_SINGLE_CHANGES = 64  # files that change at once; more are a new build: another branch was checked out
MAX_CHANGED_FILES = 256  # since the last build, likewise: each costs a little at every search
RESCAN_SECONDS = 120.0  # between looks at the disk, where the editor does not tell what changes
WATCHED_RESCAN_SECONDS = 900.0  # where it does: some tell nothing of a folder that is moved
RESCAN_PER_BUILD = 20.0  # and at least so many times what the last look took


@dataclass(slots=True)
class _Root:
    """One workspace folder."""

    folder: Path
    live: LiveIndex
    built: Built | None = None
    problem: str | None = None
    waiting: Future[None] | None = None  # the build that was asked for last
    percent: int | None = None  # of the build that is going on
    scanned_at: float | None = None  # time.monotonic(); None before the first build
    build_s: float = 0.0
    open: dict[str, str] = field(default_factory=dict)  # texts of open documents, by path
    allowed: dict[str, bool] = field(default_factory=dict)  # whether a path may be read, git's word included
    unjudged: set[str] = field(default_factory=set)  # open paths of which that is to be found out
    touched: set[str] = field(default_factory=set)  # paths that are to be read from disk
    meanwhile: set[str] = field(default_factory=set)  # paths that were read while a build was going on
    n_read: int = 0  # files that were read since the last build


class Indexing:
    """The indexes of all workspace folders, and one for what lies in none."""

    def __init__(self, builder: Builder | None = None) -> None:
        self._builder = builder or ChildBuilder()
        self._rule = Rule(CODE_SUFFIXES)
        self._enabled, self._with_dependencies = True, True
        self._lock = threading.Lock()  # over the roots' fields; never held while git, the disk or a build is asked
        self._roots: dict[Path, _Root] = {}
        self._loose = LiveIndex(self._clean)
        self._open: dict[str, Document] = {}  # by uri
        self._builds = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loracle-index")
        self._reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loracle-changes")
        self._started = self._closed = False
        self.watches = False  # whether the editor tells of files that change on disk
        self.on_build: Callable[[Path, Future[None]], None] | None = None  # told of each build that is asked for

    def configure(self, settings: Settings) -> None:
        """Puts settings in force; what must not be read any more is gone at once."""
        before = (self._rule, self._with_dependencies, self._enabled)
        with self._lock:
            self._rule = Rule(self._rule.suffixes, settings.exclude)
            self._enabled, self._with_dependencies = settings.index.enabled, settings.index.dependencies
            if (self._rule, self._with_dependencies, self._enabled) == before:
                return
            for root in self._roots.values():
                root.live.use({})
                for path in root.open:  # else what was cleaned by the former rule would be searched
                    root.live.close(path, None)
                root.built = root.problem = None
            for document in self._open.values():
                self._loose.close(document.path, None)
        for document in self._open.values():
            self.change(document)
        for folder in self._roots if self._started else ():
            self.refresh(folder)

    def use_roots(self, folders: Iterable[Path]) -> None:
        """The workspace folders from now on."""
        named = list(dict.fromkeys(folders))
        if named == list(self._roots):
            return
        with self._lock:
            self._roots = {folder: self._roots.get(folder) or _Root(folder, LiveIndex(self._clean)) for folder in named}
            for document in self._open.values():
                self._loose.close(document.path, None)
        for document in list(self._open.values()):  # they may lie in another folder now
            location = location_of(document.uri)
            inside = self._holders(location)
            path = inside[0][1] if inside else location.as_posix() if location else document.path
            self.change(replace(document, path=path))

    def start(self) -> None:
        """Takes what was stored of each new folder, and looks for what has changed since, in the background."""
        self._started = True
        for folder, root in self._roots.items():
            if root.scanned_at is None:
                self.refresh(folder)

    def refresh(self, folder: Path) -> None:
        """Has a folder looked at anew, unless that is about to happen already."""
        root = self._roots.get(folder)
        if root is None or not self._enabled or self._closed:
            return
        if root.waiting is not None and not root.waiting.running() and not root.waiting.done():
            return
        root.scanned_at = time.monotonic()
        root.waiting = self._builds.submit(self._run, root)
        if self.on_build is not None:
            self.on_build(folder, root.waiting)

    def index_for(self, document: Document) -> LiveIndex | None:
        """Where to search for a document: in the innermost folder that holds it. None with the index switched off."""
        if not self._enabled:
            return None
        holders = self._holders(location_of(document.uri))
        return holders[0][0].live if holders else self._loose

    def change(self, document: Document) -> None:
        """An open document has this text now."""
        self._open[document.uri] = document
        if not self._enabled:
            return
        # Of a text that is too long nothing is searched; it need not be held either.
        text = document.text if len(document.text) <= self._rule.limits.max_bytes else ""
        holders = self._holders(location_of(document.uri))
        if not holders:
            self._loose.change(document.path, text, is_open=True)
        for number, (root, path) in enumerate(holders):
            self._change_in(root, document.path if number == 0 else path, text)

    def close(self, uri: str) -> None:
        """A document is not open any more: what is on disk counts again."""
        document = self._open.pop(uri, None)
        if document is None:
            return
        holders = self._holders(location_of(uri))
        if not holders:
            self._loose.close(document.path, None)
        for number, (root, path) in enumerate(holders):
            path = document.path if number == 0 else path
            with self._lock:
                root.open.pop(path, None)
            self._touch(root, [path])

    def disk_changed(self, locations: Sequence[Path]) -> None:
        """Files were made, changed or deleted on disk; many at once are a new build."""
        by_folder: dict[Path, list[str]] = {}
        anew: set[Path] = set()
        for location in locations:
            suffix = location.suffix.lower()
            for root, path in self._holders(location):
                if suffix in self._rule.suffixes:
                    by_folder.setdefault(root.folder, []).append(path)
                elif not suffix and not path.startswith(".git/"):  # a folder, or .gitignore
                    anew.add(root.folder)
        for folder, paths in by_folder.items():
            root = self._roots[folder]
            with self._lock:
                at_once, in_all = len(root.touched) + len(paths), root.n_read + len(paths)
                is_full = in_all > MAX_CHANGED_FILES or self._held(root) > MAX_CHANGED_BYTES
            if at_once > MAX_SINGLE_CHANGES or (is_full and not self._has_just_failed(root)):
                anew.add(folder)
            else:
                self._touch(root, paths)
        for folder in anew:
            self.refresh(folder)

    def look_around(self) -> None:
        """Looks at the disk now and then: not everybody tells of what changes there."""
        pause = WATCHED_RESCAN_SECONDS if self.watches else RESCAN_SECONDS
        for folder, root in self._roots.items():
            since = None if root.scanned_at is None else time.monotonic() - root.scanned_at
            if since is not None and since > max(pause, RESCAN_PER_BUILD * root.build_s):
                self.refresh(folder)

    def percent(self, folder: Path) -> int | None:
        """How far the build of a folder is; None when there is none."""
        root = self._roots.get(folder)
        return None if root is None else root.percent

    @property
    def problems(self) -> tuple[str, ...]:
        """What the user should know: builds that failed, limits that were reached."""
        return tuple(problem for root in self._roots.values() if (problem := _problem(root)))

    def status(self) -> list[dict[str, Any]]:
        """For each folder what is indexed, as plain JSON."""
        return [
            {
                "folder": str(root.folder),
                "isBuilt": root.built is not None,
                "generation": root.built.generation if root.built else None,
                "files": root.built.n_files if root.built else 0,
                "bytes": {name: segment.n_bytes for name, segment in root.live.built.items()},
                "dropped": dict(root.built.dropped) if root.built else {},
                "problem": _problem(root),
            }
            for root in self._roots.values()
        ]

    def shut_down(self) -> None:
        """Drops what waits and ends what runs; what was stored before stays."""
        self._closed = True
        for executor in (self._builds, self._reads):
            executor.shutdown(wait=False, cancel_futures=True)
        self._builder.stop()

    def _run(self, root: _Root) -> None:
        """One build; in the builds' thread."""
        rule, with_dependencies = self._rule, self._with_dependencies
        began = time.monotonic()

        def progress(percent: int) -> None:
            root.percent = percent

        try:
            with self._lock:
                root.meanwhile = set()
            if root.built is None and (stored := self._builder.stored(root.folder, rule.exclude)) is not None:
                self._use(root, stored, rule, with_dependencies)
            built = self._builder.build(root.folder, rule.exclude, progress)
            self._use(root, built, rule, with_dependencies)
            logger.info("index: %d files in %.1f s", built.n_files, time.monotonic() - began)
        except UserError as error:
            if not self._closed:
                root.problem = str(error)
                logger.warning("no new index: %s", error)
        except Exception:
            root.problem = f"the index of {root.folder} could not be built; the log of the server says why"
            logger.exception("building the index failed")
        root.percent, root.build_s = None, time.monotonic() - began
        # What was read during the build may be newer than what it saw, and what git ignores may be another now.
        self._touch(root, root.meanwhile)
        with self._lock:
            root.unjudged.update(root.open)
        self._later(partial(self._judge, root))

    def _use(self, root: _Root, built: Built, rule: Rule, with_dependencies: bool) -> None:
        """Puts a build in force, unless the settings are others by now."""
        with self._lock:
            if self._enabled and (rule, with_dependencies) == (self._rule, self._with_dependencies):
                root.live.use(wanted(built.segments, with_dependencies=with_dependencies))
                root.built, root.problem, root.n_read = built, None, 0

    def _change_in(self, root: _Root, path: str, text: str) -> None:
        with self._lock:
            root.open[path] = text
            if path in root.allowed:
                root.live.change(path, text if root.allowed[path] else None, is_open=True)
                return
            is_first = not root.unjudged
            root.unjudged.add(path)
        if is_first:
            self._later(partial(self._judge, root))

    def _judge(self, root: _Root) -> None:
        """Finds out which of the open documents may be read; in the reads' thread."""
        with self._lock:
            paths, root.unjudged = sorted(root.unjudged), set()
        if not paths:
            return
        passed = passed_over(root.folder, paths)
        with self._lock:
            for path in paths:
                root.allowed[path] = path not in passed
                if path in root.open:
                    root.live.change(path, root.open[path] if root.allowed[path] else None, is_open=True)

    def _touch(self, root: _Root, paths: Iterable[str]) -> None:
        """Has files read from disk, together with others that wait for that."""
        with self._lock:
            is_first = not root.touched
            root.touched.update(paths)
            is_first = is_first and bool(root.touched)
        if is_first:
            self._later(partial(self._reread, root))

    def _reread(self, root: _Root) -> None:
        """Takes the texts of files from the disk; in the reads' thread."""
        with self._lock:
            paths, root.touched = sorted(root.touched), set()
            root.n_read += len(paths)
        passed = passed_over(root.folder, paths)
        for path in paths:
            found = None if path in passed else read_text(root.folder, path, self._rule)
            text = found.text.decode("utf-8") if isinstance(found, CleanFile) else None
            with self._lock:
                if path in root.open:
                    continue
                root.allowed.pop(path, None)
                if root.percent is not None or (root.waiting is not None and root.waiting.running()):
                    root.meanwhile.add(path)
                # Where no build succeeds any more, memory stays bounded: what does not fit is not known.
                root.live.close(path, text if self._held(root) < 2 * MAX_CHANGED_BYTES else None)

    def _has_just_failed(self, root: _Root) -> bool:
        """Whether another build would most likely fail like the last."""
        since = time.monotonic() - (root.scanned_at or 0.0)
        return root.problem is not None and since < max(RESCAN_SECONDS, RESCAN_PER_BUILD * root.build_s)

    def _held(self, root: _Root) -> int:
        """Characters of files that have changed on disk since the last build."""
        return root.live.n_changed_bytes - sum(map(len, root.open.values()))

    def _later(self, work: Callable[[], None]) -> None:
        """Has work done in the reads' thread."""
        try:
            self._reads.submit(_guarded, work)
        except RuntimeError:  # shut down meanwhile
            if not self._closed:
                raise

    def _clean(self, path: str, text: str) -> bytes | None:
        found = clean_text(path, text, self._rule)
        return found.text if isinstance(found, CleanFile) else None

    def _holders(self, location: Path | None) -> list[tuple[_Root, str]]:
        """The folders that a file lies in, the innermost first, and its path in each."""
        if location is None:
            return []
        whole = str(location)
        found = []
        for folder, root in self._roots.items():
            prefix = os.path.join(folder, "")
            if whole.startswith(prefix):
                found.append((root, whole[len(prefix) :].replace(os.sep, "/")))
        return sorted(found, key=lambda each: len(each[1]))


def _problem(root: _Root) -> str | None:
    return root.problem or (root.built.notice if root.built else None)


def _guarded(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        logger.exception("reading changed files failed")
