"""A question for suggestions: what it is about, why it may get no answer at all, and the work that answers it.

Knows nothing of turns, of what was answered before, or of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.repository.barred import is_barred_path
from server.settings import Settings

if TYPE_CHECKING:
    from server.completion import Outcome
    from server.index.live import LiveIndex
    from server.lm.context import Document
    from server.lm.model import LoadedModel


@dataclass(frozen=True, slots=True)
class Question:
    """One request for suggestions."""

    document: Document
    offset: int
    invoked: bool  # asked for by a key: several alternatives, without waiting for more keys
    asked_at: float  # time.monotonic()
    changed_at: float = 0.0  # of the last edit
    selected_text: str = ""  # what the editor's popup would put from `selected_start` to the cursor
    selected_start: int | None = None


def barred(question: Question, settings: Settings) -> str | None:
    """Why a question gets no answer whatever the model would say; None if it does."""
    if not settings.completion.enabled:
        return "completions are switched off"
    if settings.completion.trigger == "manual" and not question.invoked:
        return "completions are offered only when asked for by a key"
    if is_barred_path(question.document.path, settings.exclude):
        return "the file is excluded, or one that holds secrets by its name"
    return None


def work_on(
    question: Question, model: LoadedModel, settings: Settings, index: LiveIndex | None, deadline: float
) -> Callable[[Callable[[], bool]], Outcome]:
    """What the model's worker does to answer a question until `deadline`, a `time.monotonic()`."""

    def work(cancelled: Callable[[], bool]) -> Outcome:
        from server.completion import CompletionRequest, complete

        request = CompletionRequest(
            document=question.document,
            offset=question.offset,
            trigger="invoked" if question.invoked else "automatic",
            selected_text=question.selected_text,
            selected_start=question.selected_start,
        )
        return complete(request, model, settings, index=index, cancelled=cancelled, deadline=deadline)

    return work
