"""Texts under edit: lines as the protocol counts them, and positions in utf-8, utf-16 or utf-32 units.

Only `\\n`, `\\r\\n` and `\\r` end a line; form feed, U+2028 and the other breaks of `str.splitlines` do not. An edit
copies one piece of the text, keeps the line index up to date instead of building it again, and has columns counted by
the interpreter's own codecs: a file of ten megabytes or a line of one megabyte costs milliseconds, and so does
replacing a word in a thousand places. Knows nothing of the protocol library.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Literal

PositionEncoding = Literal["utf-8", "utf-16", "utf-32"]

LINE_END = re.compile(r"\r\n?|\n")
SURROGATE = re.compile("[\ud800-\udfff]")
CONTINUATION_BYTES = bytes(range(0x80, 0xC0))
PIECE_CHARACTERS = 65_536


class Pieces:
    """A text in pieces, of which an edit copies one; the whole is put together when it is asked for."""

    def __init__(self, text: str) -> None:
        self._pieces = _cut(text)
        self._whole: str | None = text  # None since the last edit
        self._length = len(text)

    def __len__(self) -> int:
        return self._length

    @property
    def text(self) -> str:
        """The whole text."""
        if self._whole is None:
            self._whole = "".join(self._pieces)
        return self._whole

    def between(self, start: int, end: int) -> str:
        """The characters from `start` to `end`, offsets within the text."""
        if self._whole is not None:
            return self._whole[start:end]
        first, before = self._piece_at(start)
        last, before_last = self._piece_at(end)
        if first == last:
            return self._pieces[first][start - before : end - before]
        middle = self._pieces[first + 1 : last]
        return "".join((self._pieces[first][start - before :], *middle, self._pieces[last][: end - before_last]))

    def replace(self, start: int, end: int, new: str) -> None:
        """Puts `new` in the place of the characters from `start` to `end`."""
        first, before = self._piece_at(start)
        last, before_last = self._piece_at(end)
        changed = "".join((self._pieces[first][: start - before], new, self._pieces[last][end - before_last :]))
        self._pieces[first : last + 1] = _cut(changed)
        self._length += len(new) - (end - start)
        self._whole = None

    def _piece_at(self, offset: int) -> tuple[int, int]:
        """The number of a piece that holds `offset` or ends there, and the offset at which it starts."""
        start = 0
        for number, piece in enumerate(self._pieces):
            if offset <= start + len(piece):
                return number, start
            start += len(piece)
        raise IndexError(f"offset {offset} in a text of {self._length} characters")


def _cut(text: str) -> list[str]:
    """`text` in pieces, at least one; a piece may grow to twice the usual length before it is cut."""
    if len(text) <= 2 * PIECE_CHARACTERS:
        return [text]
    return [text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS)]


class LineIndex:
    """Offsets of the line starts of a text; there is always a last line, maybe empty.

    Entries from `_settled` on still lack `_shift`, so an edit touches only the entries between it and the edit before:
    typing in one place costs the same at the top and at the end of a long file.
    """

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in LINE_END.finditer(text))]
        self._settled = len(self._starts)
        self._shift = 0

    def __len__(self) -> int:
        return len(self._starts)

    def start(self, line: int) -> int:
        """Offset of the first character of `line`, which must exist."""
        return self._starts[line] + (self._shift if line >= self._settled else 0)

    def line_at(self, offset: int) -> int:
        """The line that holds `offset`."""
        if self._settled < len(self._starts) and offset >= self.start(self._settled):
            return bisect_right(self._starts, offset - self._shift, lo=self._settled) - 1
        return bisect_right(self._starts, offset, hi=self._settled) - 1

    def replace(self, first: int, last: int, starts: list[int], shift: int) -> None:
        """Puts `starts` in place of the lines `first` to `last` (exclusive) and moves all later lines by `shift`."""
        self._settle(last)
        self._starts[first:last] = starts
        self._settled = first + len(starts)
        self._shift = self._shift + shift if self._settled < len(self._starts) else 0

    def _settle(self, line: int) -> None:
        """Makes the entries before `line`, and only those, absolute."""
        low, high = sorted((line, self._settled))
        change = self._shift if line > self._settled else -self._shift
        if change:
            self._starts[low:high] = [start + change for start in self._starts[low:high]]
        self._settled = line


class TextBuffer:
    """A text that is edited at protocol positions.

    With utf-16 the text is a sequence of 16-bit units: an edit may split a surrogate pair or put one together, as it
    does in the editor. In the other encodings a position inside a character means the start of that character.
    """

    def __init__(self, text: str, encoding: PositionEncoding) -> None:
        self.encoding = encoding
        self._pieces = Pieces(_joined(text) if encoding == "utf-16" else text)
        self._lines = LineIndex(self.text)

    @property
    def text(self) -> str:
        """The whole text."""
        return self._pieces.text

    @property
    def n_lines(self) -> int:
        return len(self._lines)

    def offset_at(self, line: int, character: int) -> int | None:
        """The offset for a position; past the end of a line is its end, and a line that does not exist is None."""
        if line >= len(self._lines):
            return None
        return self._locate(line, character)[0]

    def position_at(self, offset: int) -> tuple[int, int]:
        """Line and character of an offset within the text."""
        line = self._lines.line_at(offset)
        return line, n_units(self._pieces.between(self._lines.start(line), offset), self.encoding)

    def edit(self, start: tuple[int, int], end: tuple[int, int], new: str) -> int:
        """Replaces what stands between two positions (line, character); returns the offset behind the new text.

        Positions behind the text mean its end, and a range given backwards is turned round.
        """
        first_position, last_position = sorted((start, end))
        first_line, a, starts_inside = self._clamp(*first_position)
        last_line, b, ends_inside = self._clamp(*last_position)
        if self.encoding == "utf-16":
            if starts_inside:
                new = _halves(self._at(a))[0] + new
            if ends_inside:
                new += _halves(self._at(b))[1]
                b += 1
            if _is_high(before := self._at(a - 1)) and _is_low((new or self._at(b))[:1]):
                a, new = a - 1, before + new
            if _is_high(new[-1:]) and _is_low(after := self._at(b)):
                b, new = b + 1, new + after
            new = _joined(new)
        return self._replace(first_line, last_line, a, b, new)

    def _replace(self, first_line: int, last_line: int, a: int, b: int, new: str) -> int:
        """Replaces `text[a:b]`, which runs from `first_line` to `last_line`."""
        self._pieces.replace(a, b, new)
        behind = a + len(new)
        # Whether a line starts at an offset depends on the characters on both sides of it, so that exactly the offsets
        # from `a` to `behind` are looked at again: text inserted between \r and \n makes two line ends of one.
        window_start = max(a - 1, 0)
        window = self._pieces.between(window_start, min(behind + 1, len(self._pieces)))
        found = (match.end() + window_start for match in LINE_END.finditer(window))
        starts = [start for start in found if a <= start <= behind]
        keeps_first = first_line == 0 or self._lines.start(first_line) < a
        self._lines.replace(first_line + keeps_first, last_line + 1, starts, len(new) - (b - a))
        return behind

    def _clamp(self, line: int, character: int) -> tuple[int, int, bool]:
        """Line, offset and whether the position lies inside the character at that offset."""
        if line >= len(self._lines):
            return len(self._lines) - 1, len(self._pieces), False
        return line, *self._locate(line, character)

    def _locate(self, line: int, character: int) -> tuple[int, bool]:
        """Offset of a position on a line that exists, and whether it lies inside the character there."""
        start = self._lines.start(line)
        stop = self._lines.start(line + 1) if line + 1 < len(self._lines) else len(self._pieces)
        # A character is at least one unit long, so the answer lies within the first `character` characters. One more
        # is taken along because it may be the one that the position falls into.
        content = self._pieces.between(start, min(stop, start + character + 1))
        column, inside = index_of_unit(content, character, self.encoding)
        while column and content[column - 1] in "\r\n":
            column, inside = column - 1, False
        return start + column, inside

    def _at(self, offset: int) -> str:
        """The character at `offset`; empty outside of the text."""
        return self._pieces.between(offset, offset + 1) if 0 <= offset < len(self._pieces) else ""


def n_units(text: str, encoding: PositionEncoding) -> int:
    """Length of `text` in units of the encoding; a lone surrogate is one utf-16 unit or three utf-8 bytes."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-16":
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
    return len(text.encode("utf-8", "surrogatepass"))


