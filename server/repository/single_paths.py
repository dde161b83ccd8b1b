"""Which of some paths the list of a folder's names tells, without making that list for each of them.

Git is asked, and `.gitignore` files where it is not there to be asked. What nobody can judge is left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from server.repository.ignore_files import IgnoreFile, is_ignored, read_ignore_file
from server.repository.listing import ENVIRONMENT_MARK, GIT_LIMIT_S, TOOL_FOLDERS, git_says, names_from_git

MAX_JUDGED = 256  # paths one by one; git compares each with all that it tracks
MAX_STARTS = 64  # of git, to find those of some paths that it will not judge


def passed_over(root: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of `paths` that `names_in` would not tell, ignored ones above all; a file need not exist to be asked about.

    For single files that change or are open: costs one start of git, not a look at the whole tree. What git will not
    judge, as it lies in another repository, is passed over too, and decides nothing about the others.
    """
    folders = _Folders(root)
    passed = {path for path in paths if folders.are_tools_or_linked(path)}
    nested = {path for path in paths if _is_nested(root, path)}
    ignored = _ignored_by_git(root, [path for path in paths if path not in passed and path not in nested])
    if ignored is None:
        return frozenset(passed | {path for path in paths if _is_hidden(path) or folders.are_ignoring(path)})
    return frozenset(passed | nested | ignored)


def still_told(root: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of `paths`, files that exist, that `names_in` tells: git lists all faster than it judges many."""
    if len(paths) <= MAX_JUDGED:
        return frozenset(paths) - passed_over(root, paths)
    if (names := names_from_git(root)) is not None:
        return frozenset(names.paths).intersection(paths)
    folders = _Folders(root)
    return frozenset(
        path
        for path in paths
        if not (_is_hidden(path) or folders.are_tools_or_linked(path) or folders.are_ignoring(path))
    )


def _ignored_by_git(root: Path, paths: Sequence[str]) -> set[str] | None:
    """Those that git ignores and does not track, or will not judge; None where git is not asked, as in `names_in`."""
    ignored = _check_ignore(root, ["", *paths])
    if ignored is None:
        ignored = _check_ignore(root, [""])  # the folder itself: is it git that refuses, or one of the paths?
        if ignored == set():
            return _ignored_in_parts(root, paths)
    return None if ignored is None or "" in ignored else ignored


def _ignored_in_parts(root: Path, paths: Sequence[str]) -> set[str]:
    """The same where git refuses some of the paths: smaller and smaller parts are asked about, until those are left.

    They lie in a submodule that was never checked out, or behind a link that was made just now, and so does all else in
    their folder. Where there are too many, or git is slow, the rest counts as refused.
    """
    ignored: set[str] = set()
    refused: set[str] = set()  # folders
    waiting = [list(paths)]
    ends_at = time.monotonic() + GIT_LIMIT_S
    n_left = MAX_STARTS
    while waiting:
        asked = waiting.pop()
        ignored.update(path for path in asked if _folder_of(path) in refused)
        if not (asked := [path for path in asked if path not in ignored]):
            continue
        n_left -= 1
        told = _check_ignore(root, asked) if n_left >= 0 and time.monotonic() < ends_at else set(asked)
        if told is not None:
            ignored |= told
        elif len(asked) > 1:
            waiting += [asked[len(asked) // 2 :], asked[: len(asked) // 2]]
        else:
            ignored.update(asked)
            refused |= {_folder_of(asked[0])} - {""}
    return ignored


def _check_ignore(root: Path, paths: Sequence[str]) -> set[str] | None:
    """Those that git ignores, the root itself under the empty name; None if it will not judge one of them."""
    # Git gives a meaning to a colon at the start of a path.
    told = git_says(root, ["check-ignore", "-z", "--stdin"], "".join(f"./{path}\0" for path in paths))
    return None if told is None else {path.removeprefix("./") for path in told.split("\0") if path}


class _Folders:
    """The folders of a root, each looked at once: what they mean for single files in them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tools_or_links: dict[str, bool] = {}
        self._rules: dict[str, tuple[IgnoreFile, ...] | None] = {}  # None: the folder is ignored with all that is in it

    def are_tools_or_linked(self, path: str) -> bool:
        """Whether a file is a link, or a folder that it lies in is one or was made by a tool."""
        return os.path.islink(self._root / path) or any(map(self._is_tools_or_link, _folders_of(path)))

    def are_ignoring(self, path: str) -> bool:
        """Whether a `.gitignore` file between the root and the path names it, or a folder that it lies in."""
        rules: tuple[IgnoreFile, ...] = ()
        for folder in ("", *(f"{folder}/" for folder in _folders_of(path))):
            if folder not in self._rules:
                self._rules[folder] = self._rules_in(folder, rules)
            if (inner := self._rules[folder]) is None:
                return True
            rules = inner
        return is_ignored(path, rules)

    def _is_tools_or_link(self, folder: str) -> bool:
        if folder not in self._tools_or_links:
            whole = self._root / folder
            self._tools_or_links[folder] = (
                folder.rpartition("/")[2] in TOOL_FOLDERS
                or os.path.islink(whole)
                or (whole / ENVIRONMENT_MARK).exists()
            )
        return self._tools_or_links[folder]

    def _rules_in(self, folder: str, rules: tuple[IgnoreFile, ...]) -> tuple[IgnoreFile, ...] | None:
        if folder and is_ignored(folder, rules):
            return None
        spec = read_ignore_file(self._root / folder / ".gitignore")
        return rules if spec is None else (IgnoreFile(folder, spec), *rules)


def _is_nested(root: Path, path: str) -> bool:
    """Whether a file lies in a repository inside this one."""
    return any((root / folder / ".git").exists() for folder in _folders_of(path))


def _is_hidden(path: str) -> bool:
    """Whether a file lies in a hidden folder."""
    return any(part.startswith(".") for part in path.split("/")[:-1])


def _folder_of(path: str) -> str:
    """The folder that a path lies in; empty for the root."""
    return path.rpartition("/")[0]


def _folders_of(path: str) -> list[str]:
    """The folders that a path lies in, the outermost first, without the root."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]
