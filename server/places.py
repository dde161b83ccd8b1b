"""FILE:LINE:COLUMN on a command line: read, found in the file, and the file opened as an editor would.

Lines and columns count from 1, columns in characters. Knows nothing of what is asked about the place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server.lm.errors import UserError

if TYPE_CHECKING:
    from server.lm.context import Document

MAX_FILE_BYTES = 20_000_000
ROOT_MARKERS = (".git", "pyproject.toml", "package.json")

# The numbers are taken from the right, so that a drive letter or a colon in a file's name is left alone.
PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?", re.DOTALL)
LINE_BREAK = re.compile(r"\r\n|\r|\n")
# What a definition or a statement of any of our languages may have in front of the name that it is about.
KEYWORDS = re.compile(
    r"\s*(?:@|(?:export|default|declare|abstract|public|private|protected|static|readonly|async|await|def|class|function"
    r"|interface|type|enum|const|let|var|return|from|import|for|if|elif|while|with|get|set)\b\*?\s*)*"
)
NAME = re.compile(r"[^\W\d]\w*")


class PlaceError(UserError):
    """A place on the command line does not exist, or its file cannot be read."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place as it was written."""

    file: Path
    line: int
    column: int | None  # None: the name that the line is about


def parse_place(text: str) -> Place | None:
    """The place that FILE:LINE or FILE:LINE:COLUMN names; None for anything else."""
    match = PLACE.fullmatch(text)
    if match is None:
        return None
    return Place(Path(match["file"]), int(match["line"]), int(match["column"]) if match["column"] else None)


def offset_of(text: str, place: Place) -> int:
    """The index into `text` of a place."""
    starts = [0, *(match.end() for match in LINE_BREAK.finditer(text))]
    if not 1 <= place.line <= len(starts):
        raise PlaceError(f"{place.file} has no line {place.line}; its lines are 1 to {len(starts)}")
    start = starts[place.line - 1]
    line = LINE_BREAK.split(text[start:], maxsplit=1)[0]
    if place.column is None:
        return start + name_in(line)
    if not 1 <= place.column <= len(line) + 1:
        raise PlaceError(
            f"line {place.line} of {place.file} has no column {place.column}; its columns are 1 to {len(line) + 1}"
        )
    return start + place.column - 1


def place_of(text: str, offset: int) -> dict[str, int]:
    """`line` and `column` of an offset, both from 1."""
    breaks = [match.end() for match in LINE_BREAK.finditer(text, 0, offset)]
    return {"line": len(breaks) + 1, "column": offset - (breaks[-1] if breaks else 0) + 1}


def name_in(line: str) -> int:
    """The index of the name that a line is about: the first behind its keywords; else of its first character."""
    match = KEYWORDS.match(line)
    name = NAME.search(line, match.end() if match else 0) or NAME.search(line)
    return name.start() if name else len(line) - len(line.lstrip())


def workspace_of(file: Path) -> Path:
    """The folder that an editor would open: the nearest above with a repository or project file, else the own."""
    folders = list(file.parents)
    return next((folder for folder in folders if any((folder / name).exists() for name in ROOT_MARKERS)), folders[0])


def open_document(file: Path) -> tuple[Document, Path]:
    """The file as an editor has it open, and its workspace."""
    from server.lm.context import Document
    from server.lm.languages import language_for

    try:
        path = file.resolve()
        n_bytes = path.stat().st_size
        if n_bytes > MAX_FILE_BYTES:
            raise PlaceError(f"{file} has {n_bytes} bytes; files over {MAX_FILE_BYTES} bytes are not read")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PlaceError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise PlaceError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    root = workspace_of(path)
    return Document(path.as_uri(), path.relative_to(root).as_posix(), language_for("", path.name), text), root
