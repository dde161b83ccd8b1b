"""A searchable body of text: which places end like the text before the cursor, and what follows there.

The files stand one behind the other, reversed, under a suffix array: the suffixes of the reversed text are the pasts of
the text, so one binary search finds the place whose past agrees longest. Bytes, not tokens: the same code is cut into
other tokens where other text stands before it. Frozen once built; what changes is another segment.
"""

from __future__ import annotations

import json
import mmap
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from server.lm.errors import UserError

# A past that agrees this far says as much as one that agrees further.
MAX_MATCH_BYTES = 256
FORMAT = 1
TEXT_FILE, ARRAY_FILE, FILES_FILE = "text.bin", "sa.bin", "files.json"
BYTES_PER_BYTE = 5  # of source: the text, and an array of four bytes each
SEPARATOR = b"\0"  # between files; no text holds it


class SegmentError(UserError):
    """A stored segment cannot be read."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One file to be searched."""

    path: str  # relative to the root, parts separated by "/"
    text: bytes  # UTF-8 with "\\n" line ends


@dataclass(frozen=True, slots=True)
class Match:
    """The places whose past agrees with a text, as a range of the suffix array."""

    n_bytes: int  # of the past that agree
    first: int
    last: int  # behind the last

    @property
    def n_places(self) -> int:
        """How many there are."""
        return self.last - self.first


NO_MATCH = Match(0, 0, 0)


