"""What is offered at a cursor: what the model writes, or a line of the index that is as likely.

Both say how likely the line ends exactly so. The lines are ranked while the model reads; one that is nearly sure is
offered at once, and the model stops. Each text goes through the filters; one that they hold back makes room for the
next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from server.filters.candidate import Candidate
from server.filters.pipeline import Verdict
from server.index.line_weights import SURE, TIMES_AS_LIKELY, bar_for
from server.judging import Judge, Judged, Task
from server.lm.decode import Generation, Worth, alternatives, attempts
from server.lm.stopping import stop_rule

if TYPE_CHECKING:
    from server.index.lines import Line
    from server.index.opinion import Opinion, Share
    from server.lm.model import LoadedModel

MAX_ATTEMPTS = 2  # beginnings that the model tries where the filters hold the first back
MAX_LINES = 3  # of the index that the filters look at, set by hand: each may cost a parse
_WITHOUT_TEXT = {
    "deadline": "the deadline came before the first word",
    "length": "there was no room for a word (completion.maxNewTokens, or the model's longest text)",
}


@dataclass(slots=True)
class Choice:
    """What came of a task."""

    candidates: tuple[Candidate, ...] = ()  # that passed the filters, the best first
    ended: str = ""  # in words, where nothing did
    verdicts: tuple[Verdict, ...] = ()  # on the best, or on the first that was held back
    generations: list[Generation] = field(default_factory=list)  # all that the model wrote, unless a line was sure
    shares: tuple[Share, ...] = ()  # of model and index in what is told of
    milliseconds: dict[str, float] = field(default_factory=dict)  # by stage


def choose(task: Task, model: LoadedModel, ranked: Future[list[Line]] | None, opinion: Opinion | None) -> Choice:
    """The texts to offer, the best first: one when nobody asked. `ranked` are the index's lines, when they are."""
    choice, judge = Choice(), Judge(task)
    if task.is_automatic:
        judged = _first_that_passes(task, model, ranked, opinion, choice, judge)
    else:
        written = [each for each in _written(task, model, opinion, choice) if not _is_given_up(each, choice)]
        lines = ranked.result()[: task.n_wanted] if ranked is not None and not choice.ended else []
        judged = [*map(judge, lines), *map(judge, written)] if not choice.ended else []
    judged.sort(key=_rank, reverse=True)
    passed = [each.filtered.candidate for each in judged if each.filtered.candidate is not None]
    choice.candidates = tuple(passed[: task.n_wanted])
    if judged:
        best = judged[0]
        choice.verdicts = best.filtered.verdicts
        choice.shares = _shares(best.source, opinion)
        choice.ended = _ending(best)
    choice.milliseconds["filters"] = judge.spent_ms
    return choice


def _first_that_passes(
    task: Task,
    model: LoadedModel,
    ranked: Future[list[Line]] | None,
    opinion: Opinion | None,
    choice: Choice,
    judge: Judge,
) -> list[Judged]:
    """The best text that the filters let pass, alone; else all that they held back.

    The model writes until a line is found to be nearly sure, and again where its text is held back.
    """
    judged: list[Judged] = []
    waiting = _Waiting(ranked, task.min_confidence)

    def passes(source: Line | Generation) -> bool:
        judged.append(judge(source))
        return judged[-1].filtered.candidate is not None

    def is_decided() -> bool:
        """Whether a line that is nearly sure passes; each is looked at once, as soon as they are ranked."""
        return waiting.is_ranked and any(map(passes, waiting.at_least(SURE)))

    if is_decided():
        return judged[-1:]
    decided = False

    def is_stopped() -> bool:
        nonlocal decided
        decided = decided or is_decided()
        return decided or task.cancelled()

    for generation in _written(replace(task, cancelled=is_stopped), model, opinion, choice):
        if not decided and _is_given_up(generation, choice):
            return []
        # The model may have been quicker: what is offered does not depend on it.
        if decided or any(map(passes, waiting.at_least(SURE))):
            choice.generations.clear()
            return judged[-1:]
        # Of a line that has not ended nobody knows how likely the whole is: one of the index that is likely enough goes
        # first.
        has_line = generation.finish == "stop" or "\n" in generation.text.lstrip()
        bar = bar_for(judge.confidence(generation)) if has_line else task.min_confidence
        if any(map(passes, waiting.at_least(bar))):
            return judged[-1:]
        if generation.finish == "unlikely":  # the filters may cut off what made it so
            if passes(replace(generation, finish="stop")):
                return judged[-1:]
            judged[-1] = judge.given_up(generation)
            break
        if passes(generation):
            return judged[-1:]
        if not generation.text or judged[-1].filtered.verdicts[-1].filter == "confidence":
            break  # nothing is to be written here, or nothing better will come
    return judged[-1:] if any(map(passes, waiting.at_least(-1.0))) else judged


