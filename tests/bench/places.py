"""Cursors in held-out files, with what an editor would show around them; drawn the same way every time.

Four kinds. *cut*: the rest of the line is not written yet. *closed*: neither, but the editor has closed the brackets
and quotes of the line. *intact*: the cursor stands in a finished line. *block*: a body is not written yet.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.bench.heldout import SourceFile, draw_files, generator

Kind = Literal["cut", "closed", "intact", "block"]
KIND_SHARES: dict[Kind, float] = {"cut": 0.40, "block": 0.10, "closed": 0.25, "intact": 0.25}
LINE_LENGTHS = range(4, 161)  # without the indentation
_TYPESCRIPT_SHARE = 0.15
_TRIES = 200  # for a place of the wanted kind in one file

_CLOSER_OF = {"(": ")", "[": "]", "{": "}"}
_QUOTES = "\"'`"
_BLOCK_HEAD = {
    "python": re.compile(r"[ \t]*(?:async[ \t]+)?(?:def|class|if|elif|else|for|while|with|try|except|finally)\b.*:$"),
    "typescript": re.compile(r".*[\w)>] *(?:=> *)?\{$"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A cursor between two texts, and what stood there."""

    file: SourceFile
    kind: Kind
    before: str
    after: str
    target: str  # what was cut, up to the end of its first line; empty where nothing was

    @property
    def document(self) -> str:
        return self.before + self.after


def draw(files: Sequence[SourceFile], n: int, key: str) -> list[Place]:
    """`n` places, ordered by file, fewer in TypeScript than in Python."""
    rng = generator(key, "places")
    by_language = {name: [file for file in files if file.language_id == name] for name in _BLOCK_HEAD}
    n_typescript = round(n * _TYPESCRIPT_SHARE) if by_language["typescript"] else 0
    counts = {"typescript": n_typescript, "python": n - n_typescript if by_language["python"] else 0}
    places = []
    for language_id, of_language in by_language.items():
        drawn = draw_files(of_language, counts[language_id], f"{key}/{language_id}") if of_language else []
        kinds = rng.choices(list(KIND_SHARES), list(KIND_SHARES.values()), k=len(drawn))
        places += [_place_in(file, kind, rng) for file, kind in zip(drawn, kinds, strict=True)]
    return sorted(places, key=lambda place: (place.file.path, len(place.before), place.kind))


def _place_in(file: SourceFile, kind: Kind, rng: random.Random) -> Place:
    """A place of the kind in the file; a cut where the file has none."""
    lines = file.text.split("\n")
    for _ in range(_TRIES):
        at = rng.randrange(len(lines))
        found = block_at(file, lines, at) if kind == "block" else _in_line(file, lines, at, kind, rng)
        if found is not None:
            return found
    tries: Iterator[Place | None] = (_in_line(file, lines, at, "cut", rng) for at in range(len(lines)))
    return next(place for place in tries if place is not None)


def _in_line(file: SourceFile, lines: list[str], at: int, kind: Kind, rng: random.Random) -> Place | None:
    """A cursor in a line, None where the line or the drawn column does not suit the kind."""
    line = lines[at]
    indentation = len(line) - len(line.lstrip())
    if len(line) - indentation not in LINE_LENGTHS or line.lstrip().startswith(("#", "//", "*", "/*")):
        return None
    column = rng.randrange(indentation, len(line))
    rest = line[column:]
    if kind == "closed":
        closers, target = closed_tail(line[:column], rest)
        if not closers or not target or '"""' in line or "'''" in line:
            return None
        return _place(file, "closed", lines, at, line[:column], closers, target)
    if kind == "intact":
        # In front of a word nothing is offered while somebody types.
        in_word = rest[0].isalnum() or rest[0] == "_"
        return None if in_word else _place(file, "intact", lines, at, line[:column], rest, "")
    return _place(file, "cut", lines, at, line[:column], "", rest)


def _place(file: SourceFile, kind: Kind, lines: list[str], at: int, head: str, tail: str, target: str) -> Place:
    before = "\n".join([*lines[:at], head])
    after = "\n".join([tail, *lines[at + 1 :]])
    return Place(file, kind, before, after, target)


def closed_tail(head: str, rest: str) -> tuple[str, str]:
    """What an editor has closed behind `head`, and how much of `rest` stands before that; empty when nothing is."""
    open_now = _open_after(head, "")
    closers = "".join(_CLOSER_OF.get(opener, opener) for opener in reversed(open_now))
    if not closers:
        return "", ""
    for end in range(1, len(rest) + 1):
        if len(_open_after(rest[:end], open_now)) < len(open_now):
            return closers, rest[: end - 1]
    return closers, rest


def _open_after(text: str, open_now: str) -> str:
    """The brackets and the quote that are open after `text`, in the order they were opened."""
    escaped = False
    for character in text:
        in_string = open_now[-1:] if open_now[-1:] in tuple(_QUOTES) else ""
        if escaped:
            escaped = False
        elif in_string:
            escaped = character == "\\"
            open_now = open_now[:-1] if character == in_string else open_now
        elif character in _QUOTES or character in _CLOSER_OF:
            open_now += character
        elif open_now and character == _CLOSER_OF.get(open_now[-1]):
            open_now = open_now[:-1]
    return open_now


def block_at(file: SourceFile, lines: list[str], at: int) -> Place | None:
    """The cursor where the body under the head in line `at` belongs, with the body taken away; None for no head."""
    head = lines[at]
    if not _BLOCK_HEAD[file.language_id].fullmatch(head):
        return None
    depth = len(head) - len(head.lstrip())
    end = at + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > depth):
        end += 1
    body = [line for line in lines[at + 1 : end] if line.strip()]
    is_closed = file.language_id == "python" or (end < len(lines) and lines[end].lstrip().startswith("}"))
    if not body or not is_closed:
        return None
    while not lines[end - 1].strip():
        end -= 1
    indentation = body[0][: len(body[0]) - len(body[0].lstrip())]
    before = "\n".join([*lines[: at + 1], indentation])
    return Place(file, "block", before, "\n".join(["", *lines[end:]]), body[0].strip())
