"""The filters in their one order, and what each of them did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from server.filters.brackets import brackets
from server.filters.candidate import Candidate, Rejection
from server.filters.closers import closers
from server.filters.confidence import confidence, likely_lines
from server.filters.following_text import following_text, still_new
from server.filters.indentation import indent
from server.filters.parse_check import parse_check
from server.filters.people import people
from server.filters.repetition import repetition
from server.filters.special_tokens import special_tokens
from server.filters.stop import stop
from server.filters.trivial import trivial
from server.filters.unfinished import unfinished

# What ends a text comes first, then what may be cut off its end, then what asks for a whole text. The parse check sees
# the text that would be shown; what it leaves must still be worth showing.
FILTERS: tuple[tuple[str, Callable[[Candidate], Candidate | Rejection]], ...] = (
    ("special tokens", special_tokens),
    ("stop rule", stop),
    ("unlikely lines", likely_lines),
    ("unfinished end", unfinished),
    ("closers already there", closers),
    ("brackets and quotes", brackets),
    ("following text", following_text),
    ("repetition", repetition),
    ("people", people),
    ("indentation", indent),
    ("parse check", parse_check),
    ("still new", still_new),
    ("trivial text", trivial),
    ("confidence", confidence),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one filter did."""

    filter: str
    action: Literal["kept", "changed", "rejected"]
    reason: str = ""  # of a rejection


@dataclass(frozen=True, slots=True)
class Filtered:
    """What is left of a candidate, None when it was rejected, and the verdicts up to there."""

    candidate: Candidate | None
    verdicts: tuple[Verdict, ...]


def apply(candidate: Candidate) -> Filtered:
    """The candidate after all filters, in their order, ending at the first that rejects it."""
    verdicts: list[Verdict] = []
    for name, run in FILTERS:
        result = run(candidate)
        # Nothing left is the end of it, whichever filter took it.
        if isinstance(result, Candidate) and not result.text.strip():
            result = Rejection("nothing is left of the text")
        if isinstance(result, Rejection):
            return Filtered(None, (*verdicts, Verdict(name, "rejected", result.reason)))
        verdicts.append(Verdict(name, "kept" if result.text == candidate.text else "changed"))
        candidate = result
    return Filtered(candidate, tuple(verdicts))
