"""Windows around a cursor: parts of the document whose syntax can be judged alone, whatever is broken elsewhere.

Neighbouring statements, a function, a top-level statement, some hundred lines, or just the line inside the brackets
that are open. Knows nothing of what is sound: whoever asks tries one window after the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import takewhile

from server.lm.cursor import Cursor, indentation, is_code, width
from server.lm.languages import Language
from server.lm.lexing import CLOSER_OF, START, state_after, without_comments

MAX_WINDOW_LINES = 150  # on either side of the cursor, unless a function around it takes more
_ENTRY_LINES = 20  # of a table that one entry takes at most
_MAX_REMEMBERED = 4  # windows: several texts are judged at one cursor, each in the same ones

_CONTINUES = re.compile(r"(?:else|elif|except|finally|case)\b|[)\]}\"'#]")
_SCOPE = re.compile(r"(?:async[ \t]+)?def\b|class\b")
_LOOP = re.compile(r"(?:async[ \t]+)?for\b|while\b")
_OPENER_OF = {closer: opener for opener, closer in CLOSER_OF.items()}


# A window takes what stands in the cursor's line and gives the source to be judged.
Window = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Lines:
    """Whole lines around the cursor's, behind stand-ins for the scopes that they are in."""

    scopes: tuple[str, ...]
    above: tuple[str, ...]
    below: tuple[str, ...]

    def around(self, line: str) -> str:
        return "\n".join((*self.scopes, *self.above, line, *self.below, ""))


def windows(cursor: Cursor, text: str) -> Iterator[Window]:
    """Windows around the cursor, smallest first, and the line alone in its brackets at last."""
    statements = [_window_at(cursor, blanks) for blanks in _levels(cursor, text)]
    small = [lines for lines in statements if len(lines.above) + len(lines.below) <= 2 * MAX_WINDOW_LINES]
    for lines in dict.fromkeys((*small, _lines_around(cursor, MAX_WINDOW_LINES))):
        if _is_open_there(cursor, lines) and _has_end_of_string(cursor, text, lines):
            yield lines.around
    if cursor.language.block == "indent" and cursor.line_state.awaited and not cursor.line_state.delimiter:
        yield partial(_in_brackets, cursor)


def heads(cursor: Cursor, text: str) -> list[Window]:
    """Windows that end with the cursor's line, for where nothing around the cursor is sound."""
    found = [_window_at(cursor, blanks) for blanks in reversed(_levels(cursor, text))]
    if cursor.language.block == "indent":
        found.append(_Lines(_scopes(cursor, indentation(cursor.line_prefix + text)), (), ()))
    return [replace(lines, below=()).around for lines in found if _is_open_there(cursor, lines)]


def widest(cursor: Cursor) -> Window:
    """All that is known of the document."""
    return _lines_around(cursor, len(cursor.above) + len(cursor.below)).around


def line_with(cursor: Cursor, text: str) -> str:
    """The cursor's line with `text` in it."""
    return cursor.line_prefix + text + cursor.line_suffix


def _is_open_there(cursor: Cursor, lines: _Lines) -> bool:
    """Whether the brackets and the string that are open where the cursor's line starts are opened in the window."""
    state = cursor.line_state
    return state == START or state_after("\n".join((*lines.above, "")), cursor.language) == state


def _in_brackets(cursor: Cursor, line: str) -> str:
    """The entry that the line belongs to, behind the brackets that are open there and before those that stay open.

    In the middle of a table of thousands of lines nothing larger is sound.
    """
    awaited, language = cursor.line_state.awaited, cursor.language
    above = list(takewhile(lambda other: not _ends_entry(other, language), reversed(cursor.above[-_ENTRY_LINES:])))
    next_lines = enumerate(cursor.below[:_ENTRY_LINES], 1)
    below = cursor.below[: next((n for n, other in next_lines if _ends_entry(other, language)), _ENTRY_LINES)]
    if not state_after(line, language, cursor.line_state).awaited:
        below = ()
    # The text is not helped to close what it opens.
    n_open = len(state_after("\n".join((line_with(cursor, ""), *below)), language, cursor.line_state).awaited)
    still_awaited = state_after("\n".join((line, *below)), language, cursor.line_state).awaited[:n_open]
    opening = "".join(f"_{_OPENER_OF[closer]}" if closer == ")" else _OPENER_OF[closer] for closer in awaited)
    return "\n".join((opening, *reversed(above), line, *below, still_awaited[::-1], ""))


