"""The cursor measurement counts what the checker says, and an oracle and a silent server score as they must."""

from __future__ import annotations

from tests.bench.cursors import Answer, drawn, judged, rows
from tests.bench.heldout import SourceFile
from tests.bench.places import Place, draw
from tests.bench.suggestion import Item
from tests.bench.table import Row

TEXT = '''def read(path, mode="r"):
    """Reads a file."""
    with open(path, mode) as file:
        text = file.read()
        print("read", len(text))
    return text.strip()


class Reader:
    def __init__(self, names):
        self.names = list(names)
'''
FILE = SourceFile("fabric/read.py", "python", TEXT)
PLACES = draw([FILE], 120, "test")


def item(place: Place, text: str) -> Item:
    return Item(text, len(place.before), len(place.before))


def by_name(answers: list[Answer]) -> dict[str, Row]:
    return {row.what: row for row in rows(answers)}


def test_an_oracle_is_always_right_and_sound() -> None:
    answers = [judged(place, item(place, place.target) if place.target else None) for place in PLACES]
    found = by_name(answers)
    assert found["first line exactly as it was"].value == 100
    assert found["  of those offered"].value == 100
    assert found["  intact"].value == 0
    assert found["  cut"].value == 100
    # The first line of a body that is taken away as a whole may well lack the rest of its statement.
    wrong = [drawn(answer) for answer in answers if not answer.judgement.is_sound and answer.place.kind != "block"]
    assert not wrong
    assert not found["repeat what follows"].is_missed


def test_a_silent_server_is_never_wrong() -> None:
    found = by_name([judged(place, None) for place in PLACES])
    assert found["cursors with an item"].value == 0
    assert found["first line exactly as it was"].value == 0
    assert found["characters an item"].value is None
    assert not any(row.is_missed for row in found.values())


def test_the_answers_of_other_cursors_are_wrong() -> None:
    places = [place for place in PLACES if place.kind == "cut"]
    answers = [judged(place, item(place, other.target)) for place, other in zip(places, places[7:], strict=False)]
    found = by_name(answers)
    assert found["first line exactly as it was"].value < 10
    assert found["add a syntax error"].is_missed


def test_only_the_first_line_counts_and_what_is_typed_does_not() -> None:
    place = Place(FILE, "cut", "x = na", "\n", "me.read()")
    assert judged(place, Item("me.read()\ny = 2", 6, 6)).is_exact
    assert judged(place, Item("name.read()", 4, 6)).is_exact
    assert not judged(place, Item("me.rea", 6, 6)).is_exact


def test_a_violation_is_drawn_with_its_cursor() -> None:
    place = Place(FILE, "intact", "a = 1\nprint(", "b)\nc = 2\n", "")
    text = drawn(judged(place, item(place, "b")))
    assert text == (
        "fabric/read.py:2 (intact): it ends with 'b', which follows\n  | a = 1\n  | print(⟦b⟧b)\n  | c = 2\n  | "
    )
