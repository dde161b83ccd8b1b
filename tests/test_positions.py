"""Positions and edits: what an editor means, in each encoding, whatever the text holds."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from lsprotocol import types
from pygls.workspace import Workspace

from server.lsp.documents import Documents, OpenDocument
from server.lsp.positions import PositionEncoding, TextBuffer

ENCODINGS: tuple[PositionEncoding, ...] = ("utf-8", "utf-16", "utf-32")
URI = "file:///work/module.py"
CODEC = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
UNIT_BYTES = {"utf-8": 1, "utf-16": 2, "utf-32": 4}


def documents(encoding: PositionEncoding, *roots: str) -> Documents:
    folders = [types.WorkspaceFolder(uri=root, name=root) for root in roots]
    return Documents(Workspace(None, workspace_folders=folders, position_encoding=encoding))


def opened(text: str, encoding: PositionEncoding) -> tuple[Documents, OpenDocument]:
    store = documents(encoding)
    store.put_text_document(types.TextDocumentItem(uri=URI, language_id="python", version=1, text=text))
    document = store.find(URI)
    assert document is not None
    return store, document


def change(store: Documents, start: tuple[int, int], end: tuple[int, int], text: str, version: int = 2) -> None:
    first = types.Position(line=start[0], character=start[1])
    last = types.Position(line=end[0], character=end[1])
    store.update_text_document(
        types.VersionedTextDocumentIdentifier(uri=URI, version=version),
        types.TextDocumentContentChangePartial(range=types.Range(start=first, end=last), text=text),
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "text, line, character, offset",
    [
        ("", 0, 0, 0),
        ("abc", 0, 10, 3),  # past the end of a last line without a line end
        ("abc\n", 0, 10, 3),
        ("abc\r\n", 0, 10, 3),  # never between \r and \n
        ("abc\r\nd", 0, 4, 3),
        ("a\r\nb\rc\n", 2, 0, 5),
        ("x\n", 1, 0, 2),  # the last line is empty, but it is there
        ("😋\n", 1, 0, 2),
        ("a\x0cb\nc\n", 1, 0, 4),  # neither a form feed nor the line separators of Unicode end a line
        ("a\x0b\x1c\x1d\x1e\x85\u2028\u2029b\nc", 1, 1, 11),
        ("a\n\rb", 2, 1, 4),
        ("x\n", 2, 0, None),
        ("", 1, 0, None),
        ("x\n", 9, 9, None),
    ],
)
def test_a_position_means_the_same_offset_in_every_encoding(
    text: str, line: int, character: int, offset: int | None, encoding: PositionEncoding
) -> None:
    assert TextBuffer(text, encoding).offset_at(line, character) == offset


@pytest.mark.parametrize(
    "encoding, characters",
    [("utf-8", [0, 1, 3, 6, 10, 11]), ("utf-16", [0, 1, 2, 3, 5, 6]), ("utf-32", [0, 1, 2, 3, 4, 5])],
)
def test_columns_count_units_of_the_encoding(encoding: PositionEncoding, characters: list[int]) -> None:
    buffer = TextBuffer("ignored\nxé€😋y", encoding)
    for index, character in enumerate(characters):
        assert buffer.offset_at(1, character) == 8 + index
        assert buffer.position_at(8 + index) == (1, character)


@pytest.mark.parametrize("encoding, character", [("utf-8", 1), ("utf-8", 3), ("utf-16", 1)])
def test_a_position_inside_a_character_is_its_start(encoding: PositionEncoding, character: int) -> None:
    assert TextBuffer("😋x", encoding).offset_at(0, character) == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "text, start, end, new, after",
    [
        ("", (0, 0), (0, 0), "hi", "hi"),
        ("x\n", (1, 0), (1, 0), "y", "x\ny"),
        ("a\nb\nc", (0, 1), (2, 0), "", "ac"),
        ("a\x0cb\nc\n", (1, 0), (1, 1), "Z", "a\x0cb\nZ\n"),
        ("a\u2028b\nc\n", (1, 0), (1, 1), "Z", "a\u2028b\nZ\n"),
        ("abc\n", (5, 0), (9, 9), "d", "abc\nd"),  # behind the text is its end
        ("abc\n", (0, 2), (0, 1), "-", "a-c\n"),  # a range given backwards
        ("abc\r\n", (0, 7), (1, 0), "", "abc"),
    ],
)
def test_an_edit_changes_what_the_editor_means(
    text: str, start: tuple[int, int], end: tuple[int, int], new: str, after: str, encoding: PositionEncoding
) -> None:
    store, document = opened(text, encoding)
    change(store, start, end, new)
    assert document.text == after
    assert document.version == 2


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_line_end_put_together_from_two_edits_is_one(encoding: PositionEncoding) -> None:
    buffer = TextBuffer("a\rb", encoding)
    assert buffer.n_lines == 2
    buffer.edit((1, 0), (1, 0), "\n")
    assert (buffer.text, buffer.n_lines) == ("a\r\nb", 2)
    assert buffer.offset_at(1, 0) == 3
    buffer.edit((0, 1), (1, 0), "\r")
    assert (buffer.text, buffer.n_lines) == ("a\rb", 2)
    buffer.edit((1, 0), (1, 1), "x\n")
    buffer.edit((1, 0), (1, 1), "")
    assert (buffer.text, buffer.n_lines) == ("a\r\n", 2)


def test_a_surrogate_pair_may_be_split_and_joined_where_the_editor_counts_utf_16() -> None:
    buffer = TextBuffer("x😀y", "utf-16")
    buffer.edit((0, 2), (0, 3), "\ude01")  # an editor that sends only the half that differs
    assert buffer.text == "x😁y"
    buffer.edit((0, 2), (0, 2), "-")
    assert buffer.text == "x\ud83d-\ude01y"
    assert buffer.offset_at(0, 5) == 5
    buffer.edit((0, 2), (0, 3), "")
    assert buffer.text == "x😁y"


def test_a_change_to_a_document_that_is_not_open_is_ignored() -> None:
    store = documents("utf-16")
    change(store, (0, 0), (0, 0), "x")
    assert store.find(URI) is None


def test_a_document_is_found_however_its_uri_is_escaped() -> None:
    store = documents("utf-16", "file:///work")
    uri = "file:///work/a%20b%5B1%5D.py"
    store.put_text_document(types.TextDocumentItem(uri=uri, language_id="python", version=1, text="x"))
    found = store.find("file:///work/a b[1].py")
    assert found is not None
    assert store.snapshot(found).path == "a b[1].py"


@pytest.mark.parametrize(
    "uri, path",
    [
        ("file:///work/app/src/a.py", "src/a.py"),  # of two folders that hold it, the inner one
        ("file:///work/lib/b.py", "lib/b.py"),
        ("file:///elsewhere/c.py", "/elsewhere/c.py"),
        ("untitled:Untitled-1", "Untitled-1"),
        ("vscode-notebook-cell:/work/n.ipynb#W0sZmlsZQ%3D%3D", "n.ipynb"),
        ('git:/work/lib/x.py?{"path":"/work/lib/x.py","ref":"a:1"}', "lib/x.py"),
        ("git:/work/lib/x%20y.py?%7B%22ref%22%3A1%7D", "lib/x y.py"),
        ("http://[", "http://["),
        ("nonsense", "nonsense"),
    ],
)
def test_paths_are_relative_to_the_workspace(uri: str, path: str) -> None:
    assert documents("utf-16", "file:///work", "file:///work/app").path_of(uri) == path


def test_a_file_that_is_not_open_is_read_where_that_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = documents("utf-16", tmp_path.as_uri())
    (tmp_path / "a b.py").write_bytes("é = 1\r\n".encode())
    found = store.read((tmp_path / "a b.py").as_uri())
    assert found is not None
    assert (found.text, found.language.id) == ("é = 1\r\n", "python")
    (tmp_path / "latin.py").write_bytes("é".encode("latin-1"))
    monkeypatch.setattr("server.lsp.documents.MAX_READ_BYTES", 10)
    (tmp_path / "large.py").write_text("x" * 11)
    for name in ("latin.py", "large.py", "missing.py", ""):
        assert store.read((tmp_path / name).as_uri()) is None
    for uri in ("untitled:Untitled-1", "file:///%00", "nonsense", ""):
        assert store.read(uri) is None


def test_a_file_that_is_not_open_is_read_only_inside_the_workspace(tmp_path: Path) -> None:
    folder, outside = tmp_path / "work", tmp_path / "outside.py"
    folder.mkdir()
    outside.write_text("x = 1\n")
    (folder / "inside.py").write_text("x = 1\n")
    (folder / "link.py").symlink_to(outside)
    store = documents("utf-16", folder.as_uri())
    assert store.read((folder / "inside.py").as_uri()) is not None
    for uri in (outside.as_uri(), f"{folder.as_uri()}/../outside.py", (folder / "link.py").as_uri()):
        assert store.read(uri) is None
    assert documents("utf-16").read((folder / "inside.py").as_uri()) is None


# --- the property: any sequence of edits leaves the text of a reference that shares no line with the server -----------

PIECES = [
    "a",
    "b",
    " ",
    "é",
    "€",
    "😋",
    "𝒳",
    "\ud83d",
    "\ude0b",
    "\r",
    "\n",
    "\r\n",
    "\x0c",
    "\u2028",
    "\x85",
    "\u0301",
]
WITHOUT_SURROGATES = [piece for piece in PIECES if not "\ud800" <= piece <= "\udfff"]


class Reference:
    """A text as a sequence of code units, cut into lines by looking at one unit after the other."""

    def __init__(self, text: str, encoding: PositionEncoding) -> None:
        self.encoding = encoding
        self.units = self.encoded(text)

    def encoded(self, text: str) -> list[bytes]:
        size = UNIT_BYTES[self.encoding]
        data = text.encode(CODEC[self.encoding], "surrogatepass")
        return [data[start : start + size] for start in range(0, len(data), size)]

    @property
    def text(self) -> str:
        return b"".join(self.units).decode(CODEC[self.encoding], "surrogatepass")

    def lines(self) -> list[tuple[int, int]]:
        """Start and end of each line in units, without its line end."""
        carriage_return, line_feed = self.encoded("\r")[0], self.encoded("\n")[0]
        lines, start, at = [], 0, 0
        while at < len(self.units):
            if self.units[at] in (carriage_return, line_feed):
                lines.append((start, at))
                two = self.units[at : at + 2] == [carriage_return, line_feed]
                start = at = at + (2 if two else 1)
            else:
                at += 1
        return [*lines, (start, len(self.units))]

    def unit_at(self, line: int, character: int) -> int:
        lines = self.lines()
        if line >= len(lines):
            return len(self.units)
        return min(lines[line][0] + character, lines[line][1])

    def random_position(self, rng: random.Random) -> tuple[int, int]:
        lines = self.lines()
        line = rng.randrange(len(lines) + (rng.random() < 0.05))
        if line == len(lines):
            return line, rng.randrange(4)
        start, end = lines[line]
        stops = [unit for unit in range(start, end + 1) if self.encoding != "utf-8" or self.is_boundary(unit)]
        stop = rng.choice(stops)
        return line, stop - start + (rng.randrange(5) if stop == end else 0)

    def is_boundary(self, unit: int) -> bool:
        return unit == len(self.units) or not 0x80 <= self.units[unit][0] < 0xC0

    def edit(self, start: tuple[int, int], end: tuple[int, int], new: str) -> None:
        first, last = sorted((start, end))
        self.units[self.unit_at(*first) : self.unit_at(*last)] = self.encoded(new)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ten_thousand_edit_sequences_leave_the_text_of_the_reference(
    encoding: PositionEncoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.lsp.positions.PIECE_CHARACTERS", 4)  # so that short texts lie in several pieces
    # Only utf-16 has surrogates as units of its own; a client that counts otherwise has no half of a character to send.
    pieces = PIECES if encoding == "utf-16" else WITHOUT_SURROGATES
    for seed in range(10_000):
        rng = random.Random(seed)
        text = "".join(rng.choices(pieces, k=rng.randrange(12)))
        reference = Reference(text, encoding)
        store, document = opened(text, encoding)
        for version in range(2, 2 + rng.randint(1, 5)):
            start, end = reference.random_position(rng), reference.random_position(rng)
            new = "".join(rng.choices(pieces, k=rng.choice((0, 0, 1, 1, 2, 5))))
            change(store, start, end, new, version)
            reference.edit(start, end, new)
            assert document.text == reference.text, f"seed {seed}, version {version}"
        line_starts = [position_of_line(document, line) for line in range(len(reference.lines()))]
        expected = [
            len(b"".join(reference.units[:start]).decode(CODEC[encoding], "surrogatepass"))
            for start, _ in reference.lines()
        ]
        assert line_starts == expected, f"seed {seed}: the line index"


def position_of_line(document: OpenDocument, line: int) -> int | None:
    offset = document.offset_at(types.Position(line=line, character=0))
    if offset is not None:
        assert document.range_of(offset, offset).start == types.Position(line=line, character=0)
    return offset


# --- large texts ------------------------------------------------------------------------------------------------------


def seconds(work: object, times: int = 5) -> float:
    """The fastest of several runs: the others were disturbed."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()  # type: ignore[operator]
        taken.append(time.perf_counter() - started)
    return min(taken)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("line", ["x = call(argument)  # comment\n", "x = 'é😋'  # comment\n"])
