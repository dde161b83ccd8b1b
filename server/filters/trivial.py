"""Texts that cost more to read than to type."""

from __future__ import annotations

from server.filters.candidate import Candidate, Rejection


def trivial(candidate: Candidate) -> Candidate | Rejection:
    """Rejects blanks, mere punctuation, and a single character that does not finish a name.

    Where everything is to be shown, only blanks.
    """
    text = candidate.text.strip()
    if not text:
        return Rejection("nothing is left of the text")
    if candidate.min_confidence <= 0:
        return candidate
    if not any(character.isalnum() or character == "_" for character in text):
        return Rejection("the text is punctuation only")
    before = candidate.cursor.line_prefix[-1:]
    extends_name = before.isidentifier() and candidate.text[0].isidentifier()
    if len(text) == 1 and not extends_name:
        return Rejection("the text is a single character")
    return candidate
