"""Questions about code on their way to an answer: facts from a thread of their own, sentences from the model's.

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
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

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


class Explaining:
    """The explainer of one workspace, its thread, and the sentence that is being written."""

    def __init__(self, worker: Scheduler) -> None:
        self.workspace_root: Path | None = None  # to be set before the first question
        self._worker = worker  # the model's
        self._reader = Scheduler("loracle-facts")
        self._lock = threading.Lock()  # guards the next
        self._explainer: Explainer | None = None  # made off the event loop, where its imports keep nobody waiting
        self._writing: tuple[Subject, LoadedModel, Job[Sentence | None]] | None = None
        self._n_explained = 0

    def warm_up(self) -> None:
        """Lets the static analysis start, so that the first hover need not wait for it."""
        job = self._reader.submit(Urgency.PREFILL, "warm up", lambda _: self._ready().warm_up())
        job.future.add_done_callback(_log_failure)

    async def hover(
        self, document: Document, offset: int, model: LoadedModel | None, settings: HoverSettings
    ) -> Explanation | None:
        """Facts on the name at `offset`, with a sentence if one comes in time; None where there is nothing to say.

        None as well for a hover that a newer one in the same document has overtaken.
        """
        deadline = time.monotonic() + settings.deadline_ms / 1000
        facts = await self._facts(document, offset, f"hover {document.uri}", deadline)
        if facts is None:
            return None
        from server.explanation import explanation_of, wanted_subject  # loaded by the reader's thread just now

        subject = wanted_subject(facts, settings)
        sentence = None
        if subject is not None and model is not None:
            written = asyncio.wrap_future(self._sentence(document.uri, subject, model).future)
            try:
                await asyncio.wait([written], timeout=max(deadline - time.monotonic(), 0.0))
            except asyncio.CancelledError:
                self._stop_writing()
                raise
            sentence = _sentence_of(written) if written.done() else None
        return explanation_of(facts, sentence, always=settings.generate == "always")

    async def explain(
        self, document: Document, start: int, end: int, model: LoadedModel | None, settings: HoverSettings
    ) -> Explanation | None:
        """What is to be said about a place or a selection because somebody asks; None only at the end of the server."""
        self._n_explained += 1
        key = f"command {self._n_explained}"  # nobody else's
        facts = None
        if start == end:
            facts = await self._facts(document, start, key, time.monotonic() + FACTS_LIMIT_S)
        deadline = time.monotonic() + EXPLAIN_LIMIT_S

        def work(cancelled: Callable[[], bool]) -> Explanation:
            from server.explanation import explain

            return explain(
                document,
                start,
                model,
                settings,
                cancelled=cancelled,
                deadline=deadline,
                always=settings.generate == "always",
                end=end,
                explainer=self._ready(),
                facts=facts,
            )

        # Without a model there is only reading to do.
        return await _result(
            (self._worker if model is not None else self._reader).submit(Urgency.EXPLANATION, key, work)
        )

    def close(self) -> None:
        """Drops all questions and ends the static analysis."""
        self._reader.close()
        if self._explainer is not None:
            self._explainer.close()

    async def _facts(self, document: Document, offset: int, key: str, deadline: float) -> Facts | None:
        def work(_: Callable[[], bool]) -> Facts | None:
            return self._ready().facts_at(document, offset, max(deadline - time.monotonic(), 0.0))

        return await _result(self._reader.submit(Urgency.EXPLANATION, key, work))

    def _sentence(self, uri: str, subject: Subject, model: LoadedModel) -> Job[Sentence | None]:
        """The sentence on `subject`: the one that is being written for an earlier hover, else a new one."""
        if self._writing is not None and self._writing[:2] == (subject, model) and not self._writing[2].future.done():
            return self._writing[2]
        explainer = self._ready()
        job = self._worker.submit(
            Urgency.EXPLANATION,
            f"hover {uri}",
            lambda cancelled: explainer.sentence_on(subject, model, cancelled=cancelled),
        )
        self._writing = (subject, model, job)
        return job

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing[2].cancel()
            self._writing = None

    def _ready(self) -> Explainer:
        """The explainer; slow at the first call."""
        with self._lock:
            if self._explainer is None:
                from server.explanation import Explainer

                self._explainer = Explainer(self.workspace_root)
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
