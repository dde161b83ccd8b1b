"""Places in held-out files where a person would be typing, drawn by hash: the same files and seed, the same places."""

from __future__ import annotations

import hashlib
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
    found: dict[Kind, list[Point]] = {kind: [] for kind in KINDS}
    for file in files:
        for point in _points_in(file, seed):
            found[point.kind].append(point)
    return [point for kind in KINDS for point in sorted(found[kind], key=lambda each: _drawn(each, seed))[:n_a_kind]]


def _drawn(point: Point, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{point.kind}/{point.path}:{point.line}".encode()).digest()


def _points_in(file: Source, seed: int) -> Iterator[Point]:
    text = file.text.replace("\r\n", "\n")
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
                    at = start + cut
                    after = text[start + len(line) :]
                    yield Point(file.path, file.language_id, kind, number, text[:at], line[cut:end], after)
        start += len(line) + 1


def _once(words: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    again: set[str] = set()
    for word in words:
        (again if word in seen else seen).add(word)
    return seen - again
