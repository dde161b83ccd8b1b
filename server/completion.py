"""From a cursor to suggestions: the one pipeline of the editor, the command line and the benchmarks.

Gate -> context -> prompt -> generation -> filters -> suggestion. Runs in the thread that owns the model's caches.
Knows nothing of the protocol; when to ask, and what to remember, is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from server.choosing import Choice, choose
from server.filters.confidence import confidence_of
from server.filters.pipeline import Verdict
from server.judging import Task
from server.lm.context import Document, context_at
from server.lm.cursor import MAX_ABOVE, MAX_BELOW, Cursor, cursor_between
from server.lm.engine import never
from server.lm.languages import Language
from server.lm.prompt import Prompt, completion_prompt
from server.lm.syntax import is_empty_block

if TYPE_CHECKING:
    from server.index.live import LiveIndex
    from server.index.opinion import Opinion, Share
    from server.lm.model import LoadedModel
    from server.settings import Settings

# Languages without a grammar here are those that the model that comes along has not learned: half the texts that it is
# less sure of are wrong from their first word. Typing 37 lines of Go, 44 % of the texts as likely as 0.05 went on as
# the file does, 64 % of those as likely as 0.2, 87 % as 0.3.
UNLEARNED_CONFIDENCE = 0.2


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A cursor at which somebody types, or asks for alternatives."""

    document: Document
    offset: int
    trigger: Literal["automatic", "invoked"] = "automatic"
    selected_text: str = ""  # what the editor's popup would put from `selected_start` to the cursor
    selected_start: int | None = None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`text` in place of the characters from `start` to `end`, offsets in the document's text."""

    text: str
    start: int
    end: int
    confidence: float  # 0..1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request, and how."""

    suggestions: tuple[Suggestion, ...]
    ended: str  # in words: at which step it ended
    milliseconds: Mapping[str, float] = field(default_factory=dict)  # by stage
    verdicts: tuple[Verdict, ...] = ()  # of the filters on what came first
    finish: str = ""  # why the first generation ended; empty where none counted, as beside a line that is sure
    is_cut_short: bool = False  # a generation, not only the first, was ended by the deadline or cancelled
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_new_tokens: int = 0
    n_drafted_tokens: int = 0  # by the index, to be confirmed several at a time
    n_accepted_tokens: int = 0  # of these
    shares: tuple[Share, ...] = ()  # of model and index in each token of what came first


@dataclass(frozen=True, slots=True)
class _Place:
    """A request made ready for the model: the cursor as if the popup's text were typed."""

    cursor: Cursor
    prompt: Prompt
    multiline: bool


def complete(
    request: CompletionRequest,
    model: LoadedModel,
    settings: Settings,
    *,
    index: LiveIndex | None = None,
    cancelled: Callable[[], bool] = never,
    deadline: float | None = None,
) -> Outcome:
    """Suggestions for a cursor, the best first: one when nobody asked, `completion.candidates` when somebody did.

    `index`, where there is one, has a say in them. `deadline` is in seconds of `time.monotonic`. ValueError for an
    offset outside the text.
    """
    if not 0 <= request.offset <= len(request.document.text):
        raise ValueError(f"offset {request.offset} is outside a text of {len(request.document.text)} characters")
    clock = _Clock()
    with clock.stage("context"):
        inserted = _inserted(request)
        reason = None if inserted is None else _closed_gate(request)
    if inserted is None or reason is not None:
        return Outcome((), reason or "what the popup would insert does not fit the text at the cursor", clock.stages)
    with clock.stage("prompt"):
        place = _place(request.document, request.offset, inserted, model, settings, index)
    if place.cursor.is_overlong:
        return Outcome((), "the line is too long to be source code", clock.stages)
    with clock.stage("index"):
        opinion = _opinion(request, place, inserted, model, index)
        ranked = index.ranked(request.document, request.offset, inserted) if index is not None else None
    is_automatic = request.trigger == "automatic"
    task = Task(
        cursor=place.cursor,
        prompt=place.prompt,
        multiline=place.multiline,
        n_wanted=1 if is_automatic else settings.completion.candidates,
        is_automatic=is_automatic,
        # Whoever asks for suggestions is shown unsure ones too.
        min_confidence=_least_confidence(place.cursor.language, model, settings) if is_automatic else 0.0,
        max_new_tokens=settings.completion.max_new_tokens,
        deadline=deadline,
        cancelled=cancelled,
    )
    choice = choose(task, model, ranked, opinion)
    clock.stages.update(choice.milliseconds)
    suggestions = _suggestions(choice, request, inserted)
    generations = choice.generations
    return Outcome(
        suggestions=suggestions,
        ended="offered" if suggestions else choice.ended,
        milliseconds=clock.stages,
        verdicts=choice.verdicts,
        finish=generations[0].finish if generations else "",
        is_cut_short=any(each.finish in ("deadline", "cancelled") for each in generations),
        n_prompt_tokens=generations[0].n_prompt_tokens if generations else 0,
        n_cached_tokens=generations[0].n_cached_tokens if generations else 0,
        n_new_tokens=generations[0].n_new_tokens if generations else 0,
        n_drafted_tokens=opinion.n_drafted if opinion is not None else 0,
        n_accepted_tokens=opinion.n_accepted if opinion is not None else 0,
        shares=choice.shares,
    )


