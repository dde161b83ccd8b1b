"""No new syntax errors."""

from __future__ import annotations

from server.filters.candidate import Candidate, Rejection
from server.lm.validity import valid_length


def parse_check(candidate: Candidate) -> Candidate | Rejection:
    """The longest part of the text with which the document is no less valid than without; rejects when none is."""
    length = valid_length(candidate.cursor, candidate.text)
    if not length:
        return Rejection("it would add a syntax error")
    return candidate.with_text(candidate.text[:length].rstrip()) if length < len(candidate.text) else candidate