def test_typing_in_a_ten_megabyte_file_does_not_stall(encoding: PositionEncoding, line: str) -> None:
    buffer = TextBuffer(line * (10_000_000 // len(line.encode())), encoding)
    middle = buffer.n_lines // 2

    def type_one() -> None:
        behind = buffer.edit((middle, 4), (middle, 4), "y")
        assert buffer.position_at(behind) == (middle, 5)
        assert buffer.text  # put together, as for a snapshot

    # Milliseconds on a quiet machine; the bound tells a stall from a slow machine, speed is for the bench.
    assert seconds(type_one) < 2


def test_replacing_a_word_in_a_thousand_places_of_a_large_file_does_not_stall() -> None:
    buffer = TextBuffer("x = call(argument)  # comment\n" * 300_000, "utf-16")

    def replace_all() -> None:
        for line in range(299_000, 0, -299):
            buffer.edit((line, 4), (line, 8), "name")

    assert seconds(replace_all, times=3) < 10


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_line_of_one_megabyte_does_not_stall(encoding: PositionEncoding) -> None:
    buffer = TextBuffer("é😋" + "x" * 1_000_000 + "\n", encoding)
    assert seconds(lambda: buffer.edit((0, 500_000), (0, 500_001), "y")) < 2
    assert seconds(lambda: buffer.position_at(900_000)) < 2
