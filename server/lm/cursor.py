"""What stands around a cursor: its line, the lines above and below, and what is open there.

Made once per request and read by the stop rule, the filters and the syntax checks. Bounded: whatever the size of the
document, only `MAX_ABOVE` characters before the cursor and `MAX_BELOW` after it are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from server.lm.languages import Language
from server.lm.lexing import START, LexicalState, state_after

MAX_ABOVE = 48_000
MAX_BELOW = 24_000
MAX_LINE = 2_000  # characters of one line on either side of the cursor; beyond it is nobody's source code

# Lines that cannot stand inside brackets or strings in practice, so that reading may start there.
_DEFINITION = re.compile(r"[ \t]*(?:(?:async[ \t]+)?def[ \t]+\w+[ \t]*[(\[]|class[ \t]+\w+[ \t]*[(:\[])")
_TOP_LEVEL = re.compile(r"(?:export|import|function|class|interface|const|let|var|type|enum|async|namespace|declare)\b")
_BLANKS = re.compile(r"[ \t\f]*")
TAB_WIDTH = 4


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a text. Line breaks are `\\n` here, and no line holds one."""

    language: Language
    above: tuple[str, ...]  # whole lines before the cursor's, top to bottom
    line_prefix: str  # the cursor's line up to the cursor
    line_suffix: str  # and from the cursor to its end
    below: tuple[str, ...]
    line_state: LexicalState  # at the start of the cursor's line
    state: LexicalState  # at the cursor
    is_state_known: bool  # False when nothing above could say what is open here: then nothing is taken to be
    is_overlong: bool  # the line is longer than `MAX_LINE`: its ends are missing here
    starts_document: bool  # nothing is missing above
    ends_document: bool  # nothing is missing below

    @property
    def is_blank_line(self) -> bool:
        return not (self.line_prefix.strip() or self.line_suffix.strip())


def cursor_between(prefix: str, suffix: str, language: Language) -> Cursor:
    """The cursor between `prefix`, all text before it, and `suffix`, all text after it."""
    above = _unix_lines(prefix[-MAX_ABOVE:]).split("\n")
    below = _unix_lines(suffix[:MAX_BELOW]).split("\n")
    line_prefix, line_suffix = above.pop(), below.pop(0)
    starts_document, ends_document = len(prefix) <= MAX_ABOVE, len(suffix) <= MAX_BELOW
    # The first and the last line may be cut inside.
    above, below = above[not starts_document :], below[: len(below) - (not ends_document)]
    line_state, is_state_known = _state_below(above, language, starts_document)
    is_overlong = len(line_prefix) > MAX_LINE or len(line_suffix) > MAX_LINE
    line_prefix, line_suffix = line_prefix[-MAX_LINE:], line_suffix[:MAX_LINE]
    return Cursor(
        language=language,
        above=tuple(above),
        line_prefix=line_prefix,
        line_suffix=line_suffix,
        below=tuple(below),
        line_state=line_state,
        state=state_after(line_prefix, language, line_state),
        is_state_known=is_state_known,
        is_overlong=is_overlong,
        starts_document=starts_document,
        ends_document=ends_document,
    )


def indentation(line: str) -> str:
    """The blanks that a line starts with; all of it when it is blank."""
    match = _BLANKS.match(line)
    return match[0] if match else ""


def width(blanks: str) -> int:
    """Columns that an indentation takes."""
    return len(blanks.expandtabs(TAB_WIDTH))


def first_code_line(lines: Sequence[str], language: Language) -> str | None:
    """The first of `lines` that is neither blank nor a comment."""
    return next((line for line in lines if is_code(line, language)), None)


def is_code(line: str, language: Language) -> bool:
    """Whether a line holds anything but blanks and a line comment."""
    text = line.strip()
    return bool(text) and not (language.comment and text.startswith(language.comment))


def starts_definition(line: str, language: Language) -> bool:
    """Whether a line defines something in a way that no line inside brackets does."""
    return (_DEFINITION if language.block == "indent" else _TOP_LEVEL).match(line) is not None


def _state_below(above: Sequence[str], language: Language, is_complete: bool) -> tuple[LexicalState, bool]:
    """What is open after the lines `above`, and whether that is known; `is_complete` when they start the document.

    Read from the nearest line that starts a definition. A text in several lines may hold such a line (a test's
    source, say): its delimiters then do not pair up before that line, and everything is read.
    """
    start = next((i for i in range(len(above) - 1, -1, -1) if starts_definition(above[i], language)), None)
    if start and is_complete and _has_odd_delimiters("\n".join(above[:start]), language):
        start = 0
    if start is None and not is_complete and language.block is not None:
        return START, False
    text = "\n".join(above[start or 0 :])
    return (state_after(text + "\n", language) if text else START), True


def _has_odd_delimiters(text: str, language: Language) -> bool:
    delimiters = ('"""', "'''") if language.id == "python" else ("`",) if "`" in language.quotes else ()
    return any(text.count(delimiter) % 2 for delimiter in delimiters)


def _unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
