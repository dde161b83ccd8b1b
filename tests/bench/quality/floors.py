"""What copying alone would answer: the rest of the line behind the longest match of the text before the cursor.

The longest end of the text before the cursor that stands somewhere else as well, with something behind it in its line,
is looked up, byte by byte and at least three bytes of it; what most often stands behind it is the answer, of equals
what was written last before the cursor. From the file alone (its text before and after the cursor), or from that and
the repository's other files on disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np

MIN_MATCH_BYTES = 3
MAX_MATCH_BYTES = 2_000
# Short matches stand in thousands of places; the most frequent continuation of so many is that of all.
_MAX_PLACES = 1_000


class Source(Protocol):
    """A text to copy from."""

    def continuations(self, pattern: bytes) -> Iterator[bytes]:
        """What stands behind `pattern` up to the end of its line, where that is more than blanks."""
        ...


class Text:
    """One text, searched from its end to its beginning."""

    def __init__(self, text: str) -> None:
        self._text = text.encode("utf-8", "replace")

    def continuations(self, pattern: bytes) -> Iterator[bytes]:
        at = self._text.rfind(pattern)
        while at >= 0:
            yield from _rest(self._text, at + len(pattern))
            # Places may overlap: "aa" stands twice in "aaa".
            at = self._text.rfind(pattern, 0, at + len(pattern) - 1)


class Corpus:
    """Many texts in a suffix array."""

    def __init__(self, texts: Iterable[str]) -> None:
        from pydivsufsort import divsufsort

        # A NUL ends each text: no pattern holds one, so no match reaches into the next.
        self._text = b"".join(text.encode("utf-8", "replace") + b"\n\0" for text in texts)
        # A copy, as the library refuses what cannot be written to.
        characters = np.frombuffer(self._text, dtype=np.uint8).copy()
        self._order = divsufsort(characters) if self._text else np.empty(0, np.int32)

    def continuations(self, pattern: bytes) -> Iterator[bytes]:
        at = self._first(pattern)
        while at < len(self._order) and self._text.startswith(pattern, place := int(self._order[at])):
            yield from _rest(self._text, place + len(pattern))
            at += 1

    def _first(self, pattern: bytes) -> int:
        """The rank of the first suffix that is not before `pattern`."""
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            place = int(self._order[middle])
            if self._text[place : place + len(pattern)] < pattern:
                low = middle + 1
            else:
                high = middle
        return low


def _rest(text: bytes, start: int) -> Iterator[bytes]:
    """The rest of the line, unless it is blank."""
    end = text.find(b"\n", start)
    rest = text[start : end if end >= 0 else len(text)].rstrip()
    if rest.strip():
        yield rest


def copied(before: str, sources: Sequence[Source]) -> str:
    """The answer of a look-up in `sources`, those to be preferred first; empty when nothing matches."""
    text = before[-MAX_MATCH_BYTES:].encode("utf-8", "replace")

    def stands_elsewhere(length: int) -> bool:
        pattern = text[len(text) - length :]
        return any(True for source in sources for _ in islice(source.continuations(pattern), 1))

    # What is found of a length is found of every shorter one.
    low, high = MIN_MATCH_BYTES - 1, min(len(text), MAX_MATCH_BYTES)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if stands_elsewhere(middle) else (low, middle - 1)
    if low < MIN_MATCH_BYTES:
        return ""
    pattern = text[len(text) - low :]
    found = Counter(rest for source in sources for rest in islice(source.continuations(pattern), _MAX_PLACES))
    # Of equally frequent ones the counter names the one it has seen first.
    return found.most_common(1)[0][0].decode("utf-8", "replace") if found else ""


def own_sources(before: str, after: str) -> list[Source]:
    """The open file's text before the cursor, and after it."""
    return [Text(before), Text(after)]
