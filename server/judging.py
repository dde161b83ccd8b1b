"""What is asked for at a cursor, and what the filters make of a text for it, be it a line of the index or the model's.

Says of each text what is left, and how likely that is right. Knows nothing of when the model is asked, nor of which
text is offered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from server.filters.candidate import Candidate, Rejection
from server.filters.confidence import confidence, confidence_of
from server.filters.pipeline import Filtered, Verdict, apply
from server.lm.cursor import Cursor
from server.lm.decode import Generation
from server.lm.prompt import Prompt

if TYPE_CHECKING:
    from server.index.lines import Line


@dataclass(frozen=True, slots=True)
class Task:
    """A cursor made ready for the model, and how far it may go."""

    cursor: Cursor
    prompt: Prompt
    multiline: bool  # several lines are welcome
    n_wanted: int
    is_automatic: bool  # nobody asked for it
    min_confidence: float  # 0..1
    max_new_tokens: int
    deadline: float | None  # seconds of time.monotonic
    cancelled: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Judged:
    """One text, where it is from, and what the filters made of it."""

    source: Line | Generation
    unfiltered: Candidate
    filtered: Filtered

    @property
    def worth(self) -> tuple[bool, float]:
        """Whether the filters left something, and how likely that is right, or would have been."""
        left = self.filtered.candidate
        return left is not None, confidence_of(left or self.unfiltered)


class Judge:
    """Puts texts through the filters, and counts the milliseconds."""

    def __init__(self, task: Task) -> None:
        self.spent_ms = 0.0
        self._task = task

    def confidence(self, source: Line | Generation) -> float:
        """How likely a text is right before any filter has touched it."""
        return confidence_of(self._candidate(source))

    def given_up(self, generation: Generation) -> Judged:
        """A text that was too unlikely before it had ended."""
        least = self._task.min_confidence
        reason = f"the confidence fell below {least:.2f} (completion.minConfidence) while the model wrote"
        return Judged(
            generation, self._candidate(generation), Filtered(None, (Verdict("confidence", "rejected", reason),))
        )

    def __call__(self, source: Line | Generation) -> Judged:
        """A text with what the filters made of it."""
        began = time.perf_counter()
        candidate = self._candidate(source)
        # No filter makes a line of the index likelier, and some take milliseconds.
        unlikely = confidence(candidate) if not isinstance(source, Generation) else None
        if isinstance(unlikely, Rejection):
            judged = Judged(source, candidate, Filtered(None, (Verdict("confidence", "rejected", unlikely.reason),)))
        else:
            judged = Judged(source, candidate, apply(candidate))
        self.spent_ms += 1000 * (time.perf_counter() - began)
        return judged

    def _candidate(self, source: Line | Generation) -> Candidate:
        task = self._task
        candidate = Candidate(
            text=source.text,
            cursor=task.cursor,
            multiline=task.multiline,
            is_automatic=task.is_automatic,
            min_confidence=task.min_confidence,
        )
        if isinstance(source, Generation):
            return replace(
                candidate,
                finish=source.finish,
                token_texts=source.token_texts,
                token_logprobs=source.token_logprobs,
                end_logprob=source.end_logprob,
            )
        logprobs = (math.log(source.probability),)
        return replace(candidate, token_texts=(source.text,), token_logprobs=logprobs, is_known=True)
