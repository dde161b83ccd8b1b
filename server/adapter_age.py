"""How far a repository has moved on since its adapter was made, and whether another run is worth its time.

By commits, and by texts: a file that was learned and touched since is cleaned and hashed again, as `finetune` did it.
Not looked into are files whose time of change lies before the run, so a text that was put back with an old time is
missed, and notebooks, whose code `finetune` alone takes out: they count as changed when they were touched.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from server.lm.adapter_manifest import AdapterError, Manifest, read_manifest
from server.lm.languages import CODE_SUFFIXES
from server.loading import in_thread
from server.repository.files import CleanFile, Rule, name_reason, read_text
from server.repository.listing import git_says, names_in

logger = logging.getLogger(__name__)

MAX_COMMITS = 50
MAX_SHARE = 0.15  # of the files that were learned
LOOK_LIMIT_S = 2.0  # for the texts
LONGEST_RUN_S = 86_400.0  # what is edited while a run goes on was learned as it was before
WAIT_S, KEPT_S = 1.0, 10.0
NOTEBOOK = ".ipynb"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AdapterAge:
    """What has happened in a repository since."""

    n_commits: int | None  # None: there is no git, or it does not know the commit that was trained on
    n_learned: int
    n_changed: int  # files that were learned; those that are gone or may not be learned any more count
    n_new: int  # files that may be learned
    is_whole: bool  # False: the time was over before all were looked at, and there may be more

    @property
    def is_run_advised(self) -> bool:
        """Whether the adapter is so old that another run is worth its time."""
        return bool(self._reasons())

    @property
    def advice(self) -> str:
        """Whether to train again, and why, in words."""
        if reasons := self._reasons():
            return f"{', and '.join(reasons)}: train it again with `loracle-finetune`"
        commits = "" if self.n_commits is None else f"{self.n_commits} commit{'s' * (self.n_commits != 1)} since, "
        least = "" if self.is_whole else "at least "
        return (
            f"{commits}{least}{self.n_changed} of {self.n_learned} learned files changed, {least}{self.n_new} new: "
            f"no new run is needed"
        )

    def _reasons(self) -> list[str]:
        allowed, least = MAX_SHARE * self.n_learned, "" if self.is_whole else "at least "
        share, reasons = f"more than {100 * MAX_SHARE:.0f} %", []
        if self.n_commits is not None and self.n_commits > MAX_COMMITS:
            reasons.append(f"{self.n_commits} commits were made since, more than {MAX_COMMITS}")
        if self.n_learned and self.n_changed > allowed:
            reasons.append(f"{least}{self.n_changed} of {self.n_learned} learned files have changed, {share}")
        if self.n_learned and self.n_new > allowed:
            reasons.append(f"{least}{self.n_new} files are new, {share} of the {self.n_learned} that were learned")
        return reasons


class AdapterAges:
    """The age of the adapter that serves: found out in a thread, and again only some seconds later."""

    def __init__(self) -> None:
        self._key: tuple[Path, Path, tuple[str, ...]] | None = None
        self._age: AdapterAge | None = None
        self._good_until = 0.0  # time.monotonic()
        self._look: asyncio.Task[None] | None = None

    async def age(self, root: Path, adapter: Path, exclude: tuple[str, ...]) -> AdapterAge | None:
        """What is known within `WAIT_S`; None where nothing is known yet, or the adapter cannot be read."""
        key = (root, adapter, exclude)
        if key != self._key:
            self._key, self._age, self._look = key, None, None
        if self._look is None or (self._look.done() and time.monotonic() > self._good_until):
            self._look = asyncio.create_task(self._find_out(key))
        await asyncio.wait([self._look], timeout=WAIT_S)
        return self._age

    async def _find_out(self, key: tuple[Path, Path, tuple[str, ...]]) -> None:
        age = None
        try:
            age = await in_thread("loracle-age", partial(age_of, *key))
        except Exception:  # the status has other things to tell
            logger.exception("looking how old the adapter is failed")
        if key == self._key:
            self._age, self._good_until = age, time.monotonic() + KEPT_S


def age_of(root: Path, adapter: Path, exclude: tuple[str, ...], limit_s: float = LOOK_LIMIT_S) -> AdapterAge | None:
    """The age of the adapter in a folder, for the repository at `root`; None for one that cannot be read.

    Texts are looked at for `limit_s`, those touched last first; git may take longer.
    """
    try:
        manifest = read_manifest(adapter)
    except AdapterError:
        return None
    ends_at = time.monotonic() + limit_s
    rule = Rule(CODE_SUFFIXES | {NOTEBOOK}, exclude)
    changed = list(_until(ends_at, _changed(root, manifest, rule)))
    new = list(_until(ends_at, _new(root, manifest, rule)))
    is_whole = None not in changed and None not in new
    n_commits = _n_commits(root, _commit(manifest))
    return AdapterAge(n_commits, len(manifest.trained_files), changed.count(True), new.count(True), is_whole)


def _until(ends_at: float, found: Iterable[bool]) -> Iterator[bool | None]:
    """What is found while there is time, then None."""
    for each in found:
        if time.monotonic() > ends_at:
            yield None
            return
        yield each


def _changed(root: Path, manifest: Manifest, rule: Rule) -> Iterator[bool]:
    """For each file that was learned, whether it is another now. Those that were not touched are not told."""
    touched: list[tuple[float, str]] = []
    for path in manifest.trained_files:
        at = _touched_at(root, path)
        if at is None:
            yield True
        elif at >= manifest.made_at - LONGEST_RUN_S:
            touched.append((at, path))
    for at, path in sorted(touched, reverse=True):
        if path.endswith(NOTEBOOK):
            yield at >= manifest.made_at
            continue
        read = read_text(root, path, rule)
        is_same = isinstance(read, CleanFile) and _digest(read.text) == manifest.trained_files[path]
        yield not is_same


def _new(root: Path, manifest: Manifest, rule: Rule) -> Iterator[bool]:
    """For each file that came since, whether it may be learned.

    Where git does not know the commit, that is one that was not learned and was touched since; held-out ones are too.
    """
    commit = _commit(manifest)
    listed = git_says(root, ["ls-tree", "-r", "-z", "--name-only", commit]) if commit else None
    known = {*manifest.trained_files, *(listed or "").split("\0")}
    for path in names_in(root).paths:
        if path in known or name_reason(path, rule) is not None:
            continue
        at = _touched_at(root, path)
        if at is not None and at >= manifest.made_at:
            yield path.endswith(NOTEBOOK) or isinstance(read_text(root, path, rule), CleanFile)


def _touched_at(root: Path, path: str) -> float | None:
    """When a file was changed, in seconds since the epoch; None for none, and for a name that leads out of the root."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not (root / path).is_relative_to(root):
        return None
    try:
        return (root / path).lstat().st_mtime
    except (OSError, ValueError):
        return None


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _commit(manifest: Manifest) -> str | None:
    """The commit that was trained on, if it is one: a manifest may come from anywhere, and this goes to git."""
    return manifest.commit if manifest.commit is not None and _COMMIT.fullmatch(manifest.commit) else None


def _n_commits(root: Path, commit: str | None) -> int | None:
    said = git_says(root, ["rev-list", "--count", f"{commit}..HEAD", "--"]) if commit else None
    return int(said) if said is not None and said.strip().isdigit() else None
