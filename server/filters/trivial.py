"""Texts that cost more to read than to type."""

from __future__ import annotations

import re

from server.filters.candidate import Candidate, Rejection
from server.filters.confidence import confidence_of

# Of 36 lines of `make quality` that were answered with one character, less likely right than this, one was right.
LIKELY_CHARACTER = 0.5
_WORD = re.compile(r"\w+")


def trivial(candidate: Candidate) -> Candidate | Rejection:
    """Rejects blanks, punctuation, the first word of a longer line, a character that hardly finishes a name.

    Where everything is to be shown, only blanks.
    """
    text = candidate.text.strip()
    if not text:
        return Rejection("nothing is left of the text")
    if candidate.min_confidence <= 0:
        return candidate
    if not any(character.isalnum() or character == "_" for character in text):
        return Rejection("the text is punctuation only")
    line = "".join(candidate.token_texts).strip().partition("\n")[0].rstrip()  # as it was written
    is_at_start = candidate.is_automatic and not candidate.cursor.line_prefix.strip()
    if is_at_start and _WORD.fullmatch(text) and line not in ("", text):
        return Rejection("of the line only the first word is left")
    before = candidate.cursor.line_prefix[-1:]
    extends_name = before.isidentifier() and candidate.text[0].isidentifier()
    if len(text) == 1 and not (extends_name and confidence_of(candidate) >= LIKELY_CHARACTER):
        return Rejection("the text is a single character")
    return candidate
