"""Places in held-out files where a person would be typing, drawn by hash: the same files and seed, the same places."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["next_line", "mid_line", "api_line"]
KINDS: tuple[Kind, ...] = ("next_line", "mid_line", "api_line")
MIN_TARGET, MAX_TARGET = 4, 120  # characters
COMMENTS = ("#", "//", "/*", "*", "--", '"""', "'''")
_WORD = re.compile(r"[A-Za-z_]\w{2,}")


class Source(Protocol):
    """A file that points are drawn from."""

    @property
    def path(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def language_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Point:
    """A cursor at the line's end as typed so far, and the rest of the line, which is not in the document."""

    path: str
    language_id: str
    kind: Kind
    line: int
    before: str
    target: str
    after: str


def draw(files: Sequence[Source], n_a_kind: int, seed: int) -> list[Point]:
    """At most `n_a_kind` points of each kind; more are a superset of fewer."""
    found: dict[Kind, list[_Place]] = {kind: [] for kind in KINDS}
    for number, file in enumerate(files):
        places = list(_places_in(file, number, seed))
        for kind in KINDS:
            here = (place for place in places if place.kind == kind)
            found[kind] = heapq.nsmallest(n_a_kind, [*found[kind], *here], key=lambda place: place.drawn)
    return [_point(files[place.file], place) for kind in KINDS for place in found[kind]]


@dataclass(frozen=True, slots=True)
class _Place:
    """A point without its text: a file has as many as three for each line."""

    file: int  # number
    kind: Kind
    line: int
    start: int  # characters before the cursor
    end: int  # characters before the line's end
    drawn: bytes


def _places_in(file: Source, number_of_file: int, seed: int) -> Iterator[_Place]:
    text = _text(file)
    words = _WORD.findall(text)
    once = {word for word in set(words) if words.count(word) == 1} if len(words) < 3_000 else _once(words)
    start = 0
    for number, line in enumerate(text.split("\n"), 1):
        first, end = len(line) - len(line.lstrip()), len(line.rstrip())
        if end - first >= MIN_TARGET and not line[first:].startswith(COMMENTS):
            middle = hashlib.sha256(f"{seed}/{file.path}:{number}".encode()).digest()[0]
            api = next((m.start() for m in _WORD.finditer(line) if m[0] in once and m.start() > first), None)
            cuts: dict[Kind, int | None] = {
                "next_line": first,
                "mid_line": first + 1 + middle * (end - first - 1) // 256,
                "api_line": api,
            }
            for kind, cut in cuts.items():
                if cut is not None and MIN_TARGET <= end - cut <= MAX_TARGET:
                    drawn = hashlib.sha256(f"{seed}/{kind}/{file.path}:{number}".encode()).digest()
                    yield _Place(number_of_file, kind, number, start + cut, start + end, drawn)
        start += len(line) + 1


def _point(file: Source, place: _Place) -> Point:
    text = _text(file)
    line_end = text.find("\n", place.end)
    after = text[line_end:] if line_end >= 0 else ""
    before, target = text[: place.start], text[place.start : place.end]
    return Point(file.path, file.language_id, place.kind, place.line, before, target, after)


def _text(file: Source) -> str:
    return file.text.replace("\r\n", "\n")


def _once(words: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    again: set[str] = set()
    for word in words:
        (again if word in seen else seen).add(word)
    return seen - again
