"""What is offered at a cursor: a line that the index knows, or what the model writes, whichever is likelier right.

The model reads the lines that the index finds likeliest, writes one of its own, and all are ranked together
(`server.ranking`). A line that is nearly sure is offered at once, without the model. Each text goes through the
filters; one that they hold back makes room for the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from server.filters.candidate import Candidate
from server.filters.confidence import confidence_of
from server.filters.pipeline import Filtered, Verdict, apply
from server.index.sources import Share
from server.lm.cursor import Cursor
from server.lm.decode import Decoder, Generation
from server.lm.prompt import Prompt
from server.lm.reader import Limits
from server.lm.stopping import stop_rule
from server.weighing import MAX_LINES, SURE, Bar, Option, expected, rank, weigh

if TYPE_CHECKING:
    from server.index.drafting import Drafter
    from server.index.lines import Line
    from server.lm.model import LoadedModel

MAX_ATTEMPTS = 2  # beginnings that the model tries where the filters hold the first back
LEAST = 1e-9  # probability


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


@dataclass(slots=True)
class Choice:
    """What came of a task."""

    candidates: tuple[Candidate, ...] = ()  # that passed the filters, the best first
    ended: str = ""  # in words, where nothing did
    verdicts: tuple[Verdict, ...] = ()  # on the best, or on the first that was held back
    generations: list[Generation] = field(default_factory=list)  # all that the model wrote
    shares: tuple[Share, ...] = ()  # of model and index in what is told of
    milliseconds: dict[str, float] = field(default_factory=dict)  # by stage


@dataclass(frozen=True, slots=True)
class _Judged:
    """One text, and what the filters made of it."""

    option: Option
    unfiltered: Candidate
    filtered: Filtered

    @property
    def worth(self) -> tuple[bool, float]:
        """Whether the filters left something, and how likely that is right, or would have been."""
        left = self.filtered.candidate
        return left is not None, confidence_of(left or self.unfiltered)


def choose(task: Task, model: LoadedModel, lines: Sequence[Line], drafter: Drafter | None) -> Choice:
    """The texts to offer, the likeliest first: one when nobody asked."""
    return _Choosing(task, model, lines, drafter).choice()


class _Choosing:
    """One task on its way."""

    def __init__(self, task: Task, model: LoadedModel, lines: Sequence[Line], drafter: Drafter | None) -> None:
        self._task, self._lines, self._choice, self._filters_ms = task, lines, Choice(), 0.0
        self._behind = task.cursor.line_suffix.rstrip()
        self._bar: Bar | None = None  # of what is written; None: all is written to its end
        self._decoder = Decoder(
            model.completion_cache,
            task.prompt,
            model.tokenizer,
            model.token_index,
            Limits(task.max_new_tokens, task.deadline, task.cancelled),
            stop_rule(task.cursor, multiline=task.multiline),
            # On a blank line something is to be written; a weak model is quick to end the text there instead.
            must_begin=task.cursor.is_blank_line,
            proposer=drafter,
            worth=lambda text, logprob: self._bar is None or self._bar.allows(text, logprob),
            expected=expected([line for line in lines if line.probability < SURE], task.min_confidence, self._behind),
        )

    def choice(self) -> Choice:
        """What is offered, and how it came about."""
        task, choice = self._task, self._choice
        judged = self._first_that_passes() if task.is_automatic else [*map(self._judged, self._all())]
        judged = [] if choice.ended else sorted(judged, key=lambda each: each.worth, reverse=True)
        passed = [each.filtered.candidate for each in judged if each.filtered.candidate is not None]
        choice.candidates = tuple(passed[: task.n_wanted])
        if judged:
            best = judged[0]
            choice.verdicts = best.filtered.verdicts
            choice.shares = _shares(best.option)
            choice.ended = _ending(best)
        choice.milliseconds["filters"] = self._filters_ms
        return choice

    def _first_that_passes(self) -> list[_Judged]:
        """The likeliest text that the filters let pass, alone; else all that they held back.

        The model is asked once no line is nearly sure, and asked again where nothing passes.
        """
        judged: list[_Judged] = []

        def passes(option: Option) -> bool:
            judged.append(self._judged(option))
            return judged[-1].filtered.candidate is not None

        sure = [Option(None, line, None, line.probability) for line in self._lines if line.probability >= SURE]
        if any(map(passes, sure[:MAX_LINES])):
            return judged[-1:]
        lines = self._weighed([line for line in self._lines if line.probability < SURE])
        written = self._decoder.attempts(MAX_ATTEMPTS)
        while (generation := self._written(written, lines)) is not None:
            for option in rank(lines, [generation], self._behind):
                if option.written is not None and generation.finish == "unlikely":
                    if not judged or not lines:  # no line that was held back has kept it from being written
                        return [*judged, self._given_up(option)]
                    written = self._decoder.attempts(MAX_ATTEMPTS)  # what was written is not computed again
                    break
                if passes(option):
                    return judged[-1:]
                if judged[-1].filtered.verdicts[-1].filter == "confidence":
                    return judged  # what is less likely is not likely enough either
            else:
                if not generation.text:
                    break  # nothing is to be written here
            lines = []
        return judged

    def _all(self) -> list[Option]:
        """Every text that there is, the likeliest first."""
        n = self._task.n_wanted
        lines = self._weighed(self._lines[:n])
        written = self._decoder.alternatives(n)
        return rank(lines, list(self._heard(iter(written))), self._behind)

    def _weighed(self, lines: Sequence[Line]) -> list[Option]:
        """The likeliest lines with what the model thinks of them."""
        began = time.perf_counter()
        weighed = weigh(lines, self._decoder, self._task.min_confidence, self._behind)
        spent_ms = 1000 * (time.perf_counter() - began)
        self._choice.milliseconds["lines"] = spent_ms - self._decoder.prefill_ms  # whoever comes first reads the prompt
        return weighed

    def _written(self, generations: Iterator[Generation], lines: Sequence[Option]) -> Generation | None:
        """What the model writes next beside `lines`; None where there is no more, or nobody waits for it."""
        cursor = self._task.cursor
        # What stands behind the cursor may shorten a text, and what is left may be likely enough.
        self._bar = None if cursor.line_suffix.strip() else Bar.over(lines, self._task.min_confidence)
        return next(self._heard(generations), None)

    def _heard(self, generations: Iterator[Generation]) -> Iterator[Generation]:
        """What the model writes, until nobody waits for it any more."""
        choice = self._choice
        for generation in generations:
            choice.generations.append(generation)
            choice.milliseconds["prefill"] = choice.generations[-1].prefill_ms
            choice.milliseconds["decode"] = sum(each.decode_ms for each in choice.generations)
            if generation.finish == "cancelled":  # the filters would keep the worker from whoever waits
                choice.ended = "cancelled while the model was at work"
                return
            yield generation

    def _given_up(self, option: Option) -> _Judged:
        """A text that was too unlikely before it had ended."""
        candidate = self._candidate(option)
        reason = f"the confidence fell below {self._task.min_confidence:.2f} while the model wrote"
        return _Judged(option, candidate, Filtered(None, (Verdict("confidence", "rejected", reason),)))

    def _judged(self, option: Option) -> _Judged:
        """A text with what the filters made of it."""
        began = time.perf_counter()
        candidate = self._candidate(option)
        judged = _Judged(option, candidate, apply(candidate))
        self._filters_ms += 1000 * (time.perf_counter() - began)
        return judged

    def _candidate(self, option: Option) -> Candidate:
        task, written = self._task, option.written
        candidate = Candidate(
            text="" if option.line is None else option.line.text,
            cursor=task.cursor,
            multiline=task.multiline,
            is_automatic=task.is_automatic,
            min_confidence=task.min_confidence,
        )
        if written is None:
            logprob = math.log(max(option.probability, LEAST))
            return replace(candidate, token_texts=(candidate.text,), token_logprobs=(logprob,))
        candidate = replace(
            candidate,
            text=written.text,
            finish=written.finish,
            token_texts=written.token_texts,
            token_logprobs=written.token_logprobs,
            end_logprob=written.end_logprob,
        )
        if option.model is None or not option.probability:
            return candidate
        return replace(candidate, ranking_logprob=math.log(option.probability) - option.model)


def _shares(option: Option) -> tuple[Share, ...]:
    """How much of a text is the index's: its part of what both say for it."""
    line, written = option.line, option.written
    share = 0.0
    if line is not None:
        by_model = 0.0 if option.model is None else math.exp(option.model)
        share = line.probability / (line.probability + by_model)
    sources = () if line is None else line.sources
    pieces = (line.text,) if written is None and line is not None else written.token_texts if written else ()
    return tuple(Share(piece, share, sources) for piece in pieces)


def _ending(judged: _Judged) -> str:
    """At which step it ended, in words, where nothing is offered."""
    written = judged.option.written
    if written is not None and not written.text:
        return "the deadline came before the first word" if written.finish == "deadline" else "the model ended it here"
    last = judged.filtered.verdicts[-1]
    return f"the filter for {last.filter} held it back: {last.reason}"
