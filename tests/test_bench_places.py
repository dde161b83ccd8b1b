"""Cursors for the measurements are drawn from held-out files, the same ones every time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.bench.heldout import SourceFile, draw_offsets, files_of
from tests.bench.places import Place, block_at, closed_tail, draw
from tests.bench.repositories import HELD_OUT

PYTHON = '''import os


def read(path, mode="r"):
    """Reads."""
    with open(path, mode) as file:
        text = file.read()
        print("read", text)

    return text.strip()


class Reader:
    def __init__(self):
        self.names = [1, 2, 3]
'''

TYPESCRIPT = """export class Subject {
  next(value: number) {
    this.items.forEach((item) => item.next(value));
    return [1, 2];
  }
}
"""

FILES = [
    SourceFile("fabric/read.py", "python", PYTHON),
    SourceFile("rxjs/subject.ts", "typescript", TYPESCRIPT),
]


@pytest.fixture(scope="module")
def places() -> list[Place]:
    return draw(FILES, 400, "test")


def test_the_same_places_are_drawn_again(places: list[Place]) -> None:
    assert draw(FILES, 400, "test") == places
    assert draw(FILES, 400, "other") != places


def test_there_are_all_kinds_in_both_languages(places: list[Place]) -> None:
    assert len(places) == 400
    kinds = Counter((place.file.language_id, place.kind) for place in places)
    assert min(kinds.values()) >= 2 and len(kinds) == 8
    assert sum(n for (language_id, _), n in kinds.items() if language_id == "typescript") == 60


def test_what_was_cut_gives_the_file_back(places: list[Place]) -> None:
    for place in places:
        if place.kind == "cut":
            assert place.before + place.target + place.after == place.file.text
        elif place.kind == "intact":
            assert place.document == place.file.text
            assert not place.after[0].isalnum()


def test_an_unwritten_body_leaves_its_head_and_what_follows(places: list[Place]) -> None:
    place = block_at(FILES[0], PYTHON.split("\n"), 5)
    assert place is not None
    assert place.before.endswith("    with open(path, mode) as file:\n        ")
    assert place.after.startswith("\n\n    return text.strip()\n")
    assert place.target == "text = file.read()"


def test_an_unwritten_body_leaves_the_closing_brace() -> None:
    place = block_at(FILES[1], TYPESCRIPT.split("\n"), 1)
    assert place is not None
    assert (place.before, place.after) == (
        "export class Subject {\n  next(value: number) {\n    ",
        "\n  }\n}\n",
    )


@pytest.mark.parametrize("line", ["import os", "", "        text = file.read()", "def read(path,"])
def test_other_lines_are_no_heads(line: str) -> None:
    assert block_at(FILES[0], [line, "        pass"], 0) is None


@pytest.mark.parametrize("head, rest, closers, target", [
    ("f(", "a, b)", ")", "a, b"),
    ("f(a, [", "1, 2], c)", "])", "1, 2"),
    ("f(a, [1], ", "c):", ")", "c"),
    ('f("', 'a)b", c)', '")', "a)b"),
    (r'f("\"', 'a")', '")', "a"),
    ("f(", "a,", ")", "a,"),  # closed on another line
    ("f()", " + 1", "", ""),
    ("x = ", "1", "", ""),
])  # fmt: skip
def test_an_editor_closes_what_the_line_has_opened(head: str, rest: str, closers: str, target: str) -> None:
    assert closed_tail(head, rest) == (closers, target)


def test_offsets_are_anywhere_and_in_order() -> None:
    drawn = draw_offsets(FILES, 300, "test")
    assert drawn == sorted(drawn, key=lambda place: (place[0].path, place[1]))
    assert all(0 <= offset <= len(file.text) for file, offset in drawn)
    assert len({offset for file, offset in drawn if file is FILES[0]}) > 100


def test_only_readable_sources_are_taken(tmp_path: Path) -> None:
    text = "x = 1\n" * 40
    for name, content in {
        "a.py": text.encode(),
        "sub/b.ts": text.encode(),
        "short.py": b"x = 1\n",
        "latin.py": text.encode() + b"\xe4",
        "dos.py": text.replace("\n", "\r\n").encode(),
        "thing_pb2.py": text.encode(),
        "types.d.ts": text.encode(),
        "notes.md": text.encode(),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    found = files_of({HELD_OUT[0]: tmp_path})
    assert [(file.path, file.language_id) for file in found] == [
        ("tweepy/a.py", "python"),
        ("tweepy/sub/b.ts", "typescript"),
    ]