def _has_end_of_string(cursor: Cursor, text: str, lines: _Lines) -> bool:
    """Whether the string of several lines that the text leaves open, if it does, can end inside the window."""
    delimiter = state_after(line_with(cursor, text), cursor.language, cursor.line_state).delimiter
    return len(delimiter) != 3 or any(delimiter in line for line in lines.below)


def _ends_entry(line: str, language: Language) -> bool:
    return without_comments(line, language).endswith((",", "(", "[", "{"))


def _lines_around(cursor: Cursor, n_lines: int) -> _Lines:
    """Up to `n_lines` on either side, from a top-level statement to one where the document goes on."""
    above, below = cursor.above[-n_lines:], cursor.below[:n_lines]
    if len(above) < len(cursor.above) or not cursor.starts_document:
        above = above[next((i for i, line in enumerate(above) if _starts_statement(line, "")), 0) :]
    if len(below) < len(cursor.below) or not cursor.ends_document:
        last = next((i for i in range(len(below) - 1, -1, -1) if _starts_statement(below[i], "")), len(below))
        below = below[:last]
    return _Lines((), above, below)


@lru_cache(_MAX_REMEMBERED)
def _window_at(cursor: Cursor, blanks: str) -> _Lines:
    """The statements indented by `blanks` that the cursor stands in or between."""
    above, below = cursor.above, cursor.below
    first = next((i for i in range(len(above) - 1, -1, -1) if _starts_statement(above[i], blanks)), 0)
    while first and above[first - 1].startswith(f"{blanks}@"):
        first -= 1
    return _Lines(_scopes(cursor, blanks), above[first:], below[: _n_lines_to_end(cursor, blanks)])


def _n_lines_to_end(cursor: Cursor, blanks: str) -> int:
    """How many lines below belong to the statement indented by `blanks`, and to the next when the cursor is between."""
    between = not cursor.line_prefix.startswith(blanks + " ") and not cursor.line_prefix.startswith(blanks + "\t")
    n_starts = -1 if between else 0
    for number, line in enumerate(cursor.below):
        if is_code(line, cursor.language) and width(indentation(line)) < width(blanks):
            return number
        if _starts_statement(line, blanks):
            n_starts += 1
            if n_starts > 0:
                return number
            if line[len(blanks) :].startswith("@"):
                n_starts -= 1
    return len(cursor.below)


def _starts_statement(line: str, blanks: str) -> bool:
    """Whether a statement indented by `blanks` seems to start with this line; the compiler has the last word."""
    n_blanks = len(blanks)
    if not line.startswith(blanks) or not line[n_blanks : n_blanks + 1].strip():
        return False
    return not _CONTINUES.match(line, n_blanks)


def _levels(cursor: Cursor, text: str) -> list[str]:
    """Indentations of statements around the cursor: of the line, of the function or class around it, and none."""
    if cursor.language.block != "indent":
        return [""]
    levels = (indentation(cursor.line_prefix + text), _innermost_scope(cursor, text), "")
    return list(dict.fromkeys(levels))


def _innermost_scope(cursor: Cursor, text: str) -> str:
    """The indentation of the nearest function or class that `text` can stand in or beside; "" at the top level."""
    at = width(indentation(cursor.line_prefix + text))
    least = None
    for line in reversed(cursor.above):
        blanks = indentation(line)
        if _starts_statement(line, blanks) and (least is None or width(blanks) < least):
            least = width(blanks)
            if least <= at and (_SCOPE.match(line[len(blanks) :]) or not blanks):
                return blanks
    return ""


def _scopes(cursor: Cursor, blanks: str) -> tuple[str, ...]:
    """Headers in place of those that the statements indented by `blanks` stand in, outermost first."""
    found: list[str] = []
    least = width(blanks)
    for line in reversed(cursor.above):
        if not least:
            break
        outer = indentation(line)
        if width(outer) < least and _starts_statement(line, outer):
            least = width(outer)
            scope = _SCOPE.match(line[len(outer) :])
            keyword = scope[0] if scope else ""
            header = "class _:" if keyword == "class" else f"{keyword} _():" if keyword else "if 1:"
            header = "while 1:" if _LOOP.match(line[len(outer) :]) else header
            found.append(outer + header)
    # The outermost may be out of sight.
    return ("class _:",) * (least > 0) + tuple(reversed(found))
