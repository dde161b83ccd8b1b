"""How the line at a cursor may end, ranked while the model reads: in another thread, for the newest question.

The model's forwards leave the interpreter to others, so that ranking costs whoever waits next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future

from server.index.line_weights import LineEvidence
from server.index.lines import Line, LineEnds, Surroundings, Windows, evidence_of, likely_lines

Found = Callable[[], tuple[LineEnds, Surroundings]]  # searches for the ends


class Ranking:
    """What is ranked in one thread, and what it found last. Asked from one thread."""

    def __init__(self, thread: Executor) -> None:
        self._windows = Windows()  # touched by the thread alone
        self._thread = thread
        self._last: tuple[Hashable, Future[list[Line]]] | None = None

    def known(self, key: Hashable) -> Future[list[Line]] | None:
        """What was asked last, if it has this key and has not failed."""
        if self._last is None or self._last[0] != key:
            return None
        future = self._last[1]
        return None if future.done() and (future.cancelled() or future.exception()) else future

    def begin(self, key: Hashable, found: Found) -> Future[list[Line]]:
        """The lines, the likeliest first, when they are ranked; what was asked before and has not begun is dropped."""
        if self._last is not None:
            self._last[1].cancel()
        try:
            future = self._thread.submit(lambda: likely_lines(*found(), self._windows))
        except RuntimeError:  # the index is shut down
            future = Future()
            future.set_result([])
        self._last = key, future
        return future

    def evidence(self, found: Found) -> dict[bytes, LineEvidence]:
        """What there is to judge each end by."""

        def judged() -> dict[bytes, LineEvidence]:
            ends, cursor = found()
            return dict(zip(ends, evidence_of(ends, cursor, self._windows), strict=True))

        return self._thread.submit(judged).result()
