"""Whose turn it is: of several questions about one document only the newest is answered, and an edit makes it void.

A question waits until the keys have rested, then for its job; either wait ends at once when its turn is over, and the
job with it. Runs on the event loop. Knows nothing of models, suggestions or the protocol.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from server.scheduler import Job

T = TypeVar("T")

# As long as somebody types in one document, the KV cache is not spent on others that are opened or changed meanwhile.
TYPING_PAUSE_S = 5.0


class Turn:
    """One question on its way to an answer. Times are those of `time.monotonic()`."""

    def __init__(self, asked_at: float, asked_before: float) -> None:
        self.asked_at = asked_at
        self._asked_before = asked_before  # the question before this one, about whatever document
        self._over = asyncio.Event()
        self._job: Job[Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._over.is_set()

    def end(self) -> None:
        """Makes the question void, and drops its job."""
        self._over.set()
        if self._job is not None:
            self._job.cancel()

    def still_to_rest_s(self, changed_at: float, debounce_ms: int) -> float:
        """How long the keys have yet to rest, counted from the last edit and the last question; 0 if they have."""
        quiet_since = max(changed_at, self._asked_before)
        return max(quiet_since + debounce_ms / 1000 - self.asked_at, 0.0)

    async def over_within(self, seconds: float) -> bool:
        """Whether the question has become void within the time; as soon as it has."""
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except TimeoutError:
            pass
        return self.is_over

    async def result(self, job: Job[T]) -> T | None:
        """What the job gives that answers the question; None if it was dropped or the turn is over."""
        self._job = job
        result = await asyncio.wrap_future(job.future)
        if result is None or self.is_over:
            self.end()
            return None
        return result


class Turns:
    """The questions that have not been answered yet, at most one a document, and where somebody asked last."""

    def __init__(self) -> None:
        self._open: dict[str, Turn] = {}
        self._asked_in, self._asked_at = "", 0.0

    @contextmanager
    def taken(self, uri: str, asked_at: float) -> Iterator[Turn]:
        """The turn of a new question about a document; the one before it is over.

        A question that is cancelled while it waits takes its job with it.
        """
        self.outdate(uri)
        turn = self._open[uri] = Turn(asked_at, self._asked_at)
        self._asked_in, self._asked_at = uri, asked_at
        try:
            yield turn
        except asyncio.CancelledError:
            turn.end()
            raise
        finally:
            if self._open.get(uri) is turn:
                del self._open[uri]

    def outdate(self, uri: str) -> None:
        """Ends the question about a document that has not been answered yet: there is an edit or a newer one."""
        if (turn := self._open.pop(uri, None)) is not None:
            turn.end()

    def is_typing_elsewhere(self, uri: str) -> bool:
        """Whether somebody types in another document than this one."""
        is_recent = time.monotonic() - self._asked_at < TYPING_PAUSE_S
        return bool(self._asked_in) and self._asked_in != uri and is_recent

    def close(self) -> None:
        """Ends all questions."""
        for turn in self._open.values():
            turn.end()
