"""A generation that ran out of tokens or time ends in the middle of something."""

from __future__ import annotations

import re

from server.filters.candidate import Candidate
from server.lm.cursor import Cursor, first_code_line, indentation, width
from server.lm.lexing import Token, tokens, without_comments

_GOES_ON = re.compile(r"[ \t]*(?:except|finally|else|elif|case)\b")  # headers without which what is above is not whole
_HANGING = frozenset({"blank", "operator", "open", "other"})


def unfinished(candidate: Candidate) -> Candidate:
    """The text without its last, perhaps incomplete word and the operators before it; whole lines of several.

    Several lines do not end with the header of a block that nothing follows.
    """
    text = candidate.text
    whole_lines, line_break, _ = text.rpartition("\n")
    if line_break and whole_lines.strip():
        lines = text if candidate.finish == "stop" else whole_lines.rstrip()
        return candidate.cut(_without_headers(candidate.cursor, lines))
    if candidate.finish == "stop":
        return candidate
    return _whole_words(candidate)


def _without_headers(cursor: Cursor, text: str) -> int:
    """The length of several lines without those at the end that open a block, unless its body stands below."""
    below = first_code_line(cursor.below, cursor.language)
    lines = text.split("\n")
    if cursor.language.block != "indent" or cursor.state.delimiter:
        return len(text)
    while len(lines) > 1:
        last = lines[-1]
        has_body = below is not None and width(indentation(below)) > width(indentation(last))
        is_header = without_comments(last, cursor.language).endswith(":")
        if has_body or (last.strip() and not (is_header and not _GOES_ON.match(last))):
            break
        lines.pop()
    return len("\n".join(lines)) if first_code_line(lines, cursor.language) is not None else len(text)


def _whole_words(candidate: Candidate) -> Candidate:
    """The first line without its end that may be half a word."""
    text = candidate.text
    pieces = list(tokens(text, candidate.cursor.language, candidate.cursor.state))
    if pieces and pieces[-1].after.delimiter:
        n_words = _words_end(text, pieces[-1], candidate)
        if n_words:
            return candidate.cut(n_words)
        pieces.pop()
    elif pieces and pieces[-1].kind in ("word", "number"):
        pieces.pop()
    while pieces and pieces[-1].kind in _HANGING:
        pieces.pop()
    return candidate.cut(pieces[-1].end if pieces else 0)


def _words_end(text: str, last: Token, candidate: Candidate) -> int:
    """Where the last whole word of the open string or comment `last` ends; 0 for a string that the text opens."""
    if last.kind == "string" and not (last.start == 0 and candidate.cursor.state.in_string):
        return 0
    words = text[last.start :].rpartition(" ")[0].rstrip()
    return last.start + len(words) if any(character.isalnum() for character in words) else 0
