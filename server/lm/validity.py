"""How much of a text can be inserted at a cursor without a new syntax error.

What is checked is the document with the text in it; what it is compared with is the document as it stands and the
document without the line that is being typed: typing is always a broken state. Python is judged by its own compiler,
other languages and documents that are broken elsewhere by tree-sitter. Only a window around the cursor is read, the
smallest one that is sound without the text: neighbouring statements, a function, a top-level statement, some hundred
lines, or just the line inside the brackets that are open. A block header whose body is yet to come is no error.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from server.lm.cursor import Cursor, first_code_line, indentation, is_code, width
from server.lm.languages import Language
from server.lm.lexing import CLOSER_OF, START, cut_points, state_after, without_comments
from server.lm.syntax import n_errors

MAX_WINDOW_LINES = 150  # on either side of the cursor, unless a function around it takes more
_MAX_CUTS = 8  # tried before the text is given up
PARSE_LIMIT_MS = 100
_ENTRY_LINES = 20  # of a table that one entry takes at most

_CONTINUES = re.compile(r"(?:else|elif|except|finally|case)\b|[)\]}\"'#]")
_SCOPE = re.compile(r"(?:async[ \t]+)?def\b|class\b")
_LOOP = re.compile(r"(?:async[ \t]+)?for\b|while\b")
_OPENER_OF = {closer: opener for opener, closer in CLOSER_OF.items()}


# A window takes what stands in the cursor's line and gives the source to be judged.
_Window = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Lines:
    """Whole lines around the cursor's, behind stand-ins for the scopes that they are in."""

    scopes: tuple[str, ...]
    above: tuple[str, ...]
    below: tuple[str, ...]

    def around(self, line: str) -> str:
        return "\n".join((*self.scopes, *self.above, line, *self.below, ""))


def valid_length(cursor: Cursor, text: str) -> int:
    """Length of the longest part of `text`, from its start, that adds no syntax error; 0 when none does.

    All of the text where the language cannot be checked; nothing of it on a line of thousands of characters, or
    thousands of lines into a table.
    """
    if cursor.is_overlong or not cursor.is_state_known or _opens_endless_string(cursor, text):
        return 0
    if cursor.language.id == "python":
        sound: Callable[[str], bool] = compiles
    elif n_errors("", cursor.language) is None:
        return len(text)
    else:
        sound = lambda source: n_errors(source, cursor.language, PARSE_LIMIT_MS) == 0  # noqa: E731
    for around in _windows(cursor, text):
        if sound(around(_line_with(cursor, text))):
            return len(text)
        if any(sound(around(line)) for line in _lines_without(cursor)):
            return next(
                (end for end in (len(text), *_cuts(cursor, text)) if _fits(around, cursor, text[:end], sound)), 0
            )
    return len(text) if _is_no_worse(cursor, text, sound) else 0


def _opens_endless_string(cursor: Cursor, text: str) -> bool:
    """Whether `text` opens a string of several lines whose end is missing below the cursor.

    The strings below have two delimiters each, so the end is there if their number is odd.
    """
    delimiter = state_after(_line_with(cursor, text), cursor.language, cursor.line_state).delimiter
    if cursor.state.in_string or len(delimiter) != 3:
        return False
    return sum(line.count(delimiter) for line in cursor.below) % 2 == 0


def compiles(source: str) -> bool:
    """Whether Python's compiler takes `source`. Nothing is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A lone surrogate or a byte order mark is no fault of the code.
            source = source.encode("utf-8", "replace").decode().removeprefix("\ufeff")
            compile(source, "<window>", "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def _line_with(cursor: Cursor, text: str) -> str:
    return cursor.line_prefix + text + cursor.line_suffix


def _lines_without(cursor: Cursor) -> Iterator[str]:
    """What may stand in the cursor's line for a sound document without the text: itself, nothing, or a few words."""
    yield _line_with(cursor, "")
    yield ""
    blanks = indentation(cursor.line_prefix)
    yield blanks + ("pass" if cursor.language.block == "indent" else ";")
    if _has_body_below(cursor, blanks):
        yield from (f"{blanks}{header}" for header in ("if 1:", "while 1:", "def _():", "async def _():", "try:"))


def _fits(around: _Window, cursor: Cursor, text: str, sound: Callable[[str], bool]) -> bool:
    """Whether the window is sound with `text`, or would be once the block that the text opens is complete."""
    line = _line_with(cursor, text)
    if sound(around(line)) or any(sound(around(whole)) for whole in _with_body(cursor, line)):
        return True
    # What still lacks its end is an error as it stands, and must not make more of it.
    if sound(around(_line_with(cursor, ""))):
        return False
    ends = (end for end in _missing_ends(cursor, line) if sound(around(line + end)))
    return next(ends, None) is not None and _adds_no_errors(cursor, text)


def _adds_no_errors(cursor: Cursor, text: str) -> bool:
    """Whether tree-sitter sees no more errors in all that is known of the document with `text` than without.

    True where the language has no tree, False when the document takes too long to parse.
    """
    whole = _lines_around(cursor, len(cursor.above) + len(cursor.below))
    before, after = (
        n_errors(whole.around(_line_with(cursor, inserted)), cursor.language, PARSE_LIMIT_MS) for inserted in ("", text)
    )
    if before is None or after is None:
        return n_errors("", cursor.language) is None
    return after <= before


