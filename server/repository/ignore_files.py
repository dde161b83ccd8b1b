"""`.gitignore` files: read, and asked about paths. Knows nothing of git, which keeps patterns in other places too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MAX_IGNORE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """One `.gitignore` file: its folder, which ends in a slash or is empty, and its patterns."""

    folder: str
    spec: GitIgnoreSpec


def is_ignored(path: str, files: Sequence[IgnoreFile]) -> bool:
    """Whether the first of the files, the innermost, that says anything of a path says that it is ignored."""
    for file in files:
        verdict = file.spec.check_file(path[len(file.folder) :]).include
        if verdict is not None:
            return verdict
    return False


def read_ignore_file(path: Path) -> GitIgnoreSpec | None:
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