def index_of_unit(text: str, units: int, encoding: PositionEncoding) -> tuple[int, bool]:
    """Index of the character that `units` falls on, at most `len(text)`, and whether it falls inside that character."""
    if encoding == "utf-32" or text.isascii():
        return min(units, len(text)), False
    if encoding == "utf-16":
        encoded = text.encode("utf-16-le", "surrogatepass")
        before, after = encoded[: 2 * units], encoded[2 * units : 2 * units + 2]
        n_begun = len(before.decode("utf-16-le", "surrogatepass"))
        inside = _is_high(before[-2:].decode("utf-16-le", "surrogatepass")) and _is_low(
            after.decode("utf-16-le", "surrogatepass")
        )
    else:
        encoded = text.encode("utf-8", "surrogatepass")
        n_begun = len(encoded[:units].translate(None, CONTINUATION_BYTES))
        inside = encoded[units : units + 1] != b"" and encoded[units] in CONTINUATION_BYTES
    return (n_begun - 1 if inside else n_begun), inside


def _joined(text: str) -> str:
    """`text` with each high surrogate and the low one behind it made one character, as utf-16 clients see them."""
    if SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _halves(character: str) -> tuple[str, str]:
    """The two surrogates of a character beyond the basic plane."""
    encoded = character.encode("utf-16-le", "surrogatepass")
    return encoded[:2].decode("utf-16-le", "surrogatepass"), encoded[2:].decode("utf-16-le", "surrogatepass")


def _is_high(character: str) -> bool:
    return "\ud800" <= character <= "\udbff"


def _is_low(character: str) -> bool:
    return "\udc00" <= character <= "\udfff"
