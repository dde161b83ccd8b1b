"""The model that serves: loaded in the background, swapped whole, and the reason when there is none.

The former model serves on while another is loaded, and if that one fails. Knows nothing of what a model is used for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from server.lm.errors import UserError

if TYPE_CHECKING:
    from server.lm.model import LoadedModel

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The settings that decide which model is loaded, and how."""

    model: str
    engine: str
    threads: int | None
    adapter: Path | None = None  # the folder of the one to merge in
    adapter_content: str | None = None  # another one may be put there
    adapter_problem: str | None = None  # why the one that the settings name is not even looked at


Load = Callable[[ModelChoice], "LoadedModel"]


def load_chosen(choice: ModelChoice) -> LoadedModel:
    """The model of a choice; takes seconds. UserError says what is wrong with it.

    With an adapter that cannot be served the base model serves alone, and knows why.
    """
    from server.lm.adapter_manifest import AdapterError
    from server.lm.model import load_model

    load = partial(load_model, choice.model, choice.engine, threads=choice.threads)  # type: ignore[arg-type]
    try:
        model = replace(load(adapter=choice.adapter), adapter_problem=choice.adapter_problem)
    except AdapterError as error:
        model = replace(load(), adapter_problem=str(error))
    try:
        _rehearse(model)
    except UserError:  # the model loads, but can answer nothing
        raise
    except Exception:  # the same will happen to a request, and be logged with it
        logger.exception("the first completion failed")
    return model


def _rehearse(model: LoadedModel) -> None:
    """Completes something, so that imports, grammars and the engine's buffers are paid for before the first request."""
    from server.completion import CompletionRequest, complete
    from server.lm.context import Document
    from server.lm.languages import language_for
    from server.settings import Settings

    text = "def add(first, second):\n    "
    complete(CompletionRequest(Document("", "add.py", language_for("python"), text), len(text)), model, Settings())


class ModelLoader:
    """The loaded model and the choice behind it. Used on the event loop only; loading has a thread of its own."""

    def __init__(self, load: Load = load_chosen) -> None:
        self.model: LoadedModel | None = None
        self.problem: str | None = None  # why the model that was chosen last does not serve, for the user
        self._load = load
        self._wanted: ModelChoice | None = None
        self._tried: ModelChoice | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def loading(self) -> asyncio.Task[None] | None:
        """The task that ends when what was wanted last serves or has failed; None when nothing is loaded."""
        return self._task if self._task is not None and not self._task.done() else None

    def choose(self, choice: ModelChoice) -> asyncio.Task[None] | None:
        """Makes `choice` the wanted model. The task that ends when it serves or has failed, None if there is no need.

        There is one such task at a time: a choice made while another is loaded joins it. A choice that has failed is
        tried again, for its cause may be mended.
        """
        self._wanted = choice
        if (self._task is not None and not self._task.done()) or (choice == self._tried and self.problem is None):
            return None
        self._tried = None
        self._task = asyncio.create_task(self._load_wanted())
        return self._task

    async def _load_wanted(self) -> None:
        while self._wanted is not None and self._tried != self._wanted:
            choice = self._wanted
            try:
                model = await in_thread("loracle-load", partial(self._load, choice))
            except UserError as error:
                self.problem = str(error)
            except Exception:
                logger.exception("loading the model failed")
                self.problem = f"the model {choice.model} could not be loaded; the log of the server says why"
            else:
                self.model, self.problem = model, None
            self._tried = choice


async def in_thread(name: str, work: Callable[[], T]) -> T:
    """What `work` returns, done in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[T], None] | Callable[[BaseException], None], outcome: object) -> None:
        if not done.done():
            set_outcome(outcome)  # type: ignore[arg-type]

    def run() -> None:
        try:
            settled = partial(settle, done.set_result, work())
        except Exception as error:  # handed to whoever waits
            settled = partial(settle, done.set_exception, error)
        try:
            loop.call_soon_threadsafe(settled)
        except RuntimeError:  # the loop has ended meanwhile
            logger.debug("nobody waited for %s", name)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
