"""The stop rule once more, for texts that came to an end otherwise or are answered from a cache."""

from __future__ import annotations

from server.filters.candidate import Candidate
from server.lm.stopping import suggestion_end


def stop(candidate: Candidate) -> Candidate:
    """The text up to the end of its line, or of its block where several lines are welcome; no blanks at a line end."""
    end = suggestion_end(candidate.cursor, candidate.text, multiline=candidate.multiline)
    kept = candidate if end is None else candidate.cut(end)
    return kept if candidate.cursor.line_suffix.strip() else kept.with_text(kept.text.rstrip())
