"""Closing brackets and quotes that an editor put behind the cursor."""

from __future__ import annotations

from server.filters.candidate import Candidate
from server.lm.stopping import closing_of_what_follows


def closers(candidate: Candidate) -> Candidate:
    """The text before it closes the bracket or string that is closed right after the cursor already."""
    end = closing_of_what_follows(candidate.cursor, candidate.text)
    return candidate if end is None else candidate.cut(end)
