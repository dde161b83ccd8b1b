"""What the filters pass along: a candidate for a suggestion, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from server.lm.cursor import Cursor

Finish = Literal["stop", "length", "deadline", "cancelled", "unlikely"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A generated text on its way to becoming a suggestion at `cursor`; filters shorten or re-indent it."""

    text: str
    cursor: Cursor
    finish: Finish = "stop"
    token_texts: tuple[str, ...] = ()  # of the whole generation, in order
    token_logprobs: tuple[float, ...] = ()  # natural logs, beside them
    end_logprob: float = 0.0  # that the whole text ends where it does; 0.0 where a limit ended it
    multiline: bool = False  # several lines are welcome
    is_automatic: bool = True  # nobody asked for it
    is_known: bool = False  # it stands in the repository, or in what that imports
    min_confidence: float = 0.0  # 0..1

    def cut(self, length: int) -> Candidate:
        """The same with the first `length` characters of its text."""
        return self if length >= len(self.text) else replace(self, text=self.text[:length])

    def with_text(self, text: str) -> Candidate:
        return self if text == self.text else replace(self, text=text)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Nothing is offered; the reason completes "nothing is offered because"."""

    reason: str
