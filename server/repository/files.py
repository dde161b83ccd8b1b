"""Which files of a repository may be read and learned from, and the text of one: one rule for index and fine-tuning.

First the names: git's list or a walk (`listing`), the languages that we know, no excluded globs, no places for keys.
Then the text: its size, what it is, and secrets cut out of it. Each file is kept, or dropped with its reason. What an
editor holds open goes through the same rule with `clean_text`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from server.repository.barred import is_barred_path
from server.repository.listing import Drop, Reason, names_in, nearest_first
from server.repository.quality import WORKSPACE_LIMITS, Limits, text_reason, workspace_path_reason
from server.repository.secrets import is_secret_path, scrub
from server.repository.single_paths import still_told

# Raise it with every change to what this package keeps, drops or cuts: what was cleaned before is then cleaned anew.
RULE_VERSION = 1
MAX_FILES = 100_000  # that are looked at one by one


@dataclass(frozen=True, slots=True)
class Rule:
    """What a caller may choose; everything else is the same for all."""

    suffixes: frozenset[str]  # of the languages that count, lower case, with the dot
    exclude: tuple[str, ...] = ()  # globs
    limits: Limits = WORKSPACE_LIMITS


@dataclass(frozen=True, slots=True)
class File:
    """A file whose name and size are fine."""

    path: str  # relative to the root, parts separated by "/"
    n_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class FileList:
    """The files of a root that are worth reading, by path, and the others with their reasons."""

    files: tuple[File, ...]
    drops: tuple[Drop, ...]
    # There are more names, or more files, than are looked at: those deepest in the tree are not among these.
    limit: Literal["names", "files"] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether no limit was reached."""
        return self.limit is None


@dataclass(frozen=True, slots=True)
class CleanFile:
    """One file as it may be learned from: UTF-8, line ends "\\n", secrets cut out."""

    path: str
    text: bytes
    n_secrets: int = 0


def list_files(root: Path, rule: Rule, max_files: int = MAX_FILES) -> FileList:
    """What lies under `root`, judged by name and size. Never raises for what it finds there."""
    names = names_in(root)
    drops = list(names.drops)
    wanted: list[str] = []
    for path in names.paths:
        if (reason := name_reason(path, rule)) is not None:
            drops.append(Drop(path, reason))
        else:
            wanted.append(path)
    if len(wanted) > max_files:
        wanted = nearest_first(wanted)
        drops += (Drop(path, "beyond the limit") for path in wanted[max_files:])
    limit: Literal["names", "files"] | None = "files" if len(wanted) > max_files else None
    files: list[File] = []
    folders = _Folders(root)
    for path in wanted[:max_files]:
        looked = _look(root, path, rule, folders)
        if isinstance(looked, Drop):
            drops.append(looked)
        else:
            files.append(looked)
    return FileList(
        tuple(sorted(files, key=lambda file: file.path)), tuple(drops), limit if names.is_whole else "names"
    )


def outdated(root: Path, files: Iterable[File], rule: Rule) -> frozenset[str]:
    """The paths of those files that are not on disk as they were, or may not be read any more.

    Costs a look at each, and one at what git or `.gitignore` files say of them: no file is opened.
    """
    folders = _Folders(root)
    was = {file.path: file for file in files}
    same = [path for path, file in was.items() if _look(root, path, rule, folders) == file]
    told = still_told(root, [path for path in same if name_reason(path, rule) is None])
    return frozenset(was.keys() - told)


def name_reason(path: str, rule: Rule) -> Reason | None:
    """Why a file is dropped whatever is in it, or None. `path` is relative, its parts separated by "/"."""
    if os.path.splitext(path)[1].lower() not in rule.suffixes:
        return "unsupported"
    if not path.isprintable():  # control characters, and bytes that are no UTF-8
        return "unusable name"
    if is_secret_path(path):
        return "secret file"
    if rule.exclude and is_barred_path(path, rule.exclude):
        return "excluded"
    return workspace_path_reason(path)


def read_text(root: Path, path: str, rule: Rule) -> CleanFile | Drop:
    """The cleaned text of one file, or why it is dropped. No link is followed, and no device or pipe is waited for."""
    if (reason := name_reason(path, rule)) is not None:
        return Drop(path, reason)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(root / path, flags), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return Drop(path, "not a file")
            content = stream.read(rule.limits.max_bytes + 1)
    except FileNotFoundError:
        return Drop(path, "missing")
    except OSError:
        return Drop(path, "unreadable")
    if len(content) > rule.limits.max_bytes:
        return Drop(path, "too large")
    if b"\0" in content:
        return Drop(path, "binary")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return Drop(path, "not UTF-8")
    return clean_text(path, text, rule)


def clean_text(path: str, text: str, rule: Rule) -> CleanFile | Drop:
    """A text as it may be learned from, or why not: for open documents, and for files that were read."""
    if (reason := name_reason(path, rule)) is not None:
        return Drop(path, reason)
    if len(text) > rule.limits.max_bytes:  # before anything that takes longer for a longer text
        return Drop(path, "too large")
    if "\0" in text:
        return Drop(path, "binary")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    scrubbed = scrub(text)
    if (reason := text_reason(scrubbed.text, rule.limits)) is not None:
        return Drop(path, reason)
    return CleanFile(path, scrubbed.text.encode("utf-8", "replace"), len(scrubbed.findings))


def without_duplicates(files: Iterable[CleanFile | Drop]) -> Iterator[CleanFile | Drop]:
    """The same, each text once: whoever repeats an earlier one is dropped."""
    seen: set[bytes] = set()
    for file in files:
        if isinstance(file, CleanFile):
            digest = blake2b(file.text, digest_size=16).digest()
            if digest in seen:
                file = Drop(file.path, "duplicate")
            seen.add(digest)
        yield file


def _look(root: Path, path: str, rule: Rule, folders: _Folders) -> File | Drop:
    """Size and time of a file, which is not opened."""
    if folders.is_beyond_link(path):
        return Drop(path, "link")
    try:
        found = os.stat(root / path, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return Drop(path, "missing")
    except OSError:
        return Drop(path, "unreadable")
    if stat.S_ISLNK(found.st_mode):
        return Drop(path, "link")
    if not stat.S_ISREG(found.st_mode):
        return Drop(path, "not a file")
    if found.st_size > rule.limits.max_bytes:
        return Drop(path, "too large")
    return File(path, found.st_size, found.st_mtime_ns)


class _Folders:
    """Which folders are links, or lie beyond one: git goes on listing files of a folder that a link has replaced."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known = {"": False}

    def is_beyond_link(self, path: str) -> bool:
        """Whether a folder that a file or folder lies in is a link."""
        folder = path.rpartition("/")[0]
        if folder not in self._known:
            self._known[folder] = self.is_beyond_link(folder) or os.path.islink(self._root / folder)
        return self._known[folder]
