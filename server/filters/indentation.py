"""Indentation: where no line of the block can start, tabs or spaces as in the file, levels of several lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from server.filters.candidate import Candidate, Rejection
from server.lm.cursor import TAB_WIDTH, Cursor, first_code_line, indentation, is_code, width
from server.lm.lexing import START, n_stray_closers, state_after, without_comments

_LINES_READ = 200  # on either side of the cursor, to learn the file's habit
_HEADER_LINES = 30  # that one block header takes at most
_LEAVING = frozenset({"return", "raise", "throw", "break", "continue"})
_LEAVES_IN = frozenset({"python", "javascript", "javascriptreact", "typescript", "typescriptreact", "go"})
_FIRST_WORD = re.compile(r"[ \t]*(\w+)\b(?!\s*[:=(.?]|-)")
_GOES_ON = re.compile(r"\"\"\"|\'\'\'|\*/|[-+*/%&|^=<>?:\\,.]\s*$")  # or was never code
# What is reached all the same between braces: another case, the end of the block, what is hoisted, a label.
_REACHED = re.compile(
    r"[}\])#]|//|/\*|(?:case|default|function|async|class|export|interface|type|public|private|yield)\b|\w+:"
)


def indent(candidate: Candidate) -> Candidate | Rejection:
    """Rejects a text at a place where no line of the block can start; brings the others to the file's indentation.

    Several lines end before the first that stands on a level that the block does not have.
    """
    cursor = candidate.cursor
    text = candidate.text if cursor.state.delimiter else _as_in_file(cursor, candidate.text)
    if cursor.language.block is None or cursor.line_state.delimiter:
        return candidate.with_text(text)
    first = text.split("\n", 1)[0]
    if not cursor.line_prefix.strip() and first.strip():
        problem = _problem(cursor, indentation(first), first.strip(), candidate.is_automatic)
        if problem:
            return Rejection(problem)
    kept = candidate.with_text(text)
    return kept.cut(_consistent_length(cursor, text)) if cursor.language.block == "indent" else kept


def _problem(cursor: Cursor, blanks: str, code: str, is_automatic: bool) -> str | None:
    """What is wrong with a line that starts at the cursor with `blanks` of its own, or None.

    With only blanks before it, Tab indents the line: a suggestion must not take the key away.
    """
    in_brackets = (
        cursor.line_state.awaited.replace("}", "") if cursor.language.block == "braces" else cursor.line_state.awaited
    )
    if cursor.line_suffix[:1].isspace() and cursor.line_suffix.strip():
        return "the cursor stands in the indentation of a line"
    if blanks and is_automatic:
        return "the cursor is left of the text's indentation"
    if in_brackets:
        return None
    at = width(cursor.line_prefix + blanks)
    header, opens = _line_above(cursor)
    if opens:
        closes = cursor.language.block == "braces" and code.startswith("}")
        return None if closes or at > width(indentation(header)) else "the cursor is left of the block's indentation"
    if at == width(indentation(header)) and _is_out_of_reach(cursor, header, code):
        return "the line above ends the block"
    if cursor.language.block == "braces":
        return None
    levels = _levels(cursor, header)
    below = first_code_line(cursor.below, cursor.language)
    if at not in levels:
        return "no block around the cursor has its indentation"
    goes_on = code.endswith(("(", "[", "{", ",", "\\")) or without_comments(code, cursor.language).endswith(":")
    if below is not None and at < width(indentation(below)) <= max(levels) and not goes_on:
        return "the cursor is left of the block's indentation"
    return None


def _is_out_of_reach(cursor: Cursor, above: str, code: str) -> bool:
    """Whether nothing comes to a line behind the statement that starts with `above`, on its level."""
    first = _FIRST_WORD.match(above)
    if first is None or first[1] not in _LEAVING or cursor.language.id not in _LEAVES_IN:
        return False
    last = next(line for line in reversed(cursor.above) if is_code(line, cursor.language))
    if _GOES_ON.search(without_comments(last, cursor.language)) or _GOES_ON.search(above):
        return False
    reached = _REACHED.match(code)
    return reached is None or (cursor.language.id == "python" and reached[0] not in ("#", "yield"))


def _line_above(cursor: Cursor) -> tuple[str, bool]:
    """The first line of the statement above the cursor, and whether that statement opens a block."""
    language, lines = cursor.language, cursor.above
    last = next((i for i in range(len(lines) - 1, -1, -1) if is_code(lines[i], language)), None)
    if last is None:
        return "", False
    code = without_comments(lines[last], language)
    first = last
    while first > max(last - _HEADER_LINES, 0) and n_stray_closers("\n".join(lines[first : last + 1]), language):
        first -= 1
    return lines[first], code.endswith(":" if language.block == "indent" else "{")


def _levels(cursor: Cursor, line: str) -> set[int]:
    """The indentations at which a line can follow the statement that starts with `line`."""
    least = width(indentation(line))
    levels = {0, least}
    for other in reversed(cursor.above):
        if least == 0:
            break
        if is_code(other, cursor.language) and width(indentation(other)) < least:
            least = width(indentation(other))
            levels.add(least)
    return levels


def _as_in_file(cursor: Cursor, text: str) -> str:
    """The text with its lines indented by tabs or by spaces as those around the cursor are."""
    blanks = [indentation(line) for line in _lines_around(cursor) if line.strip()]
    n_tabs, n_spaces = sum(b.startswith("\t") for b in blanks), sum(b.startswith(" ") for b in blanks)
    first, *others = text.split("\n")
    lines = [first if cursor.line_prefix.strip() else _indented_anew(first, n_tabs > n_spaces, _step(blanks))]
    lines += [_indented_anew(line, n_tabs > n_spaces, _step(blanks)) for line in others]
    return "\n".join(lines) if n_tabs or n_spaces else text


def _indented_anew(line: str, by_tabs: bool, step: int) -> str:
    blanks = indentation(line)
    if by_tabs and " " in blanks:
        columns = len(blanks.expandtabs(TAB_WIDTH))
        return "\t" * (columns // TAB_WIDTH) + " " * (columns % TAB_WIDTH) + line[len(blanks) :]
    if not by_tabs and "\t" in blanks:
        return blanks.expandtabs(step) + line[len(blanks) :]
    return line


def _lines_around(cursor: Cursor) -> Sequence[str]:
    return (*cursor.above[-_LINES_READ:], cursor.line_prefix + "|", *cursor.below[:_LINES_READ])


def _step(blanks: Sequence[str]) -> int:
    """Columns by which the file indents."""
    widths = [len(b) for b in blanks if b.startswith(" ")]
    return min((n for n in widths if n > 1), default=TAB_WIDTH)


def _consistent_length(cursor: Cursor, text: str) -> int:
    """Up to where the lines of `text` go deeper only below a block header and come back only to levels they had."""
    lines = text.split("\n")
    whole = [cursor.line_prefix + lines[0], *lines[1:]]
    levels = [width(indentation(whole[0]))]
    state, previous = state_after(whole[0], cursor.language, cursor.line_state), whole[0]
    for number, line in enumerate(whole[1:], 1):
        if not state.spans_lines and is_code(line, cursor.language):
            at = width(indentation(line))
            deeper_below_header = at > levels[-1] and previous.rstrip().endswith(":")
            if at not in levels and not deeper_below_header:
                return len("\n".join(lines[:number]).rstrip())
            levels = [level for level in levels if level < at] + [at]
            previous = line
        state = state_after(line, cursor.language, state if state.spans_lines else START)
    return len(text)
