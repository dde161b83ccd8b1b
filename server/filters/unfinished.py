"""A generation that ran out of tokens or time ends in the middle of something."""

from __future__ import annotations

from server.filters.candidate import Candidate
from server.lm.lexing import Token, tokens

_HANGING = frozenset({"blank", "operator", "open", "other"})


def unfinished(candidate: Candidate) -> Candidate:
    """The text without its last, perhaps incomplete word and the operators before it; whole lines of several."""
    text = candidate.text
    if candidate.finish == "stop":
        return candidate
    whole_lines, line_break, _ = text.rpartition("\n")
    if line_break and whole_lines.strip():
        return candidate.cut(len(whole_lines.rstrip()))
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
