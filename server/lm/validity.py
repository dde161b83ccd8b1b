"""How much of a text can be inserted at a cursor without a new syntax error.

What is checked is the document with the text in it; what it is compared with is the document as it stands and the
document without the line that is being typed: typing is always a broken state. Python is judged by its own compiler,
other languages and documents that are broken elsewhere by tree-sitter. Only a window around the cursor is read, the
smallest one that is sound without the text. A block header whose body is yet to come is no error, nor is one that
lacks more of its end, where its line was begun before the text.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache

from server.lm.cursor import Cursor, first_code_line, indentation, width
from server.lm.languages import Language
from server.lm.lexing import cut_points, n_stray_closers, state_after
from server.lm.syntax import n_errors, parse
from server.lm.syntax_windows import Window, heads, line_with, widest, windows

_MAX_CUTS = 8  # tried before the text is given up
# Judgements that are remembered: texts at a cursor are compared with the same documents, and so are those at the next.
_MAX_REMEMBERED = 24
_COMMENT_LINES = 200  # above a cursor that may be in a comment
_HEADER_WINDOWS = 3  # the line alone, with the statements beside it, with the function or class around it
_HEADER_LINES = 100  # below a cursor in which the end of a header is looked for
_HEADER_END = re.compile(r"[\w$)\]>][ \t]*$")
_HEADER = re.compile(
    r"[ \t]*(?:(?:export|default|declare|abstract|async)[ \t]+)*"
    r"(?:class|interface|enum|namespace|function|if|else|for|while|switch|catch)\b"
)
_METHOD = re.compile(r"[ \t]*(?:(?:public|private|protected|static|override|async|get|set)[ \t]+)*[\w$#]+[ \t]*[(<]")
_FUNCTION_NAME = re.compile(r"[ \t]*(?:(?:export|default|declare|async)[ \t]+)*function\b[ \t]*\*?[ \t]*[\w$]+[ \t]*$")
_CLOSERS = ")]}\"'"  # that an editor puts behind the cursor
PARSE_LIMIT_MS = 100


def valid_length(cursor: Cursor, text: str) -> int:
    """Length of the longest part of `text`, from its start, that adds no syntax error; 0 when none does.

    All of the text where the language cannot be checked; nothing of it on a line of thousands of characters, or
    thousands of lines into a table.
    """
    if cursor.is_overlong or not cursor.is_state_known or _opens_endless_string(cursor, text):
        return 0
    if _stays_in_comment(cursor, text):
        return len(text)
    if cursor.language.id == "python":
        sound: Callable[[str], bool] = compiles
    elif _n_errors("", cursor.language) is None:
        return len(text)
    else:
        sound = lambda source: _n_errors(source, cursor.language) == 0  # noqa: E731
    for around in windows(cursor, text):
        if sound(around(line_with(cursor, text))):
            return len(text)
        if any(sound(around(line)) for line in _lines_without(cursor)):
            return next((end for end in _ends(cursor, text) if _fits(around, cursor, text[:end], sound)), 0)
    if _is_no_worse(cursor, text, sound):
        return len(text)
    return next((end for end in _ends(cursor, text) if _goes_on_in_header(cursor, text[:end], sound)), 0)


def _stays_in_comment(cursor: Cursor, text: str) -> bool:
    """Whether the cursor is in a comment that `text` does not end, nor part from its end.

    The grammar has the last word, where there is one: a light reading takes `//` in the text of a page for a comment.
    """
    end = cursor.state.delimiter
    if not cursor.state.in_comment or end in cursor.line_prefix[-1:] + text or cursor.line_suffix[:1] == "/":
        return False
    if cursor.language.block == "indent" and cursor.line_prefix.lstrip().startswith(cursor.language.comment):
        return True  # no string is on the line, which an f-string with quotes of its own might break
    before = "\n".join((*cursor.above[-_COMMENT_LINES:], cursor.line_prefix))
    tree = parse(before + cursor.line_suffix, cursor.language, len(before))
    return tree is None or tree.node_at(len(before) - 1).type == "comment"


def _opens_endless_string(cursor: Cursor, text: str) -> bool:
    """Whether `text` opens a string of several lines whose end is missing below the cursor.

    The strings below have two delimiters each, so the end is there if their number is odd.
    """
    delimiter = state_after(line_with(cursor, text), cursor.language, cursor.line_state).delimiter
    if cursor.state.in_string or len(delimiter) != 3:
        return False
    return sum(line.count(delimiter) for line in cursor.below) % 2 == 0


@lru_cache(_MAX_REMEMBERED)
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


def _lines_without(cursor: Cursor) -> Iterator[str]:
    """What may stand in the cursor's line for a sound document without the text: itself, nothing, or a few words."""
    yield line_with(cursor, "")
    yield ""
    blanks = indentation(cursor.line_prefix)
    yield blanks + ("pass" if cursor.language.block == "indent" else ";")
    if _has_body_below(cursor, blanks):
        yield from (f"{blanks}{header}" for header in ("if 1:", "while 1:", "def _():", "async def _():", "try:"))


