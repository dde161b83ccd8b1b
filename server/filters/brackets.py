"""Brackets and quotes of a text against those around the cursor."""

from __future__ import annotations

from dataclasses import replace

from server.filters.candidate import Candidate
from server.lm.cursor import Cursor, starts_definition
from server.lm.lexing import cut_points, n_stray_closers, state_after


def brackets(candidate: Candidate) -> Candidate:
    """The longest part of the text that closes nothing that it must not and leaves the rest of the line balanced.

    A closing bracket must have its opening one in the text, or before the cursor and then be missing after it. What
    the text opens must be closed before the rest of the line, if there is one; a string, before the text ends.
    """
    cursor, text = candidate.cursor, candidate.text
    if cursor.language.block is None or fits(cursor, text):
        return candidate
    ends = cut_points(text, cursor.language, cursor.state)
    return candidate.cut(next((end for end in ends if fits(cursor, text[:end])), 0))


def fits(cursor: Cursor, text: str) -> bool:
    """Whether brackets and quotes are no worse balanced with `text` at the cursor than without."""
    language, state = cursor.language, cursor.state
    after = state_after(text, language, state)
    if after == state and not n_stray_closers(text, language, replace(state, awaited="")):
        return True  # balanced in itself
    if after.delimiter in ("'", '"') and after.delimiter != state.delimiter:
        return False
    rest = cursor.line_suffix
    if rest.strip():
        without, with_text = state_after(rest, language, state), state_after(rest, language, after)
        if len(with_text.awaited) > len(without.awaited) or (with_text.in_string and not without.in_string):
            return False
    is_whole = cursor.ends_document or any(starts_definition(line, language) for line in cursor.below)
    if len(after.awaited) < len(state.awaited) and not is_whole:
        return False  # in a table of thousands of lines: what closes the bracket is out of sight
    below = "\n".join((rest, *cursor.below))
    # Read in one go: a string may be open at either end of the text.
    return n_stray_closers(text + below, language, state) <= n_stray_closers(below, language, state)
