"""The index of one workspace folder: what was built, what has changed since, and what of it may be read.

Told of changes from the event loop, which never waits here: git and the disk are asked in a thread for that (`Later`),
builds run in another. Searched from the model's worker. Open documents are asked about too, before anybody else's
cursor sees them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.index.builder import Builder, Built, wanted
from server.index.live import MAX_CHANGED_BYTES, LiveIndex
from server.lm.errors import UserError
from server.repository.files import CleanFile, Rule, clean_text, read_text
from server.repository.listing import passed_over

logger = logging.getLogger(__name__)

MAX_CHANGED_FILES = 256  # since the last build; more are time for another: each costs a little at every search
RETRY_SECONDS = 120.0  # before a build is tried again because there is much that has changed
PAUSE_PER_BUILD = 20.0  # the disk is left alone so many times as long as the last look took

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
        self._lock = threading.Lock()  # over all that follows; never held while git, the disk or a build is asked
        self._built: Built | None = None
        self._failure: str | None = None
        self._is_building = False
        self._build_s = 0.0
        self._n_read = 0  # files that were read since the last build
        self._open: dict[str, str] = {}  # texts of open documents, by path
        self._allowed: dict[str, bool] = {}  # whether an open path may be read, git's word included
        self._unjudged: set[str] = set()  # open paths of which that is to be found out
        self._touched: set[str] = set()  # paths that are to be read from disk
        self._meanwhile: set[str] = set()  # paths that were read while a build was going on

    def configure(self, terms: Terms) -> None:
        """Puts terms in force, and forgets all that was read under the former ones."""
        with self._lock:
            self._terms = terms
            self._built = self._failure = None
            self.live.use({})
            for path in self._open:
                self.live.close(path, None)

    def change(self, path: str, text: str) -> None:
        """An open document has this text now."""
        with self._lock:
            self._open[path] = text
            if path in self._allowed:
                self.live.change(path, text if self._allowed[path] else None, is_open=True)
                return
            is_first = not self._unjudged
            self._unjudged.add(path)
        if is_first:
            self._later(self._judge)

    def close(self, path: str) -> None:
        """A document is not open any more: what is on disk counts again."""
        with self._lock:
            self._open.pop(path, None)
        self.touch([path])

    def touch(self, paths: Iterable[str]) -> None:
        """Has files read from disk, together with others that wait for that."""
        with self._lock:
            is_first = not self._touched
            self._touched.update(paths)
            is_first = is_first and bool(self._touched)
        if is_first:
            self._later(self._reread)

    @property
    def n_touched(self) -> int:
        """Files that wait to be read from disk."""
        return len(self._touched)

    def needs_build(self) -> bool:
        """Whether so much has changed on disk that a build is due, and likely to succeed."""
        with self._lock:
            is_full = self._n_read > MAX_CHANGED_FILES or self._n_held() > MAX_CHANGED_BYTES
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
            terms = self._terms
            self._meanwhile, self._is_building = set(), True
            is_new = self._built is None
        try:
            if is_new and (stored := builder.stored(self.folder, terms.rule.exclude)) is not None:
                self._use(stored, terms)
            built = builder.build(self.folder, terms.rule.exclude, self._progress)
            self._use(built, terms)
            logger.info("index: %d files in %.1f s", built.n_files, time.monotonic() - began)
        except UserError as error:
            self._failure = str(error)
            logger.info("no new index: %s", error)
        except Exception:
            self._failure = f"the index of {self.folder} could not be built; the log of the server says why"
            logger.exception("building the index failed")
        with self._lock:
            self.percent, self._is_building, self._build_s = None, False, time.monotonic() - began
            self._unjudged.update(self._open)
            meanwhile, self._meanwhile = self._meanwhile, set()
        # What was read during the build may be newer than what it saw, and what git ignores may be another now.
        self.touch(meanwhile)
        self._later(self._judge)

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

    def _use(self, built: Built, terms: Terms) -> None:
        """Puts a build in force, unless the settings are others by now."""
        with self._lock:
            if terms == self._terms and terms.is_enabled:
                self.live.use(wanted(built.segments, with_dependencies=terms.with_dependencies))
                self._built, self._failure, self._n_read = built, None, 0

    def _judge(self) -> None:
        """Finds out which of the open documents may be read."""
        with self._lock:
            paths, self._unjudged = sorted(self._unjudged), set()
        if not paths:
            return
        passed = passed_over(self.folder, paths)
        with self._lock:
            for path in paths:
                if path in self._open:
                    self._allowed[path] = path not in passed
                    self.live.change(path, self._open[path] if self._allowed[path] else None, is_open=True)
        self.live.prepare()

    def _reread(self) -> None:
        """Takes the texts of files from the disk."""
        with self._lock:
            paths, self._touched = sorted(self._touched), set()
            self._n_read += len(paths)
        passed = passed_over(self.folder, paths)
        for path in paths:
            found = None if path in passed else read_text(self.folder, path, self._terms.rule)
            text = found.text.decode("utf-8") if isinstance(found, CleanFile) else None
            with self._lock:
                if path in self._open:
                    continue
                self._allowed.pop(path, None)
                if self._is_building:
                    self._meanwhile.add(path)
                # Where no build succeeds any more, memory stays bounded: what does not fit is not known.
                self.live.close(path, text if self._n_held() < 2 * MAX_CHANGED_BYTES else None)
        self.live.prepare()

    def _n_held(self) -> int:
        """Characters of files that have changed on disk since the last build."""
        return self.live.n_changed_bytes - sum(map(len, self._open.values()))

    def _clean(self, path: str, text: str) -> bytes | None:
        return cleaned(self._terms.rule, path, text)


def cleaned(rule: Rule, path: str, text: str) -> bytes | None:
    """What of a file may be searched under a rule; None for nothing."""
    found = clean_text(path, text, rule)
    return found.text if isinstance(found, CleanFile) else None
