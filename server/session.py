"""What a server knows from one request to the next: settings, the loaded model, its worker, and how well it serves.

Settings and model are swapped whole, between jobs. Which question is still to be answered is known to its `Turns`.
Everything here runs on the event loop but the jobs themselves. Knows nothing of the protocol.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from server.adapter_age import AdapterAge, AdapterAges
from server.adapter_choice import chosen_adapter, content_of
from server.explaining import Explaining
from server.figures import Figures
from server.indexing import Indexing
from server.lm.errors import UserError
from server.loading import Load, ModelChoice, ModelLoader, load_chosen
from server.question import Question, barred, work_on
from server.repository.barred import is_barred_path
from server.scheduler import Scheduler, Urgency
from server.settings import Settings
from server.suggestion_cache import Offer, SuggestionCache
from server.turns import Turn, Turns

if TYPE_CHECKING:
    from server.completion import Outcome, Suggestion
    from server.lm.context import Document
    from server.lm.model import LoadedModel

logger = logging.getLogger(__name__)

MAX_REMEMBERED_OFFERS = 256
# The model is at work before the keys have rested: with reading ahead in that time anyway, all that is lost when one
# more key comes is a token or two. A longer rest is one that somebody has asked for, to save work.
HEAD_START_S = 0.03


AdapterWanted = tuple[Path | None, str | None, str | None]  # its folder, what is in it, what is wrong with the setting


class Session:
    """Settings, model, worker, remembered suggestions and figures of one server."""

    def __init__(self, load: Load = load_chosen, indexing: Indexing | None = None) -> None:
        self.settings = Settings()
        self.settings_problems: tuple[str, ...] = ()
        self.figures = Figures()
        self._last_question: Question | None = None
        self.last_outcome: Outcome | None = None  # of the last question, if it came so far
        self.last_end = "nothing was asked yet"  # where the last question ended, in words
        self._loader = ModelLoader(load)
        self._worker = Scheduler("loracle-model")
        self.explaining = Explaining(self._worker)
        self.indexing = indexing or Indexing()
        self._cache = SuggestionCache()
        self.roots: tuple[Path, ...] = ()
        self._adapter: AdapterWanted = (None, None, None)  # as the model was chosen last
        self._adapter_ages = AdapterAges()
        self._turns = Turns()
        self._read_ahead: tuple[Document, int] | None = None  # where prefill went last, or is to go
        self._offered: OrderedDict[str, bool] = OrderedDict()  # id -> whether it was accepted
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()  # id of an offer that was the best -> how it came
        self._n_offers = 0

    @property
    def model(self) -> LoadedModel | None:
        """The model that serves; None while the first is being loaded, and if that failed."""
        return self._loader.model

    @property
    def model_problem(self) -> str | None:
        """Why the model that the settings ask for does not serve, for the user."""
        return self._loader.problem

    def configure(self, settings: Settings, problems: tuple[str, ...]) -> asyncio.Task[None] | None:
        """Puts settings in force. If they ask for another model, a task that ends when it serves or has failed."""
        self.settings, self.settings_problems = settings, problems
        self._cache.clear()
        self.indexing.configure(settings)
        return self.choose_model()

    def use_roots(self, roots: tuple[Path, ...]) -> None:
        """The workspace folders from now on; the first is the main one, whose adapter serves."""
        self.roots = roots
        self.explaining.workspace_roots = roots
        self.indexing.use_roots(roots)

    def choose_model(self) -> asyncio.Task[None] | None:
        """Looks which model and adapter are to serve; if others than now, a task that ends when they do or failed."""
        settings = self.settings
        self._adapter = self._wanted_adapter()
        choice = ModelChoice(settings.model, settings.engine, settings.threads, *self._adapter)
        loading = self._loader.choose(choice)
        if loading is not None:
            loading.add_done_callback(self._catch_up)
        return loading

    @property
    def loading(self) -> asyncio.Task[None] | None:
        """The task that loads a model; None when none is loaded."""
        return self._loader.loading

    def has_other_adapter(self) -> bool:
        """Whether another adapter is to serve than when the model was chosen last."""
        return self._wanted_adapter() != self._adapter

    async def adapter_age(self) -> AdapterAge | None:
        """How far the main folder has moved on since the adapter that serves was made.

        None where no adapter serves, and as long as it is not known.
        """
        model = self.model
        if model is None or model.adapter is None or not self.roots:
            return None
        return await self._adapter_ages.age(self.roots[0], model.adapter, self.settings.exclude)

    @property
    def adapter_content(self) -> str | None:
        """What tells the adapter that was chosen last from others in its folder."""
        return self._adapter[1]

    def _wanted_adapter(self) -> AdapterWanted:
        try:
            folder = chosen_adapter(self.settings.adapter, self.roots)
        except UserError as error:
            return None, None, str(error)
        return folder, content_of(folder) if folder is not None else None, None

    def _catch_up(self, _: object) -> None:
        """Reads what could not be read ahead as there was no model."""
        if self._read_ahead is not None:
            (document, offset), self._read_ahead = self._read_ahead, None
            self.prefill(document, offset)

    async def suggest(self, question: Question) -> tuple[Offer, ...]:
        """What to offer at a cursor, the best first; empty as well when a newer question or an edit came in between."""
        self.figures.n_requests += 1
        self._last_question, self.last_outcome = question, None
        try:
            with self._turns.taken(question.document.uri, question.asked_at) as turn:
                offers = await self._answer(question, turn)
        except asyncio.CancelledError:
            self.figures.n_cancelled += 1
            self._end(question, "the editor cancelled the request")
            raise
        except Exception:
            self._end(question, "it failed; the log of the server says why")
            raise
        elapsed_ms = 1000 * (time.monotonic() - question.asked_at)
        if turn.is_over:
            self.figures.n_superseded += 1
            self._end(question, "a newer request or an edit took its place")
            offers = ()
        else:
            self._count(offers)
        logger.info("suggest: %d offers in %.0f ms: %s", len(offers), elapsed_ms, self.last_end)
        return offers

    async def _answer(self, question: Question, turn: Turn) -> tuple[Offer, ...]:
        """The steps to an answer; `last_end` says at which of them it ended."""
        document, settings = question.document, self.settings.for_language(question.document.language.id)
        n_wanted = settings.completion.candidates if question.invoked else 1
        if (reason := barred(question, settings)) is not None:
            self.last_end = reason
            return ()
        model = self.model
        if model is None:
            self._read_ahead = (document, question.offset)  # read as soon as the model is there
            self.last_end = self.model_problem or "the model is still being loaded"
            return ()
        key: Hashable = (model.fingerprint, model.precision, document.path, document.language.id, settings.completion)
        index = self.indexing.index_for(document)
        searched = None if index is None else index.version_beside(document.path)
        key = (key, question.selected_text, question.selected_start, searched)
        known = self._cache.find(document.uri, document.text, question.offset, key, invoked=question.invoked)
        if known is not None:
            self.figures.n_typed_through += 1
            from server.completion import Outcome

            self.last_end = "known from an earlier answer"
            told = self._outcomes.get(known[0].id) if known else None  # what is typed along came about as it did then
            verdicts, shares = (told.verdicts, told.shares) if told is not None else ((), ())
            suggestions = tuple(offer.suggestion for offer in known[:n_wanted])
            self.last_outcome = Outcome(suggestions, self.last_end, verdicts=verdicts, shares=shares)
            return known[:n_wanted]
        rest_s = 0.0 if question.invoked else turn.still_to_rest_s(question.changed_at, settings.completion.debounce_ms)
        rested_at = time.monotonic() + rest_s
        if rest_s > HEAD_START_S:
            self.prefill(document, question.offset)
            if await turn.over_within(rest_s - HEAD_START_S):
                return ()
        deadline = rested_at + n_wanted * settings.completion.deadline_ms / 1000
        work = work_on(question, model, settings, index, deadline)
        outcome = await turn.result(self._worker.submit(Urgency.COMPLETION, document.uri, work))
        if outcome is None:
            return ()
        self._end(question, outcome.ended, outcome)
        offers = tuple(self._offer(suggestion) for suggestion in outcome.suggestions[:n_wanted])
        self._outcomes.update((offer.id, outcome) for offer in offers[:1])  # it tells of the best alone
        while len(self._outcomes) > MAX_REMEMBERED_OFFERS:
            self._outcomes.popitem(last=False)
        if not outcome.is_cut_short:  # with more time the same question gets more
            self._cache.store(document.uri, document.text, question.offset, key, offers, invoked=question.invoked)
        if (early_s := rested_at - time.monotonic()) > 0 and await turn.over_within(early_s):
            return ()
        if outcome.n_prompt_tokens:
            self.figures.n_model_answers += 1
            self.figures.n_prompt_tokens += outcome.n_prompt_tokens
            self.figures.n_cached_tokens += outcome.n_cached_tokens
        self.figures.latencies_ms.append(1000 * (time.monotonic() - question.asked_at))
        return offers

    def _end(self, question: Question, how: str, outcome: Outcome | None = None) -> None:
        """Keeps how a question ended, unless another was asked meanwhile."""
        if question is self._last_question:
            self.last_end, self.last_outcome = how, outcome

    def outdate(self, uri: str) -> None:
        """Ends the question about a document that has not been answered yet: there is an edit or a newer one."""
        self._turns.outdate(uri)

    def forget(self, uri: str) -> None:
        """Drops what is kept for a document that was closed."""
        self.outdate(uri)
        self._cache.forget(uri)
        if self._read_ahead is not None and self._read_ahead[0].uri == uri:
            self._read_ahead = None

    def prefill(self, document: Document, offset: int) -> None:
        """Lets the worker read up to a cursor where a question is likely, unless somebody types elsewhere."""
        if self._turns.is_typing_elsewhere(document.uri):
            return
        settings = self.settings.for_language(document.language.id)
        completion = settings.completion
        is_wanted = completion.enabled and completion.trigger == "automatic"
        if not is_wanted or is_barred_path(document.path, settings.exclude):
            return
        before, self._read_ahead = self._read_ahead, (document, offset)
        model = self.model
        if model is None or (before is not None and before[0].text is document.text and before[1] == offset):
            return

        index = self.indexing.index_for(document)

        def work(cancelled: Callable[[], bool]) -> None:
            from server.completion import prefill_ahead

            prefill_ahead(document, offset, model, settings, index=index, cancelled=cancelled)

        job = self._worker.submit(Urgency.PREFILL, "prefill", work)
        job.future.add_done_callback(_log_failure)

    @property
    def is_busy(self) -> bool:
        """Whether the model is at work, reading ahead included."""
        return not self._worker.is_idle()

    def accept(self, offer_id: str) -> bool:
        """Counts an offer as accepted; False if it is unknown or was counted before."""
        if self._offered.get(offer_id) is not False:
            return False
        self._offered[offer_id] = True
        self.figures.n_accepted += 1
        return True

    def close(self) -> None:
        """Drops all work and takes no more."""
        self._turns.close()
        self._worker.close()
        self.explaining.close()
        self.indexing.shut_down()

    def join(self, timeout_s: float) -> bool:
        """Waits for the worker to end after `close`; False if it is still at work then."""
        return self._worker.join(timeout_s)

    def _offer(self, suggestion: Suggestion) -> Offer:
        self._n_offers += 1
        return Offer(str(self._n_offers), suggestion)

    def _count(self, offers: Iterable[Offer]) -> None:
        for offer in offers:
            if offer.id not in self._offered:
                self._offered[offer.id] = False
                self.figures.n_shown += 1
        while len(self._offered) > MAX_REMEMBERED_OFFERS:
            self._offered.popitem(last=False)


def _log_failure(future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("reading ahead failed", exc_info=error)
