"""Where a generation ends: at the end of the line, or with the block when several lines are welcome.

The same two functions stop the decoder and cut a finished text in the filters, so no token is computed that would be
cut away. Pure text; knows nothing of tokens.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from server.lm.cursor import Cursor, first_code_line, indentation, width
from server.lm.lexing import tokens

if TYPE_CHECKING:
    from server.lm.written import StopRule

MAX_LINES = 10  # of one suggestion; the decoder's token limit is the usual end
MAX_EQUAL_LINES = 3
_OPENERS = {")": "(", "]": "[", "}": "{", ">": "<"}


def stop_rule(cursor: Cursor, *, multiline: bool) -> StopRule:
    """The decoder's stop rule at `cursor`: text after the cursor so far -> length to keep, None to go on."""
    return partial(suggestion_end, cursor, multiline=multiline)


def suggestion_end(cursor: Cursor, text: str, *, multiline: bool) -> int | None:
    """Where a suggestion ends in `text`, None when it may go on. Several lines need a line that ends at the cursor."""
    return block_end(cursor, text) if multiline and not cursor.line_suffix.strip() else line_end(cursor, text)


def line_end(cursor: Cursor, text: str) -> int | None:
    """Where a suggestion of one line ends in `text`: its line, or the pair that closes right after the cursor."""
    end = text.find("\n")
    line = text if end < 0 else text[:end]
    closed = closing_of_what_follows(cursor, line)
    if closed is not None:
        return closed
    if end >= 0:
        return len(line.rstrip()) if not cursor.line_suffix.strip() else end
    rest = cursor.line_suffix.strip()
    # The rest of the line has been written once more: `following_text` cuts it off.
    return len(text) if len(rest) > 1 and any(c.isalnum() for c in rest) and text.endswith(rest) else None


def block_end(cursor: Cursor, text: str) -> int | None:
    """Where a suggestion of several lines ends in `text`.

    It ends before the first line that leaves the block (a closing brace that is missing so far comes along), before a
    second blank line, before the line that stands below already, at a repetition, or after `MAX_LINES`. On a line that
    holds code already the block is what is indented deeper.
    """
    lines = text.split("\n")
    n_complete = len(lines) - 1
    least = _least_width(cursor, lines)
    below = first_code_line(cursor.below, cursor.language)
    states = _states_at_line_starts(cursor, text)
    end, n_blank, n_equal = 0, 0, 0
    for number, line in enumerate(lines):
        start = sum(len(earlier) + 1 for earlier in lines[:number])
        if not line.strip():
            # What a blank line is worth is known when the next one has begun.
            n_blank += number > 0 and number < n_complete
            if n_blank > 1:
                return end
            continue
        n_blank = 0
        if number:
            if below is not None and line.rstrip() == below.rstrip() and number < n_complete:
                return end
            if states[number] and width(indentation(line)) < least:
                if not _is_missing_closer(cursor, line):
                    return end
                return start + len(line.rstrip()) if number < n_complete else None
            previous = lines[number - 1].strip()
            n_equal = n_equal + 1 if line.strip() == previous else 0
            if n_equal >= MAX_EQUAL_LINES - 1 and number < n_complete:
                return end
        if number < n_complete:
            end = start + len(line.rstrip())
            if number + 1 >= MAX_LINES:
                return end
    return None


def closing_of_what_follows(cursor: Cursor, text: str) -> int | None:
    """Where `text` closes the bracket or string that closes right after the cursor already; None when it does not.

    Editors put the closing half there themselves: it is typed over, not typed.
    """
    ends = [end for end in (_closing_of_code(cursor, text), _closing_of_words(cursor, text)) if end is not None]
    return min(ends, default=None)


def _closing_of_code(cursor: Cursor, text: str) -> int | None:
    """The same for brackets and strings as the language has them."""
    following = cursor.line_suffix.lstrip()
    state = cursor.state
    for token in tokens(text, cursor.language, state):
        if token.start == 0 and state.in_string and not token.after.delimiter:
            place = token.end - len(state.delimiter)
            if following.startswith(state.delimiter) and text.startswith(state.delimiter, place):
                return place
        elif token.kind == "close" and len(token.after.awaited) < len(cursor.state.awaited):
            return token.start if following.startswith(text[token.start]) else None
    return None


def _closing_of_words(cursor: Cursor, text: str) -> int | None:
    """The same for what is no bracket to the language: in strings, as `{` in a template, in comments, and `<`.

    Whatever `text` opens it closes first; an escaped bracket is none, as in a regular expression.
    """
    closer = cursor.line_suffix[:1]
    is_angle = closer == ">"
    if closer not in _OPENERS or not (_is_angle_open(cursor) if is_angle else cursor.state.delimiter):
        return None
    open_ones: list[str] = []
    quote, is_escaped = "", False
    for at, character in enumerate(text):
        if character == "\n":
            return None
        if is_escaped or character == "\\":
            is_escaped = not is_escaped
        elif is_angle and (quote or character in "\"'"):  # of an attribute
            quote = "" if character == quote else quote or character
        elif character in _OPENERS.values() and (is_angle or character != "<"):
            open_ones.append(character)
        elif character in _OPENERS and not (character == ">" and (not is_angle or text[at - 1 : at] in ("=", "-"))):
            if not open_ones and character == closer:
                return at
            if open_ones and open_ones[-1] == _OPENERS[character]:
                open_ones.pop()
    return None


def _is_angle_open(cursor: Cursor) -> bool:
    """Whether the `>` behind the cursor closes what a `<` opened, not a comparison."""
    _, angle, inside = cursor.line_prefix.rpartition("<")
    return bool(angle) and ">" not in inside and not inside[:1].isspace()


def _least_width(cursor: Cursor, lines: list[str]) -> int:
    """Columns that a further line of the block is indented by at least."""
    if cursor.line_prefix.strip():
        return width(indentation(cursor.line_prefix)) + 1
    first = next((line for line in lines if line.strip()), "")
    typed = cursor.line_prefix if first is lines[0] else ""
    return width(typed + indentation(first))


def _states_at_line_starts(cursor: Cursor, text: str) -> list[bool]:
    """For each line of `text`, whether its indentation counts: not inside brackets or strings that `text` opens."""
    counts = [True] * (text.count("\n") + 1)
    number, depth = 0, len(cursor.state.awaited)
    for token in tokens(text, cursor.language, cursor.state):
        for _ in range(text.count("\n", token.start, token.end)):
            number += 1
            counts[number] = token.kind == "newline" and len(token.after.awaited) <= depth
    return counts


def _is_missing_closer(cursor: Cursor, line: str) -> bool:
    """Whether a line that leaves the block is the closing brace that the block still lacks."""
    is_closer = cursor.language.block == "braces" and line.strip().rstrip(";,)") == "}"
    return is_closer and cursor.state.awaited.endswith("}") and not _is_closed_below(cursor)


def _is_closed_below(cursor: Cursor) -> bool:
    """Whether the text after the cursor closes the innermost open bracket."""
    depth = len(cursor.state.awaited)
    after = "\n".join((cursor.line_suffix, *cursor.below))
    return any(len(token.after.awaited) < depth for token in tokens(after, cursor.language, cursor.state))
