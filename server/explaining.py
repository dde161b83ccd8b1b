"""Questions about code on their way to an answer: facts from threads of their own, sentences from the model's.

A hover never waits longer than it may: its sentence is written to the end all the same, for the next hover, whenever
the model has nothing more urgent to do. Runs on the event loop. Knows nothing of the protocol.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from server.repository.barred import is_barred_path
from server.scheduler import Job, Scheduler, Urgency
from server.settings import HoverSettings

if TYPE_CHECKING:
    from server.explanation import Explainer, Explanation
    from server.facts import Facts, Subject
    from server.lm.context import Document
    from server.lm.model import LoadedModel
    from server.sentence import Sentence

logger = logging.getLogger(__name__)

T = TypeVar("T")

EXPLAIN_LIMIT_S = 20.0  # for the sentence of somebody who asked for it and watches
FACTS_LIMIT_S = 5.0  # then, for other files and installed packages; jedi on a cold disk needs a second or two


@dataclass(slots=True, eq=False)
class _Writing:
    """A sentence that is being written, for whoever hovers over its subject."""

    subject: Subject
    model: LoadedModel
    job: Job[Sentence | None]
    n_waiting: int = 0


class Explaining:
    """The explainer of one editor's workspaces, its threads, and the sentence that is being written."""

    def __init__(self, worker: Scheduler) -> None:
        self.workspace_roots: tuple[Path, ...] = ()  # to be set before the first question; the first is the main one
        self._worker = worker  # the model's
        self._reader = Scheduler("loracle-facts")
        self._patient_reader = Scheduler("loracle-explain")  # a command may take seconds, which no hover waits for
        self._lock = threading.Lock()  # guards the next
        self._explainer: Explainer | None = None  # made off the event loop, where its imports keep nobody waiting
        self._writing: _Writing | None = None
        self._n_explained = 0

    def warm_up(self) -> None:
        """Lets the static analysis start, so that the first hover need not wait for it."""
        job = self._reader.submit(Urgency.PREFILL, "warm up", lambda _: self._ready().warm_up())
        job.future.add_done_callback(_log_failure)

    async def hover(
        self,
        document: Document,
        offset: int,
        model: LoadedModel | None,
        settings: HoverSettings,
        exclude: tuple[str, ...] = (),
    ) -> Explanation | None:
        """Facts on the name at `offset`, with a sentence if one comes in time; None where there is nothing to say.

        None as well for a hover that a newer one in the same document has overtaken. `exclude` are globs of files that
        stay out of the model.
        """
        deadline = time.monotonic() + settings.deadline_ms / 1000

        def look_up(_: Callable[[], bool]) -> Facts | None:
            return self._ready().facts_at(document, offset, max(deadline - time.monotonic(), 0.0))

        facts = await _result(self._reader.submit(Urgency.EXPLANATION, f"hover {document.uri}", look_up))
        if facts is None:
            return None
        from server.explanation import (
            explanation_of,
            in_force,
            wanted_subject,
        )  # loaded by the reader's thread just now

        settings = in_force(settings, model)
        subject = wanted_subject(facts, settings)
        sentence = None
        if model is not None and subject is not None and self._may_be_read(document.path, subject, exclude):
            sentence = await self._sentence_in_time(document.uri, subject, model, deadline)
        return explanation_of(facts, sentence, always=settings.generate == "always")

    async def explain(
        self,
        document: Document,
        start: int,
        end: int,
        model: LoadedModel | None,
        settings: HoverSettings,
        exclude: tuple[str, ...] = (),
    ) -> Explanation | None:
        """What is to be said about a place or a selection because somebody asks; None only at the end of the server.

        `exclude` are globs of files that stay out of the model.
        """
        self._n_explained += 1
        key = f"command {self._n_explained}"  # nobody else's
        facts_deadline = time.monotonic() + FACTS_LIMIT_S

        def look_up(_: Callable[[], bool]) -> tuple[Facts, Subject | None]:
            from server.explanation import asked_about

            facts = None
            if start == end:
                facts = self._ready().facts_at(document, start, max(facts_deadline - time.monotonic(), 0.0))
            return asked_about(document, start, end, facts)

        found = await _result(self._patient_reader.submit(Urgency.EXPLANATION, key, look_up))
        if found is None:
            return None
        from server.explanation import explanation_of, in_force

        facts, subject = found
        settings = in_force(settings, model)
        sentence = None
        if settings.generate == "never" or (subject and not self._may_be_read(document.path, subject, exclude)):
            model = None
        if model is not None and subject is not None:
            write = partial(self._ready().sentence_on, subject, model, deadline=time.monotonic() + EXPLAIN_LIMIT_S)
            job = self._worker.submit(Urgency.EXPLANATION, key, lambda cancelled: write(cancelled=cancelled))
            sentence = await _result(job)
        return explanation_of(facts, sentence, always=settings.generate == "always", subject=subject)

    def close(self) -> None:
        """Drops all questions and ends the static analysis."""
        self._reader.close()
        self._patient_reader.close()
        if self._explainer is not None:
            self._explainer.close()

    def _may_be_read(self, path: str, subject: Subject, exclude: tuple[str, ...]) -> bool:
        """Whether the model may see `subject`, which was asked for in the file at `path`."""
        return not any(is_barred_path(each, exclude) for each in (path, *self._paths(subject.path)))

    def _paths(self, path: str) -> list[str]:
        """A path as it is, and relative to each workspace folder that holds it: globs are meant so."""
        inner = [Path(path).relative_to(root) for root in self.workspace_roots if Path(path).is_relative_to(root)]
        return [path, *(each.as_posix() for each in inner)]

    async def _sentence_in_time(
        self, uri: str, subject: Subject, model: LoadedModel, deadline: float
    ) -> Sentence | None:
        """The sentence on `subject` if it comes until `deadline`; it is written on for the next hover if not.

        A hover that is cancelled ends the writing, unless another one waits for it.
        """
        writing = self._written_for(uri, subject, model)
        writing.n_waiting += 1
        written = asyncio.wrap_future(writing.job.future)
        is_cancelled = False
        try:
            await asyncio.wait([written], timeout=max(deadline - time.monotonic(), 0.0))
        except asyncio.CancelledError:
            is_cancelled = True
            raise
        finally:
            writing.n_waiting -= 1
            if is_cancelled and writing.n_waiting == 0:
                writing.job.cancel()
        return _sentence_of(written) if written.done() else None

    def _written_for(self, uri: str, subject: Subject, model: LoadedModel) -> _Writing:
        """The sentence that is being written on `subject` for an earlier hover, else a new one."""
        writing = self._writing
        is_same = writing is not None and (writing.subject, writing.model) == (subject, model)
        if writing is not None and is_same and not writing.job.future.done():
            return writing
        explainer = self._ready()
        job = self._worker.submit(
            Urgency.EXPLANATION,
            f"hover {uri}",
            lambda cancelled: explainer.sentence_on(subject, model, cancelled=cancelled),
        )
        self._writing = _Writing(subject, model, job)
        return self._writing

    def _ready(self) -> Explainer:
        """The explainer; slow at the first call."""
        with self._lock:
            if self._explainer is None:
                from server.explanation import Explainer

                self._explainer = Explainer(next(iter(self.workspace_roots), None))
            return self._explainer


async def _result(job: Job[T]) -> T | None:
    """What a job gives; cancelling the wait cancels the job."""
    try:
        return await asyncio.wrap_future(job.future)
    except asyncio.CancelledError:
        job.cancel()
        raise


def _sentence_of(written: asyncio.Future[Sentence | None]) -> Sentence | None:
    """What was written; a failure costs the hover its sentence and not its facts."""
    if (error := written.exception()) is not None:
        logger.error("writing a sentence failed", exc_info=error)
        return None
    return written.result()


def _log_failure(future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("starting the static analysis failed", exc_info=error)