def _rank(judged: Judged) -> tuple[bool, float]:
    """By this the texts are offered when somebody asked for several."""
    is_left, confidence = judged.worth
    return is_left, confidence * (TIMES_AS_LIKELY if isinstance(judged.source, Generation) else 1.0)


class _Waiting:
    """The lines that no filter has looked at, the likeliest first; they may have yet to be ranked."""

    def __init__(self, ranked: Future[list[Line]] | None, min_confidence: float) -> None:
        self._ranked, self._least = ranked, min_confidence
        self._lines: list[Line] | None = None if ranked is not None else []

    @property
    def is_ranked(self) -> bool:
        """Whether asking for them waits for nothing."""
        return self._ranked is None or self._ranked.done()

    def at_least(self, probability: float) -> Iterator[Line]:
        """Takes those that are as likely; waits until they are ranked."""
        if self._lines is None:
            assert self._ranked is not None
            lines = self._ranked.result()
            # Of lines that are too unlikely one is enough, to be told of.
            self._lines = [line for line in lines[:MAX_LINES] if line.probability >= self._least] or lines[:1]
        while self._lines and self._lines[0].probability >= probability:
            yield self._lines.pop(0)


def _is_given_up(generation: Generation, choice: Choice) -> bool:
    """Whether nobody waits for this text any more: the filters would keep the worker from whoever does."""
    if generation.finish == "cancelled":
        choice.ended = "cancelled while the model was at work"
    return generation.finish == "cancelled"


def _written(task: Task, model: LoadedModel, opinion: Opinion | None, choice: Choice) -> Iterator[Generation]:
    """What the model writes: attempts where nobody asked, each when it is wanted, else alternatives."""
    found: Iterable[Generation]
    stop = stop_rule(task.cursor, multiline=task.multiline)
    # On a blank line something is to be written; a weak model is quick to end the text there instead.
    must_begin = task.cursor.is_blank_line
    if task.is_automatic:
        found = attempts(
            model.completion_cache,
            task.prompt,
            model.tokenizer,
            model.token_index,
            MAX_ATTEMPTS,
            stop=stop,
            max_new_tokens=task.max_new_tokens,
            deadline=task.deadline,
            cancelled=task.cancelled,
            must_begin=must_begin,
            mixer=opinion,
            proposer=opinion,
            worth=_worth(task),
        )
    else:
        found = alternatives(
            model.completion_cache,
            task.prompt,
            model.tokenizer,
            model.token_index,
            task.n_wanted,
            stop=stop,
            max_new_tokens=task.max_new_tokens,
            deadline=task.deadline,
            cancelled=task.cancelled,
            must_begin=must_begin,
            mixer=opinion,
            proposer=opinion,
        )
    for generation in found:
        choice.generations.append(generation)
        choice.milliseconds["prefill"] = choice.generations[0].prefill_ms
        choice.milliseconds["decode"] = sum(each.decode_ms for each in choice.generations)
        yield generation


def _worth(task: Task) -> Worth | None:
    """Until a line is less likely than what is shown; None where what stands behind the cursor may shorten it first."""
    if task.min_confidence <= 0 or task.cursor.line_suffix.strip():
        return None
    least = math.log(task.min_confidence)
    return lambda logprob: logprob >= least


def _shares(source: Line | Generation, opinion: Opinion | None) -> tuple[Share, ...]:
    """How much of a text is the index's."""
    from server.index.opinion import Share

    if not isinstance(source, Generation):
        return (Share(source.text, 1.0, source.sources),)
    return tuple(opinion.shares(source.token_texts)) if opinion is not None else ()


def _ending(judged: Judged) -> str:
    """At which step it ended, in words, where nothing is offered."""
    source = judged.source
    if isinstance(source, Generation) and not source.text:
        return _WITHOUT_TEXT.get(source.finish, "the model ended it here")
    last = judged.filtered.verdicts[-1]
    return f"the filter for {last.filter} held it back: {last.reason}"