class Segment:
    """Files under a suffix array."""

    def __init__(self, reversed_text: bytes | mmap.mmap, order: memoryview, paths: Sequence[str], ends: Sequence[int]):
        self._text = reversed_text
        self._order = order  # int32: starts of the suffixes of the reversed text, in their order
        self.paths = tuple(paths)
        self._ends = list(ends)  # behind each file's last byte, in the text that is not reversed
        self._numbers = {path: number for number, path in enumerate(self.paths)}

    @classmethod
    def build(cls, files: Sequence[SegmentFile]) -> Segment:
        """The segment of these files; NUL bytes in them become spaces. ValueError beyond 2 GiB."""
        from pydivsufsort import divsufsort

        texts = [file.text.replace(SEPARATOR, b" ") for file in files]
        reversed_text = b"".join(part for text in texts for part in (text, SEPARATOR))[::-1]
        if len(reversed_text) >= 2**31:
            raise ValueError(f"a segment holds at most 2 GiB, not {len(reversed_text)} bytes")
        order = divsufsort(reversed_text).astype("int32").tobytes() if reversed_text else b""
        ends = accumulate(len(text) + 1 for text in texts)
        return cls(reversed_text, memoryview(order).cast("i"), [file.path for file in files], [end - 1 for end in ends])

    @classmethod
    def load(cls, folder: Path) -> Segment:
        """A stored segment, mapped into memory: nothing is read before it is needed. Raises SegmentError."""
        try:
            record = json.loads((folder / FILES_FILE).read_text(encoding="utf-8"))
            paths, ends, n_bytes = record["paths"], record["ends"], record["n_bytes"]
            if (record["format"], record["byte_order"]) != (FORMAT, sys.byteorder):
                raise ValueError(f"it has the format {record['format']}, {record['byte_order']}-endian")
            sizes = [(folder / name).stat().st_size for name in (TEXT_FILE, ARRAY_FILE)]
            if sizes != [n_bytes, 4 * n_bytes] or len(paths) != len(ends) or (ends[-1] + 1 if ends else 0) != n_bytes:
                raise ValueError(f"{sizes[0]} bytes of text, {sizes[1]} of order, {n_bytes} were written")
            if any(end <= before for before, end in pairwise(ends)):
                raise ValueError("its files overlap")
            if not n_bytes:
                return cls.build([])
            text, order = _mapped(folder / TEXT_FILE), _mapped(folder / ARRAY_FILE)
            return cls(text, memoryview(order).cast("i"), paths, ends)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SegmentError(f"cannot read the index in {folder}: {error}; it will be built anew") from error

    def save(self, folder: Path) -> None:
        """Writes the segment into an existing folder. Raises OSError."""
        (folder / TEXT_FILE).write_bytes(self._text)
        (folder / ARRAY_FILE).write_bytes(self._order)
        record = {
            "format": FORMAT,
            "byte_order": sys.byteorder,
            "n_bytes": self.n_bytes,
            "paths": self.paths,
            "ends": self._ends,
        }
        (folder / FILES_FILE).write_text(json.dumps(record), encoding="utf-8")

    @property
    def n_bytes(self) -> int:
        """Bytes of text, a separator for each file included."""
        return len(self._text)

    def longest(self, past: bytes) -> Match:
        """The places before which the longest end of `past` stands; `NO_MATCH` where not even its last byte does."""
        wanted = past[: -MAX_MATCH_BYTES - 1 : -1]
        at = bisect_left(self._order, wanted, key=lambda start: self._text[start : start + MAX_MATCH_BYTES])
        n_bytes = 0
        for neighbour in (at - 1, at):
            if 0 <= neighbour < len(self._order):
                start = self._order[neighbour]
                n_bytes = max(n_bytes, n_common(wanted, self._text[start : start + len(wanted)]))
        return self.agreeing(past, n_bytes, at)

    def agreeing(self, past: bytes, n_bytes: int, near: int | None = None) -> Match:
        """The places before which the last `n_bytes` of `past` stand; `near` is where the search found one."""
        if n_bytes <= 0:
            return NO_MATCH
        wanted = past[: -n_bytes - 1 : -1]

        def head(start: int) -> bytes:
            return self._text[start : start + n_bytes]

        first = bisect_left(self._order, wanted, hi=len(self._order) if near is None else near, key=head)
        last = bisect_right(self._order, wanted, lo=first if near is None else max(near, first), key=head)
        return Match(n_bytes, first, last) if last > first else NO_MATCH

    def shorter(self, past: bytes, match: Match) -> Match:
        """The places before which the next shorter end of `past` stands that more places agree with."""
        if match.n_bytes <= 1:
            return NO_MATCH
        wanted = past[: -match.n_bytes - 1 : -1]
        n_bytes = 0
        for neighbour in (match.first - 1, match.last):
            if 0 <= neighbour < len(self._order):
                start = self._order[neighbour]
                n_bytes = max(n_bytes, n_common(wanted, self._text[start : start + len(wanted)]))
        return self.agreeing(past, n_bytes, match.first)

    def places(self, match: Match, limit: int) -> Iterator[int]:
        """Offsets in the text, behind the past that agrees: all of them, or `limit` at even distances."""
        step = max(match.n_places / max(limit, 1), 1.0)
        for number in range(min(match.n_places, limit)):
            yield len(self._text) - self._order[match.first + int(number * step)]

    def following(self, place: int, n_bytes: int) -> bytes:
        """What stands at an offset, `n_bytes` at most, and never beyond the file's end."""
        behind = len(self._text) - place
        return self._text[max(behind - n_bytes, 0) : behind][::-1].split(SEPARATOR, 1)[0]

    def preceding(self, place: int, n_bytes: int) -> bytes:
        """What stands before an offset, `n_bytes` at most, and never before the file's start."""
        behind = len(self._text) - place
        return self._text[behind : behind + n_bytes].split(SEPARATOR, 1)[0][::-1]

    def end_of(self, number: int) -> int:
        """The offset behind the last byte of a file, by its number."""
        return self._ends[number]

    def file_at(self, place: int) -> int:
        """The number of the file, an index into `paths`, that an offset lies in."""
        return bisect_left(self._ends, place)

    def line_at(self, place: int) -> int:
        """The 1-based number of the line, in its file, that an offset lies in."""
        number = self.file_at(place)
        start = self._ends[number - 1] + 1 if number else 0
        n_total = len(self._text)
        return self._text[n_total - place : n_total - start].count(b"\n") + 1

    def number_of(self, path: str) -> int | None:
        """The number of the file with this path; None for one that is not in here."""
        return self._numbers.get(path)

    def text_of(self, number: int) -> bytes:
        """The text of a file by its number."""
        start = self._ends[number - 1] + 1 if number else 0
        return self._text[len(self._text) - self._ends[number] : len(self._text) - start][::-1]

    def files(self) -> Iterator[SegmentFile]:
        """The files that the segment was built of."""
        for number, path in enumerate(self.paths):
            yield SegmentFile(path, self.text_of(number))


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def n_common(one: bytes, other: bytes) -> int:
    """Length of the longest common head."""
    n_most = min(len(one), len(other))
    if one[:n_most] == other[:n_most]:
        return n_most
    low, high = 0, n_most  # `low` bytes agree, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle)
    return low
