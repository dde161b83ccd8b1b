"""The names of a folder's files: as git tells them, else by a walk that heeds `.gitignore`. No link is followed.

Reads folders and `.gitignore` files alone, and starts nothing of the repository's own: git runs without its hooks and
its file system monitor. Knows nothing of what is in the files.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# What a walk looks at, at most; reached where somebody opens a whole disk.
MAX_NAMES = 1_000_000
GIT_LIMIT_S = 60.0
MAX_IGNORE_BYTES = 1_000_000

# Made by tools, whatever git or `.gitignore` says of them. Any folder that holds pyvenv.cfg is one more.
_TOOL_FOLDERS = frozenset(
    "node_modules bower_components site-packages __pycache__ .git .hg .svn .tox .nox .eggs .cache .mypy_cache "
    ".pytest_cache .ruff_cache .hypothesis .ipynb_checkpoints .gradle .terraform .next .nuxt .yarn .pnpm-store".split()
)
_ENVIRONMENT_MARK = "pyvenv.cfg"

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
    listed = git_names(root)
    if listed is not None and (listed or (root / ".git").exists()):
        return _without_tool_folders(listed)
    # Git lists nothing of a folder that the repository around it ignores, but the user has opened just that one.
    return walked_names(root)


def passed_over(root: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of `paths` that `names_in` would not tell, ignored ones above all; a file need not exist to be asked about.

    For single files that change or are open: costs one start of git, not a look at the whole tree.
    """
    ignored = _ignored_by_git(root, paths)
    if ignored is None:
        passed = (path for path in paths if _is_hidden(path) or _is_ignored(root, path))
    else:
        passed = (path for path in paths if path in ignored or _is_nested(root, path))
    return frozenset(passed) | {path for path in paths if _is_tools_or_linked(root, path)}


def git_names(root: Path) -> list[str] | None:
    """Git's own list, deleted files among them; None where git is missing, refuses, or takes too long."""
    listed = _git(root, ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    # A file in conflict is listed three times.
    return None if listed is None else [name for name in dict.fromkeys(listed.split("\0")) if name]


def _ignored_by_git(root: Path, paths: Sequence[str]) -> set[str] | None:
    """Those that git ignores and does not track; None where git is not asked, as in `names_in`."""
    # Git gives a meaning to a colon at the start of a path.
    told = _git(root, ["check-ignore", "-z", "--stdin"], "\0".join([".", *(f"./{path}" for path in paths)]))
    if told is None:
        return None
    ignored = told.split("\0")
    return None if "." in ignored else {path.removeprefix("./") for path in ignored}


def _git(root: Path, arguments: Sequence[str], told: str = "") -> str | None:
    """What git says; None where it is missing, refuses, or takes too long. Nothing of the repository's own is run."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-C", str(root)]
    # A server started from a git hook inherits which repository that hook is about.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
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
    environments = {path.rpartition("/")[0] for path in paths if path.endswith("/" + _ENVIRONMENT_MARK)}
    judged: dict[str, bool] = {"": False}

    def is_tools(folder: str) -> bool:
        if folder not in judged:
            outer, _, name = folder.rpartition("/")
            judged[folder] = name in _TOOL_FOLDERS or folder in environments or is_tools(outer)
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
    waiting: deque[tuple[str, tuple[_Ignored, ...]]] = deque([("", ())])
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
        if folder and _ENVIRONMENT_MARK in names:
            yield Drop(folder, "environment or cache")
            n_left -= 1
            continue
        if ".gitignore" in names and (spec := _read_ignore_file(root / folder / ".gitignore")) is not None:
            rules = (_Ignored(folder, spec), *rules)
        for entry in entries:
            path = folder + entry.name
            if not _is_folder(entry):
                n_left -= 1
                yield Drop(path, "link") if entry.is_symlink() else _judged(path, rules)
                continue
            path += "/"
            if entry.name in _TOOL_FOLDERS:
                n_left -= 1
                yield Drop(path, "environment or cache")
            elif entry.name.startswith("."):
                n_left -= 1
                yield Drop(path, "hidden")
            elif isinstance(judged := _judged(path, rules), Drop):
                n_left -= 1
                yield judged
            else:
                waiting.append((path, rules))


def _is_tools_or_linked(root: Path, path: str) -> bool:
    """Whether a file is a link, or a folder that it lies in is one or was made by a tool."""
    folders = _folders_of(path)
    return any(os.path.islink(root / each) for each in (*folders, path)) or any(
        folder.rpartition("/")[2] in _TOOL_FOLDERS or (root / folder / _ENVIRONMENT_MARK).exists() for folder in folders
    )


def _is_nested(root: Path, path: str) -> bool:
    """Whether a file lies in a repository inside this one."""
    return any((root / folder / ".git").exists() for folder in _folders_of(path))


def _is_hidden(path: str) -> bool:
    """Whether a file lies in a hidden folder."""
    return any(part.startswith(".") for part in path.split("/")[:-1])


def _is_ignored(root: Path, path: str) -> bool:
    """Whether a `.gitignore` file between the root and the path names it, or a folder that it lies in."""
    rules: tuple[_Ignored, ...] = ()
    inner = [f"{folder}/" for folder in _folders_of(path)]
    for folder, below in zip(["", *inner], [*inner, path], strict=True):
        if (spec := _read_ignore_file(root / folder / ".gitignore")) is not None:
            rules = (_Ignored(folder, spec), *rules)
        if isinstance(_judged(below, rules), Drop):
            return True
    return False


def _folders_of(path: str) -> list[str]:
    """The folders that a path lies in, the outermost first, without the root."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


@dataclass(frozen=True, slots=True)
class _Ignored:
    """One `.gitignore` file: its folder, which ends in a slash or is empty, and its patterns."""

    folder: str
    spec: GitIgnoreSpec


def _judged(path: str, rules: Sequence[_Ignored]) -> str | Drop:
    """The path, or the drop where the innermost file that says anything of it says that it is ignored."""
    for rule in rules:
        verdict = rule.spec.check_file(path[len(rule.folder) :]).include
        if verdict is not None:
            return Drop(path, "ignored") if verdict else path
    return path


def _read_ignore_file(path: Path) -> GitIgnoreSpec | None:
    """The patterns of a `.gitignore` file; lines that are none are passed over. None if it cannot be read."""
    from pathspec import GitIgnoreSpec

    if path.is_symlink() or not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
            lines = stream.read(MAX_IGNORE_BYTES).splitlines()
    except OSError:
        return None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line))


def _is_pattern(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
