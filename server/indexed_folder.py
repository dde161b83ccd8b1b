"""The index of one workspace folder: what was built, what has changed since, and what of it may be read.

Told of changes from the event loop, which never waits here: git and the disk are asked in a thread for that (`Later`),
builds run in another. Searched from the model's worker. Open documents are asked about too, before anybody else's
cursor sees them. What the disk is told to have changed is hidden at once, and shown again once it has been looked at.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.index.builder import Builder, Built, wanted
from server.index.live import MAX_CHANGED_BYTES, LiveIndex
from server.index.preparing import Preparing
from server.lm.errors import UserError
from server.repository.files import CleanFile, Rule, clean_text, read_text
from server.repository.single_paths import passed_over

logger = logging.getLogger(__name__)

MAX_SINGLE_CHANGES = 64  # files that change at once; more are a new build: another branch was checked out
MAX_CHANGED_FILES = 256  # since the last build; more are time for another: each costs a little at every search
RETRY_SECONDS = 120.0  # before a build is tried again because there is much that has changed
PAUSE_PER_BUILD = 20.0  # the disk is left alone so many times as long as the last look took
MAX_COPIES = 8  # of the text of a file that is gone: so many files are looked at

_OWN_IGNORE_FILE = ".git/info/exclude"

Later = Callable[[Callable[[], None]], None]  # has work done in the thread that asks git and the disk


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say of indexes."""

    rule: Rule
    is_enabled: bool = True
    with_dependencies: bool = True


