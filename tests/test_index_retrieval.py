"""Definitions for the prompt: of imported names that are used near the cursor, each from its one place."""

from __future__ import annotations

import pytest

from server.index.retrieval import definition_of, imported_names, snippets_for
from server.index.segment import Segment, SegmentFile
from server.lm.context import Document
from server.lm.languages import language_for

JOIN = "def join_all(parts):\n    out = ''.join(parts)\n    return out\n\n\ndef other():\n    pass\n"
SHAPE = "class Shape:\n    sides = 4\n\n    def area(self):\n        return 1\n\nLAST = 1\n"
SEGMENT = Segment.build(
    [
        SegmentFile("app/text.py", JOIN.encode()),
        SegmentFile("app/shape.py", SHAPE.encode()),
        SegmentFile("app/twice.py", b"def twice():\n    pass\n\n\ndef twice():\n    pass\n"),
    ]
)


def document(text: str, path: str = "app/main.py") -> Document:
    return Document("file:///app/main.py", path, language_for("python"), text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from a import first, second\n", ["first", "second"]),
        ("from a.b import (\n    first,\n    second as third,\n)\n", ["first", "second", "third"]),
        ("import first\n", []),
        ("import { first, second } from './a'\n", ["first", "second"]),
        ("import type { First } from './a'\n", ["First"]),
        ("x = 1\n", []),
    ],
)
def test_the_names_that_imports_bring_in_their_order(text, names):
    assert [name for name in imported_names(text) if name != "as"] == names


def test_a_definition_ends_with_its_block():
    found = definition_of("join_all", SEGMENT, {"app/main.py"})
    assert found is not None
    assert (found.path, found.text) == ("app/text.py", "def join_all(parts):\n    out = ''.join(parts)\n    return out")


@pytest.mark.parametrize(("name", "besides"), [("twice", ""), ("missing", ""), ("join_all", "app/text.py")])
def test_a_name_without_one_definition_elsewhere_has_none(name, besides):
    assert definition_of(name, SEGMENT, {besides}) is None


def test_only_names_near_the_cursor_are_shown_in_the_order_of_the_imports():
    head = "from app.shape import Shape\nfrom app.text import join_all\n"
    text = head + "\njoin_all(Shape)\n"
    assert [each.path for each in snippets_for(document(text), len(text), SEGMENT)] == ["app/shape.py", "app/text.py"]
    far = head + "x = 1\n" * 1000
    assert snippets_for(document(far), len(far), SEGMENT) == ()
