"""The window of another file that holds the rare words of the lines above the cursor."""

from __future__ import annotations

import pytest

from server.index.retrieval import snippets_for
from server.index.segment import Segment, SegmentFile
from server.index.similar import BLOCK_LINES, similar_window
from server.lm.context import Document
from server.lm.languages import language_for

FILLER = "".join(f"value_{n} = other_{n} + {n}\n" for n in range(60))
PLAY = """def play_uri(self, uri):
    device = self.group.coordinator
    device.transport.set_uri(uri)
    device.transport.play()
    return device.transport.state
"""
FILES = [
    SegmentFile("app/filler.py", FILLER.encode()),
    SegmentFile("app/play.py", (FILLER[:600] + PLAY + FILLER[600:1200]).encode()),
    SegmentFile("app/main.py", PLAY.encode()),
]
SEGMENT = Segment.build(FILES)
ABOVE = """import app


class Player:
    def play_queue(self, uri):
        device = self.group.coordinator
        device.transport.set_uri(uri)
        # on to the queue
"""


def document(text: str) -> Document:
    return Document("file:///app/main.py", "app/main.py", language_for("python"), text)


def test_the_window_with_the_rare_words_wins_and_shows_what_follows() -> None:
    found = similar_window(document(ABOVE), len(ABOVE), SEGMENT)
    assert found is not None
    assert found.snippet.path == "app/play.py"
    assert "device.transport.play()" in found.snippet.text and 0.2 < found.share <= 1
    assert not found.snippet.text.startswith(" ") or found.snippet.text.splitlines()[0] in PLAY  # whole lines


def test_the_document_itself_and_files_that_are_gone_are_no_windows() -> None:
    found = similar_window(document(ABOVE), len(ABOVE), SEGMENT, gone={"app/play.py"})
    assert found is None or found.snippet.path == "app/filler.py"


def test_it_stays_while_a_block_of_lines_is_typed() -> None:
    begun = ABOVE + "        device.tr"
    assert ABOVE.count("\n") == BLOCK_LINES
    assert similar_window(document(begun), len(begun), SEGMENT) == similar_window(document(ABOVE), len(ABOVE), SEGMENT)


@pytest.mark.parametrize("text", ["", "x = 1\n", "\n" * 20])
def test_where_nothing_is_known_there_is_none(text: str) -> None:
    assert similar_window(document(text), len(text), SEGMENT) is None
    assert similar_window(document(ABOVE), len(ABOVE), Segment.build([])) is None


def test_it_stands_behind_the_definitions() -> None:
    assert [each.path for each in snippets_for(document(ABOVE), len(ABOVE), SEGMENT)] == ["app/play.py"]
    far = "first = second\n" * BLOCK_LINES
    assert snippets_for(document(far), len(far), SEGMENT) == ()