def _fits(around: Window, cursor: Cursor, text: str, sound: Callable[[str], bool]) -> bool:
    """Whether the window is sound with `text`, or would be once the block that the text opens is complete."""
    line = line_with(cursor, text)
    if sound(around(line)) or any(sound(around(whole)) for whole in _with_body(cursor, line)):
        return True
    if cursor.line_state.awaited and _goes_on_in_header(cursor, text, sound):  # to the window it may be a call
        return True
    # What still lacks its end is an error as it stands, and must not make more of it.
    if sound(around(line_with(cursor, ""))):
        return False
    if not _has_body_below(cursor, _blanks_of(line)) and any(
        sound(around(line + e)) for e in _header_ends(cursor, text)
    ):
        return True
    ends = (end for end in _missing_ends(cursor, line) if sound(around(line + end)))
    return next(ends, None) is not None and _adds_no_errors(cursor, text)


def _adds_no_errors(cursor: Cursor, text: str) -> bool:
    """Whether tree-sitter sees no more errors in all that is known of the document with `text` than without.

    True where the language has no tree, False when the document takes too long to parse.
    """
    whole = widest(cursor)
    before, after = (_n_errors(whole(line_with(cursor, inserted)), cursor.language) for inserted in ("", text))
    if before is None or after is None:
        return _n_errors("", cursor.language) is None
    return after <= before


def _n_errors(source: str, language: Language) -> int | None:
    """As in `syntax`, remembered."""
    try:
        return _counted_errors(source, language)
    except LookupError:
        return None


@lru_cache(_MAX_REMEMBERED)
def _counted_errors(source: str, language: Language) -> int:
    """LookupError where there is no tree: that may have been a slow moment, and is not remembered."""
    if (found := n_errors(source, language, PARSE_LIMIT_MS)) is None:
        raise LookupError
    return found


def _with_body(cursor: Cursor, line: str) -> Iterator[str]:
    """The line with the shortest bodies for the block that it opens at its end, if it opens one."""
    if cursor.line_suffix.strip(" \t:{" + _CLOSERS):
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
    elif code.startswith("@") and (cursor.line_prefix.strip() or _ends_block(cursor, blanks)):
        # Whoever writes a decorator is about to write a function.
        yield f"{line}\n{blanks}def _(): pass"


def _missing_ends(cursor: Cursor, line: str) -> Iterator[str]:
    """What may still be typed behind a line that has only closing brackets and quotes after the cursor."""
    if cursor.line_suffix.strip(" \t" + _CLOSERS):
        return
    if cursor.line_state.awaited:
        yield ","
    elif _has_body_below(cursor, _blanks_of(line)):
        yield ":"


def _header_ends(cursor: Cursor, text: str) -> Iterator[str]:
    """What completes a block's header that ends with the cursor's line, and that the line has begun without `text`.

    Errors are not counted: to tree-sitter `def f(self, x: int)` without its colon is a call with a colon too many.
    """
    line = line_with(cursor, text)
    after = state_after(line, cursor.language, cursor.line_state)
    is_braces = cursor.language.block == "braces"
    awaited = cursor.line_state.awaited if is_braces else ""  # of the blocks around
    if "\n" in text or after.delimiter or after.awaited != awaited or cursor.line_suffix.strip(" \t" + _CLOSERS):
        return
    if not is_braces:
        # `pass` is sound behind a header alone.
        yield from (": pass", "(): pass")
    elif _HEADER_END.search(line):
        # Braces may be an object too, so that the words count.
        if _HEADER.match(line) or _METHOD.match(line):
            yield " {}"
        if _FUNCTION_NAME.match(line):
            yield "() {}"


def _goes_on_in_header(cursor: Cursor, text: str, sound: Callable[[str], bool]) -> bool:
    """Whether `text` goes on in a header, of some lines perhaps, that was begun above it and that nothing below closes.

    False between braces, which end below.
    """
    if cursor.language.block != "indent" or n_stray_closers("\n".join(cursor.below[:_HEADER_LINES]), cursor.language):
        return False
    line = line_with(cursor, text)
    whole = [*(line + end for end in _header_ends(cursor, text)), *_with_body(cursor, line)]
    smallest = heads(cursor, text)[: -_HEADER_WINDOWS - 1 : -1]
    return any(sound(around(each)) for around in smallest for each in whole)


def _blanks_of(text: str) -> str:
    """The indentation of the last line."""
    return indentation(text.rpartition("\n")[2])


def _has_body_below(cursor: Cursor, blanks: str) -> bool:
    """Whether the code below is indented like the body of a header that is indented by `blanks`."""
    below = first_code_line(cursor.below, cursor.language)
    return cursor.language.block == "indent" and below is not None and width(indentation(below)) > width(blanks)


def _ends_block(cursor: Cursor, blanks: str) -> bool:
    """Whether no code of the block that is indented by `blanks` stands below."""
    below = first_code_line(cursor.below, cursor.language)
    return below is None or width(indentation(below)) < width(blanks)


def _ends(cursor: Cursor, text: str) -> list[int]:
    """Lengths to be tried, longest first: all of it, then at tokens, and at line ends of several lines."""
    points = cut_points(text, cursor.language, cursor.state)
    line_ends = [len(text[:i].rstrip()) for i, character in enumerate(text) if character == "\n"]
    cuts = {*points[: _MAX_CUTS - min(len(line_ends), 4)], *(end for end in line_ends[-4:] if end)}
    return [len(text), *sorted(cuts, reverse=True)]


def _is_no_worse(cursor: Cursor, text: str, sound: Callable[[str], bool]) -> bool:
    """Whether `text` suits the lines above and adds no errors, where nothing around the cursor is sound."""
    head = next((around for around in heads(cursor, text) if sound(around(""))), None)
    return (head is None or _fits(head, cursor, text, sound)) and _adds_no_errors(cursor, text)