class IndexedFolder:
    """One workspace folder. Paths everywhere are relative to it, parts separated by "/"."""

    def __init__(self, folder: Path, terms: Terms, later: Later) -> None:
        self.folder = folder
        self.waiting: Future[None] | None = None  # the build that was asked for last
        self.asked_at: float | None = None  # time.monotonic() of that; None before the first
        self.percent: int | None = None  # of the build that is going on
        self.live = LiveIndex(self._clean)
        self._terms = terms
        self._later = later
        self._preparing = Preparing(self.live, later)
        self._lock = threading.Lock()  # over all that follows; never held while git, the disk or a build is asked
        self._built: Built | None = None
        self._failure: str | None = None
        self._build_s = 0.0
        self._n_read = 0  # files that were read since the last build
        self._open: dict[str, str] = {}  # texts of open documents, by path
        self._allowed: dict[str, bool] = {}  # whether an open path may be read, git's word included
        self._unjudged: set[str] = set()  # open paths of which that is to be found out
        self._touched: set[str] = set()  # paths that are to be read from disk
        self._hidden: set[str] = set()  # paths that may be as they were built: that is to be found out
        self._n_tellings = 0  # of changes on disk
        self._told: dict[str, int] = {}  # path -> the last telling of it; since the last build began

    def configure(self, terms: Terms) -> None:
        """Puts terms in force, and forgets all that was read under the former ones."""
        with self._lock:
            self._terms = terms
            self._built = self._failure = None
            self._hidden.clear()
            self.live.use({})
            for path in self._open:
                self.live.close(path, None)

    def change(self, path: str, text: str) -> None:
        """An open document has this text now."""
        with self._lock:
            self._open[path] = text
            if path in self._allowed:
                self.live.change(path, text if self._allowed[path] else None, is_open=True)
                self._preparing.soon()
                return
            is_first = not self._unjudged
            self._unjudged.add(path)
        if is_first:
            self._later(self._judge)

    def close(self, path: str) -> None:
        """A document is not open any more: what is on disk counts again."""
        with self._lock:
            self._open.pop(path, None)
            self._allowed.pop(path, None)
            self.live.close(path, None)
        self.touch([path])

    def disk_changed(self, paths: Iterable[str]) -> bool:
        """Files or folders were made, changed or deleted: what was known of them answers no more. Is a build due?

        The empty path is the folder itself.
        """
        files: set[str] = set()
        folders: set[str] = set()  # or what may be one
        is_due = False
        for path in paths:
            outer, _, name = path.rpartition("/")
            suffix = os.path.splitext(name)[1].lower()
            if name == ".gitignore" or path == _OWN_IGNORE_FILE:
                folder = "" if path == _OWN_IGNORE_FILE else outer
                self._judge_anew(folder)
                folders.add(folder)
                is_due = True
            elif not path.startswith(".git/"):
                folders.add(path)
                files.update([path] if suffix in self._terms.rule.suffixes else ())
                is_due = is_due or not suffix
        below = self.live.paths_below(folders)
        with self._lock:
            self._tell(files | below)
            self.live.forget(files | below)
            self._hidden |= below
        if below:
            self._later(self._look)
        if files and (len(self._touched) + len(files) > MAX_SINGLE_CHANGES or self.needs_build()):
            return True
        self.touch(files)
        return is_due or bool(below)

    def touch(self, paths: Collection[str]) -> None:
        """Has files read from disk, together with others that wait for that."""
        with self._lock:
            is_first = not self._touched
            self._tell(paths)
            self._touched.update(paths)
            is_first = is_first and bool(self._touched)
        if is_first:
            self._later(self._reread)

    def needs_build(self) -> bool:
        """Whether so much has changed on disk that a build is due, and likely to succeed."""
        with self._lock:
            is_full = self._n_read > MAX_CHANGED_FILES or self.live.n_changed_bytes > MAX_CHANGED_BYTES
            has_failed = self._failure is not None
        return is_full and not (has_failed and self.seconds_since_asked() < self.pause(RETRY_SECONDS))

    def seconds_since_asked(self) -> float:
        """Since the last build was asked for; 0 before the first."""
        return 0.0 if self.asked_at is None else time.monotonic() - self.asked_at

    def pause(self, seconds: float) -> float:
        """How long the disk is to be left alone: so many seconds, longer where looking at it takes long."""
        return max(seconds, PAUSE_PER_BUILD * self._build_s)

    def build(self, builder: Builder) -> None:
        """Brings the index up to date; takes seconds. What goes wrong is a problem in words."""
        began = time.monotonic()
        with self._lock:
            terms, n_tellings = self._terms, self._n_tellings
            is_new = self._built is None
        try:
            if is_new and (stored := builder.stored(self.folder, terms.rule.exclude)) is not None:
                self._use(stored, terms, n_tellings, stored.outdated(self.folder, terms.rule, stored.paths))
            built = builder.build(self.folder, terms.rule.exclude, self._progress)
            self._use(built, terms, n_tellings)
            logger.info("index: %d files in %.1f s", built.n_files, time.monotonic() - began)
        except UserError as error:
            self._failure = str(error)
            logger.info("no new index: %s", error)
        except Exception:
            self._failure = f"the index of {self.folder} could not be built; the log of the server says why"
            logger.exception("building the index failed")
        with self._lock:
            self.percent, self._build_s = None, time.monotonic() - began
            self._unjudged.update(self._open)
            if self._failure is not None:  # what nobody has told of is to be found out for what was built before
                self._hidden |= self.live.paths_below([""])
        self._later(self._look)
        self._later(self._judge)  # what git ignores may be another now

    @property
    def problem(self) -> str | None:
        """What the user should know: why the last build failed, or which limit was reached."""
        return self._failure or (self._built.notice if self._built else None)

    def status(self) -> dict[str, Any]:
        """What is indexed, as plain JSON."""
        built = self._built
        return {
            "folder": str(self.folder),
            "isBuilt": built is not None,
            "generation": built.generation if built else None,
            "files": built.n_files if built else 0,
            "bytes": {name: segment.n_bytes for name, segment in self.live.built.items()},
            "dropped": dict(built.dropped) if built else {},
            "problem": self.problem,
        }

    def _progress(self, percent: int) -> None:
        self.percent = percent

    def _use(self, built: Built, terms: Terms, n_tellings: int, outdated: Collection[str] = ()) -> None:
        """Puts a build in force, but for files known to be `outdated`, unless the settings are others by now.

        What was told of after the first `n_tellings` may be newer than the build, so it is hidden until that is known.
        """
        with self._lock:
            if terms != self._terms or not terms.is_enabled:
                return
            self._told = {path: number for path, number in self._told.items() if number > n_tellings}
            hidden = self._told.keys() | outdated
            self.live.use(wanted(built.segments, with_dependencies=terms.with_dependencies), hidden)
            self._built, self._failure, self._n_read = built, None, 0
            self._hidden = hidden
        self._later(self._look)

    def _tell(self, paths: Iterable[str]) -> None:
        """Remembers, under the lock, that files have changed on disk, or may have."""
        self._n_tellings += 1
        self._told.update(dict.fromkeys(paths, self._n_tellings))

    def _judge_anew(self, folder: str) -> None:
        """Of open documents in a folder it is to be found out again whether they may be read."""
        with self._lock:
            for path in self._open:
                if path.startswith(f"{folder}/" if folder else ""):
                    self._allowed.pop(path, None)
                    self._unjudged.add(path)
                    self.live.change(path, None, is_open=True)
        self._later(self._judge)

    def _look(self) -> None:
        """Finds out which of the hidden files are as they were built; the others are read, unless they are many."""
        with self._lock:
            hidden, self._hidden = self._hidden, set()
            built, terms, n_tellings = self._built, self._terms, self._n_tellings
        if not hidden:
            return
        others = frozenset(hidden) if built is None else built.outdated(self.folder, terms.rule, hidden)
        with self._lock:
            if built is not self._built:
                return
            self.live.hide(others)
            self.live.show(path for path in hidden - others if self._told.get(path, 0) <= n_tellings)
        own = others - built.installed.keys() if built is not None else others
        if len(own) <= MAX_SINGLE_CHANGES:
            self.touch(own)

    def _judge(self) -> None:
        """Finds out which of the open documents may be read."""
        with self._lock:
            paths, self._unjudged = sorted(self._unjudged), set()
        if not paths:
            return
        passed = passed_over(self.folder, paths)
        with self._lock:
            for path in paths:
                if path in self._open and path not in self._unjudged:
                    self._allowed[path] = path not in passed
                    self.live.change(path, self._open[path] if self._allowed[path] else None, is_open=True)
        self.live.prepare()

    def _reread(self) -> None:
        """Takes the texts of files from the disk."""
        with self._lock:
            paths, self._touched = sorted(self._touched), set()
            self._n_read += len(paths)
            built, n_tellings = self._built, self._n_tellings

        def take(path: str, text: bytes | None) -> None:
            with self._lock:
                # What was told or built meanwhile is newer.
                if path in self._open or built is not self._built or self._told.get(path, 0) > n_tellings:
                    return
                # Where no build succeeds any more, memory stays bounded: what does not fit is not known.
                is_held = text is not None and self.live.n_changed_bytes < 2 * MAX_CHANGED_BYTES
                self.live.close(path, text.decode("utf-8") if text is not None and is_held else None)

        for path, text in self._texts(paths):
            take(path, text)
            former = self.live.built_text(path)
            if built is not None and former is not None and former != text:
                # Its text may stand in a file that was left out for that.
                copies = self._texts(built.copies_of(path)[:MAX_COPIES])
                for copy in [copy for copy, its_text in copies if its_text == former][:1]:
                    take(copy, former)
        self.live.prepare()

    def _texts(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """What there is to search of files on disk; None for nothing."""
        passed = passed_over(self.folder, paths) if paths else frozenset()
        for path in paths:
            found = None if path in passed else read_text(self.folder, path, self._terms.rule)
            yield path, found.text if isinstance(found, CleanFile) else None

    def _clean(self, path: str, text: str) -> bytes | None:
        return cleaned(self._terms.rule, path, text)


def cleaned(rule: Rule, path: str, text: str) -> bytes | None:
    """What of a file may be searched under a rule; None for nothing."""
    found = clean_text(path, text, rule)
    return found.text if isinstance(found, CleanFile) else None
