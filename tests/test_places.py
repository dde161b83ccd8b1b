"""Places on the command line: how they are written, where they lie in a file, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from marks import split_at_cursor

from server.places import Place, PlaceError, name_in, offset_of, open_document, parse_place, place_of, workspace_of


@pytest.mark.parametrize(
    ("written", "file", "line", "column"),
    [
        ("a.py:3", "a.py", 3, None),
        ("a.py:3:14", "a.py", 3, 14),
        ("src/a b.py:3:14", "src/a b.py", 3, 14),
        (r"C:\code\a.py:3", r"C:\code\a.py", 3, None),
        (r"C:\code\a.py:3:14", r"C:\code\a.py", 3, 14),
        ("C:/code/a.py:3:14", "C:/code/a.py", 3, 14),
        ("a:b.py:3", "a:b.py", 3, None),
        ("12:3:14", "12", 3, 14),
    ],
)
def test_numbers_are_taken_from_the_right(written: str, file: str, line: int, column: int | None) -> None:
    assert parse_place(written) == Place(Path(file), line, column)


@pytest.mark.parametrize(
    "written", ["", "a.py", "a.py:", "a.py:x", "a.py:3:x", ":3", "a.py:-1", r"C:\a.py", "a.py:1.5"]
)
def test_anything_else_is_no_place(written: str) -> None:
    assert parse_place(written) is None


@pytest.mark.parametrize(
    ("marked", "line", "column"),
    [
        ("<|>", 1, 1),
        ("<|>abc\n", 1, 1),
        ("abc<|>\n", 1, 4),
        ("abc\n<|>", 2, 1),
        ("a\r\nb<|>c\r\n", 2, 2),
        ("a\rb<|>c", 2, 2),
        ("a\x0cb\u2028c<|>\nd", 1, 6),  # neither a form feed nor U+2028 ends a line
        ("😀é<|>", 1, 3),  # characters, whatever they take in UTF-16
    ],
)
def test_a_place_and_its_offset_are_the_same(marked: str, line: int, column: int) -> None:
    text, offset = split_at_cursor(marked)
    assert offset_of(text, Place(Path("a.py"), line, column)) == offset
    assert place_of(text, offset) == {"line": line, "column": column}


@pytest.mark.parametrize(
    ("line", "column", "says"),
    [
        (0, 1, "no line 0; its lines are 1 to 3"),
        (4, 1, "no line 4"),
        (2, 0, "no column 0"),
        (2, 5, "columns are 1 to 4"),
    ],
)
def test_a_place_outside_the_file_is_named(line: int, column: int, says: str) -> None:
    with pytest.raises(PlaceError, match=says):
        offset_of("a\nbcd\n", Place(Path("a.py"), line, column))


@pytest.mark.parametrize(
    "marked",
    [
        "def <|>add(a, b):",
        "    async def <|>add(a):",
        "class <|>Point:",
        "@<|>property",
        "export default async function* <|>walk() {",
        "export const <|>total = 1;",
        "  public static <|>make(): Shape {",
        "    return <|>total",
        "<|>define = 3",  # begins like a keyword
        "<|>x = 1",
        "    <|>",
        "  <|>+ 1",
    ],
)
def test_without_a_column_a_line_is_about_its_name(marked: str) -> None:
    line, offset = split_at_cursor(marked)
    assert name_in(line) == offset


@pytest.mark.parametrize("marker", [".git", "pyproject.toml", "package.json"])
def test_the_workspace_is_the_nearest_project(tmp_path: Path, marker: str) -> None:
    file = tmp_path / "project" / "src" / "a.py"
    file.parent.mkdir(parents=True)
    (tmp_path / "project" / marker).touch()
    (tmp_path / "pyproject.toml").touch()
    file.write_text("x = 1\n")
    document, root = open_document(file)
    assert root == workspace_of(file) == tmp_path / "project"
    assert (document.path, document.language.id, document.text) == ("src/a.py", "python", "x = 1\n")


def test_line_ends_stay_and_a_byte_order_mark_goes(tmp_path: Path) -> None:
    file = tmp_path / "a.ts"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    document, _ = open_document(file)
    assert document.text == "a\r\nb\r\n"
    assert document.language.id == "typescript"


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "large.py").write_bytes(b"x" * 100)
    with pytest.raises(PlaceError, match=r"cannot read .*missing\.py: "):
        open_document(tmp_path / "missing.py")
    with pytest.raises(PlaceError, match=r"cannot read "):
        open_document(tmp_path)
    with pytest.raises(PlaceError, match=r"cannot read "):
        open_document(Path("a\0b"))
    with pytest.raises(PlaceError, match=r"not UTF-8 text \(byte 5\)"):
        open_document(tmp_path / "latin.py")
    monkeypatch.setattr("server.places.MAX_FILE_BYTES", 99)
    with pytest.raises(PlaceError, match=r"has 100 bytes"):
        open_document(tmp_path / "large.py")
