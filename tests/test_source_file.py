"""Files are read whatever is in them, and places in them are counted as editors count."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.lm.context import Document
from server.lm.languages import language_for
from server.source_file import (
    MAX_FILE_BYTES,
    line_and_column,
    location_of,
    offset_of,
    opened,
    read_text,
    root_of,
    shown_path,
    whole_lines,
)
from tests.marks import split_at_cursor

PYTHON = language_for("python")


@pytest.mark.parametrize(
    "marked, place",
    [
        ("<|>", (1, 0)),
        ("ab<|>c", (1, 2)),
        ("a\r\nb<|>", (2, 1)),
        ("a\rb<|>", (2, 1)),
        ("a\x0cb\u2028c<|>", (1, 5)),
        ("😀é<|>", (1, 2)),
        ("a\n<|>\n", (2, 0)),
    ],
)
def test_a_place_is_counted_there_and_back(marked: str, place: tuple[int, int]) -> None:
    text, offset = split_at_cursor(marked)
    assert line_and_column(text, offset) == place
    assert offset_of(text, *place) == offset


@pytest.mark.parametrize("line, column", [(0, 0), (4, 0), (3, 1), (1, 99)])
def test_a_place_that_is_not_there_has_no_offset(line: int, column: int) -> None:
    assert offset_of("a\nb\n", line, column) is None


@pytest.mark.parametrize(
    "text, start, end, lines",
    [
        ("a\nb\nc\n", 2, 3, "b\n"),
        ("a\nb\nc\n", 2, 4, "b\n"),
        ("a\r\nbb\r\nc", 4, 4, "bb\r\n"),
        ("a\rb\rc", 2, 3, "b\r"),
        ("abc", 1, 2, "abc"),
        ("", 0, 0, ""),
    ],
)
def test_lines_are_taken_whole(text: str, start: int, end: int, lines: str) -> None:
    assert text[slice(*whole_lines(text, start, end))] == lines


def test_an_old_line_end_is_one_for_the_grammar_too() -> None:
    file = opened(Document("file:///a.py", "a.py", PYTHON, "x = 1\rdef f():\r    return x\r"), 0)
    assert file is not None and [each.name for each in file.definitions] == ["", "x", "f"]


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    large = tmp_path / "large.py"
    large.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    assert read_text(large) is None and read_text(tmp_path) is None and read_text(tmp_path / "absent") is None
    assert read_text(Path("a\0b")) is None


def test_any_bytes_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "latin1.py"
    path.write_bytes(b"\xef\xbb\xbfx = '\xe9'\n")
    assert read_text(path) == "x = '\ufffd'\n"


@pytest.mark.parametrize(
    "uri, path, location, root",
    [
        ("file:///w/a.py", "a.py", "/w/a.py", "/w"),
        ("file:///w/app/src/a%20b.py", "src/a b.py", "/w/app/src/a b.py", "/w/app"),
        ("file:///other/a.py", "/other/a.py", "/other/a.py", None),
        ("file:///c%3A/w/a.py", "a.py", "c:/w/a.py", "c:/w"),
        ("file://host/w/a.py", "a.py", "//host/w/a.py", "//host/w"),
        ("file:///w/a.py", "b.py", "/w/a.py", None),
        ("untitled:Untitled-1", "Untitled-1", None, None),
        ("git:/w/a.py", "a.py", None, None),
        ("file://[", "a.py", None, None),
    ],
)
def test_a_document_lies_where_its_uri_says(uri: str, path: str, location: str | None, root: str | None) -> None:
    document = Document(uri, path, PYTHON, "")
    assert location_of(document.uri) == (None if location is None else Path(location))
    assert root_of(document) == (None if root is None else Path(root))


def test_a_path_is_shown_relative_to_the_workspace() -> None:
    assert shown_path(Path("/w/a/b.py"), Path("/w")) == "a/b.py"
    assert shown_path(Path("/x/b.py"), Path("/w")) == shown_path(Path("/x/b.py"), None) == "/x/b.py"
