"""A file read and parsed: its tree and what it defines, from an open document or from disk.

Lines end at `\\n`, `\\r\\n` and `\\r` here, as in an editor. Knows nothing of what is asked about the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from server.lm.context import Document
from server.lm.definitions import Definition, definitions
from server.lm.languages import Language
from server.lm.syntax import SyntaxTree, parse

MAX_FILE_BYTES = 1_000_000  # of a file that is read from disk
LINE_BREAK = re.compile(r"\r\n|\r|\n")
WINDOWS_DRIVE = re.compile(r"/[A-Za-z]:")
LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A text with its syntax tree; of a long text, the window around a place."""

    path: str  # as it is shown: relative to the workspace where it lies in there
    language: Language
    text: str
    tree: SyntaxTree
    definitions: tuple[Definition, ...]  # the first stands for the file itself


def parsed(path: str, language: Language, text: str, around: int) -> SourceFile | None:
    """The file that `text` makes; None without a grammar, or when parsing takes too long."""
    if "\r" in text:
        text = LONE_CARRIAGE_RETURN.sub("\n", text)  # no line break for the grammars; every offset stays
    tree = parse(text, language, around)
    return None if tree is None else SourceFile(path, language, text, tree, definitions(tree, language))


def opened(document: Document, around: int) -> SourceFile | None:
    """The parsed file of an open document."""
    return parsed(document.path, document.language, document.text, around)


def read_text(path: Path) -> str | None:
    """The text of a file of at most `MAX_FILE_BYTES`; None when it cannot be read. What is no UTF-8 reads U+FFFD."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        return path.read_bytes().decode("utf-8-sig", "replace")
    except (OSError, ValueError):  # ValueError: a path with a NUL
        return None


def location_of(uri: str) -> Path | None:
    """Where a document lies on disk; None for one that was never saved."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme != "file" or not parts.path:
        return None
    path = unquote(parts.path)
    if parts.netloc:
        path = f"//{parts.netloc}{path}"
    return Path(path[1:] if WINDOWS_DRIVE.match(path) else path)


def root_of(document: Document) -> Path | None:
    """The workspace folder that the path of a document is relative to; None for one that lies in none."""
    location, inner = location_of(document.uri), PurePosixPath(document.path)
    n_parts = len(inner.parts)
    if location is None or not 0 < n_parts < len(location.parts) or location.parts[-n_parts:] != inner.parts:
        return None
    return location.parents[n_parts - 1]


def shown_path(path: Path, workspace_root: Path | None) -> str:
    """`path` relative to the workspace if it lies in there, parts separated by "/"."""
    if workspace_root is not None and path.is_relative_to(workspace_root):
        path = path.relative_to(workspace_root)
    return path.as_posix()


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """The 1-based line of an offset and its column in characters."""
    breaks = [match.end() for match in LINE_BREAK.finditer(text, 0, offset)]
    return len(breaks) + 1, offset - (breaks[-1] if breaks else 0)


def offset_of(text: str, line: int, column: int) -> int | None:
    """The reverse of `line_and_column`; None for a place that `text` does not have."""
    starts = [0, *(match.end() for match in LINE_BREAK.finditer(text))]
    if not 1 <= line <= len(starts) or starts[line - 1] + column > len(text):
        return None
    return starts[line - 1] + column


def whole_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """From the start of the line at `start` to behind the line of the last character before `end`."""
    first = max(text.rfind("\n", 0, start), text.rfind("\r", 0, start)) + 1
    if end > start and text[end - 1] in "\r\n":
        return first, end
    line_break = LINE_BREAK.search(text, end)
    return first, line_break.end() if line_break is not None else len(text)