def prefill_ahead(
    document: Document,
    offset: int,
    model: LoadedModel,
    settings: Settings,
    *,
    index: LiveIndex | None = None,
    cancelled: Callable[[], bool] = never,
) -> None:
    """Reads the prompt of a cursor into the completion cache, as far as `cancelled` lets it, and readies the index.

    The index comes last: its thread would keep the interpreter from a question that is just arriving.
    """
    place = _place(document, min(max(offset, 0), len(document.text)), "", model, settings, index)
    if not place.cursor.is_overlong:
        model.completion_cache.advance(place.prompt.token_ids, n_keep=0, should_stop=cancelled)
    if index is not None and not cancelled():
        index.ranked(document, offset)


def _closed_gate(request: CompletionRequest) -> str | None:
    """Why nothing is to be offered whatever the model would say; None to go on."""
    text, offset = request.document.text, request.offset
    following = text[offset : offset + 1]
    if request.trigger == "automatic" and (following.isalnum() or following == "_"):
        return "the cursor stands before or inside a word"
    return None


def _least_confidence(language: Language, model: LoadedModel, settings: Settings) -> float:
    """What `minConfidence` asks for, and more in a language that the model that comes along has not learned."""
    from server.lm.model_folder import DEFAULT_MODEL

    least = settings.completion.min_confidence
    is_learned = language.grammar is not None or model.adapter is not None or model.name != DEFAULT_MODEL
    return least if is_learned or least <= 0 else max(least, UNLEARNED_CONFIDENCE)


def _inserted(request: CompletionRequest) -> str | None:
    """What the popup would add at the cursor; None when it would change what was typed."""
    if not request.selected_text:
        return ""
    start = request.selected_start
    if start is None:
        ends = range(min(len(request.selected_text), request.offset), 0, -1)
        before = request.document.text[: request.offset]
        start = request.offset - next((n for n in ends if before.endswith(request.selected_text[:n])), 0)
    typed = request.document.text[start : request.offset]
    return request.selected_text[len(typed) :] if request.selected_text.startswith(typed) else None


def _place(
    document: Document, offset: int, inserted: str, model: LoadedModel, settings: Settings, index: LiveIndex | None
) -> _Place:
    """The cursor, the prompt, and whether several lines are welcome."""
    text = document.text
    before = text[max(offset - MAX_ABOVE - 1, 0) : offset] + inserted
    cursor = cursor_between(before, text[offset : offset + MAX_BELOW + 1], document.language)
    # Off by default: the model that ships gains nothing (ARCHITECTURE.md, decision 30).
    snippets = index.snippets(document, offset) if index is not None and settings.index.snippets else ()
    context = context_at(document, offset, snippets, inserted)
    n_positions = model.engine.config.n_positions
    max_new_tokens = settings.completion.max_new_tokens
    prompt = completion_prompt(context, model.tokenizer, model.token_index, n_positions, max_new_tokens)
    wanted = settings.completion.multiline
    multiline = wanted == "always" or (wanted == "auto" and is_empty_block(cursor))
    return _Place(cursor, prompt, multiline)


def _opinion(
    request: CompletionRequest, place: _Place, inserted: str, model: LoadedModel, index: LiveIndex | None
) -> Opinion | None:
    """What the index has to say at the cursor."""
    if index is None:
        return None
    n_pending = len(place.prompt.pending)
    return index.opinion(
        request.document, request.offset, n_pending, model.tokenizer, inserted=inserted, multiline=place.multiline
    )


def _suggestions(choice: Choice, request: CompletionRequest, inserted: str) -> tuple[Suggestion, ...]:
    """What is offered, with the document's own line ends, each text once, as sure as its surest source."""
    text = request.document.text
    near = text[max(request.offset - MAX_ABOVE, 0) : request.offset + MAX_BELOW]
    start = request.offset - len(request.selected_text) + len(inserted)
    by_text: dict[str, Suggestion] = {}
    for candidate in choice.candidates:
        written = candidate.text.replace("\n", "\r\n") if "\r\n" in near else candidate.text
        whole = request.selected_text + written
        known, confidence = by_text.get(whole), confidence_of(candidate)
        confidence = max(confidence, known.confidence) if known is not None else confidence
        by_text[whole] = Suggestion(whole, start, request.offset, confidence)
    return tuple(by_text.values())


class _Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time that its body takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + 1000 * (time.perf_counter() - began)
