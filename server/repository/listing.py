"""The names of a folder's files: as git tells them, else by a walk that heeds `.gitignore`. No link is followed.

Reads folders and `.gitignore` files alone, and starts nothing of the repository's own: git runs without its hooks, its
file system monitor and its remotes. Knows nothing of what is in the files.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from server.repository.ignore_files import IgnoreFile, is_ignored, read_ignore_file

# What a walk looks at, at most; reached where somebody opens a whole disk.
MAX_NAMES = 1_000_000
GIT_LIMIT_S = 60.0

# Made by tools, whatever git or `.gitignore` says of them. Any folder that holds pyvenv.cfg is one more.
TOOL_FOLDERS = frozenset(
    "node_modules bower_components site-packages __pycache__ .git .hg .svn .tox .nox .eggs .cache .mypy_cache "
    ".pytest_cache .ruff_cache .hypothesis .ipynb_checkpoints .gradle .terraform .next .nuxt .yarn .pnpm-store".split()
)
ENVIRONMENT_MARK = "pyvenv.cfg"

Reason = Literal[
    "ignored", "hidden", "environment or cache", "link", "nested repository", "beyond the limit", "unusable name",
    "unsupported", "excluded", "secret file", "vendored", "generated", "test data",
    "not a file", "missing", "unreadable", "too large", "binary", "not UTF-8",
    "too short", "non-ASCII", "minified", "data-like", "repetitive", "duplicate",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drop:
    """A file that is left out, or a folder whose path ends in a slash, and why."""

    path: str  # relative to the root, parts separated by "/"
    reason: Reason


@dataclass(frozen=True, slots=True)
class Names:
    """Paths relative to the root with "/" between the parts, the nearest first, and what was passed over."""

    paths: tuple[str, ...]
    drops: tuple[Drop, ...]
    is_whole: bool = True  # False: there is more than `MAX_NAMES`


def names_in(root: Path) -> Names:
    """What git would take of `root`, tracked or not; without git, or outside of its work trees, what a walk finds."""
    return names_from_git(root) or walked_names(root)


def names_from_git(root: Path) -> Names | None:
    """What git would take of `root`; None where git is not asked.

    It lists nothing of a folder that the repository around it ignores, but the user has opened just that one.
    """
    listed = git_names(root)
    if listed is None or not (listed or (root / ".git").exists()):
        return None
    return _without_tool_folders(listed)


def git_names(root: Path) -> list[str] | None:
    """Git's own list, deleted files among them; None where git is missing, refuses, or takes too long."""
    listed = git_says(root, ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    # A file in conflict is listed three times.
    return None if listed is None else [name for name in dict.fromkeys(listed.split("\0")) if name]


def git_says(root: Path, arguments: Sequence[str], told: str = "") -> str | None:
    """What git says; None where it is missing, refuses, or takes too long.

    Nothing of the repository's own is run, and nothing is fetched: what a partial clone lacks is refused.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-C", str(root)]
    # A server started from a git hook inherits which repository that hook is about.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    environment["GIT_NO_LAZY_FETCH"] = "1"
    environment["GIT_ALLOW_PROTOCOL"] = "none"  # the name of no protocol: older gits do not know the line above
    try:
        done = subprocess.run(
            [*command, *arguments],
            input=told.encode("utf-8", "surrogateescape"),
            capture_output=True,
            env=environment,
            timeout=GIT_LIMIT_S,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # check-ignore says 1 for "none of them".
    is_fine = done.returncode == 0 or (done.returncode == 1 and arguments[0] == "check-ignore")
    return done.stdout.decode("utf-8", "surrogateescape") if is_fine else None


def walked_names(root: Path, max_names: int = MAX_NAMES) -> Names:
    """What lies under `root`, but for hidden folders, what tools made, links, and what `.gitignore` files name."""
    paths: list[str] = []
    drops: list[Drop] = []
    for found in _walk(root, max_names):
        if isinstance(found, str):
            paths.append(found)
        else:
            drops.append(found)
    return Names(tuple(paths), tuple(drops), len(paths) + len(drops) < max_names)


def nearest_first(paths: Sequence[str]) -> list[str]:
    """By depth, then by name."""
    return sorted(paths, key=lambda path: (path.count("/"), path))


def _without_tool_folders(paths: Sequence[str]) -> Names:
    """Git's list without what a user forgot to ignore."""
    environments = {path.rpartition("/")[0] for path in paths if path.endswith("/" + ENVIRONMENT_MARK)}
    judged: dict[str, bool] = {"": False}

    def is_tools(folder: str) -> bool:
        if folder not in judged:
            outer, _, name = folder.rpartition("/")
            judged[folder] = name in TOOL_FOLDERS or folder in environments or is_tools(outer)
        return judged[folder]

    kept: list[str] = []
    drops: list[Drop] = []
    for path in paths:
        if path.endswith("/"):
            drops.append(Drop(path, "nested repository"))
        elif is_tools(path.rpartition("/")[0]):
            drops.append(Drop(path, "environment or cache"))
        else:
            kept.append(path)
    return Names(tuple(nearest_first(kept)), tuple(drops))


def _walk(root: Path, max_names: int) -> Iterator[str | Drop]:
    """Files and what is passed over, folder by folder, the nearest first; at most `max_names` of both."""
    waiting: deque[tuple[str, tuple[IgnoreFile, ...]]] = deque([("", ())])
    n_left = max_names
    while waiting and n_left > 0:
        folder, rules = waiting.popleft()
        try:
            with os.scandir(root / folder) as scan:
                entries = sorted(islice(scan, n_left), key=lambda entry: entry.name)
        except OSError:
            yield Drop(folder, "unreadable")
            n_left -= 1
            continue
        names = {entry.name for entry in entries}
        if folder and ENVIRONMENT_MARK in names:
            yield Drop(folder, "environment or cache")
            n_left -= 1
            continue
        if ".gitignore" in names and (spec := read_ignore_file(root / folder / ".gitignore")) is not None:
            rules = (IgnoreFile(folder, spec), *rules)
        for entry in entries:
            path = folder + entry.name
            if not _is_folder(entry):
                n_left -= 1
                if entry.is_symlink():
                    yield Drop(path, "link")
                else:
                    yield Drop(path, "ignored") if is_ignored(path, rules) else path
                continue
            path += "/"
            if entry.name in TOOL_FOLDERS:
                n_left -= 1
                yield Drop(path, "environment or cache")
            elif entry.name.startswith("."):
                n_left -= 1
                yield Drop(path, "hidden")
            elif is_ignored(path, rules):
                n_left -= 1
                yield Drop(path, "ignored")
            else:
                waiting.append((path, rules))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