def _with_body(cursor: Cursor, line: str) -> Iterator[str]:
    """The line with the shortest bodies for the block that it opens at its end, if it opens one."""
    if cursor.line_suffix.strip(" \t:{"):
        return
    last = line.rpartition("\n")[2]
    blanks, code = indentation(last), last.strip()
    if cursor.language.block == "braces":
        if code.endswith("{"):
            yield f"{line}\n{blanks}}}"
    elif code.endswith(":"):
        yield f"{line} pass"
        if code == "try:":
            yield f"{line} pass\n{blanks}finally: pass"
        if code.startswith("match"):
            yield f"{line}\n{blanks} case _: pass"
    elif cursor.line_prefix.strip().startswith("@") and "\n" not in line:
        # Whoever has typed `@` is about to write a function.
        yield f"{line}\n{blanks}def _(): pass"


def _missing_ends(cursor: Cursor, line: str) -> Iterator[str]:
    """What may still be typed behind a line that has only closing brackets and quotes after the cursor."""
    if cursor.line_suffix.strip(" \t)]}\"'"):
        return
    if cursor.line_state.awaited:
        yield ","
    elif _has_body_below(cursor, indentation(line.rpartition("\n")[2])):
        yield ":"


def _has_body_below(cursor: Cursor, blanks: str) -> bool:
    """Whether the code below is indented like the body of a header that is indented by `blanks`."""
    below = first_code_line(cursor.below, cursor.language)
    return cursor.language.block == "indent" and below is not None and width(indentation(below)) > width(blanks)


def _cuts(cursor: Cursor, text: str) -> list[int]:
    """Lengths to be tried, longest first: at tokens, and at line ends of several lines."""
    points = cut_points(text, cursor.language, cursor.state)
    line_ends = [len(text[:i].rstrip()) for i, character in enumerate(text) if character == "\n"]
    return sorted(
        {*points[: _MAX_CUTS - min(len(line_ends), 4)], *(end for end in line_ends[-4:] if end)}, reverse=True
    )


def _is_no_worse(cursor: Cursor, text: str, sound: Callable[[str], bool]) -> bool:
    """Whether `text` suits the lines above and adds no errors, where nothing around the cursor is sound."""
    heads = [_window_at(cursor, blanks) for blanks in reversed(_levels(cursor, text))]
    if cursor.language.block == "indent":
        heads.append(_Lines(_scopes(cursor, indentation(cursor.line_prefix + text)), (), ()))
    arounds = [replace(lines, below=()).around for lines in heads if _is_open_there(cursor, lines)]
    head = next((around for around in arounds if sound(around(""))), None)
    return (head is None or _fits(head, cursor, text, sound)) and _adds_no_errors(cursor, text)


def _windows(cursor: Cursor, text: str) -> Iterator[_Window]:
    """Windows around the cursor, smallest first, and the line alone in its brackets at last."""
    statements = [_window_at(cursor, blanks) for blanks in _levels(cursor, text)]
    small = [lines for lines in statements if len(lines.above) + len(lines.below) <= 2 * MAX_WINDOW_LINES]
    for lines in dict.fromkeys((*small, _lines_around(cursor, MAX_WINDOW_LINES))):
        if _is_open_there(cursor, lines) and _has_end_of_string(cursor, text, lines):
            yield lines.around
    if cursor.language.block == "indent" and cursor.line_state.awaited and not cursor.line_state.delimiter:
        yield partial(_in_brackets, cursor)


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
    n_open = len(state_after("\n".join((_line_with(cursor, ""), *below)), language, cursor.line_state).awaited)
    still_awaited = state_after("\n".join((line, *below)), language, cursor.line_state).awaited[:n_open]
    opening = "".join(f"_{_OPENER_OF[closer]}" if closer == ")" else _OPENER_OF[closer] for closer in awaited)
    return "\n".join((opening, *reversed(above), line, *below, still_awaited[::-1], ""))


def _has_end_of_string(cursor: Cursor, text: str, lines: _Lines) -> bool:
    """Whether the string of several lines that the text leaves open, if it does, can end inside the window."""
    delimiter = state_after(_line_with(cursor, text), cursor.language, cursor.line_state).delimiter
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
    code = line[len(blanks) :]
    return line.startswith(blanks) and code[:1].strip() != "" and not _CONTINUES.match(code)


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
        if _starts_statement(line, outer) and width(outer) < least:
            least = width(outer)
            scope = _SCOPE.match(line[len(outer) :])
            keyword = scope[0] if scope else ""
            header = "class _:" if keyword == "class" else f"{keyword} _():" if keyword else "if 1:"
            header = "while 1:" if _LOOP.match(line[len(outer) :]) else header
            found.append(outer + header)
    # The outermost may be out of sight.
    return ("class _:",) * (least > 0) + tuple(reversed(found))
