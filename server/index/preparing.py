"""Changed text made searchable once nobody types, so that no search has to wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from server.index.live import LiveIndex

QUIET_S = 0.25  # since the last change; keys come faster while somebody types
MAX_WAIT_S = 2.0  # since the first change: whoever types on and on needs the other files meanwhile


class Preparing:
    """Has an index prepared after its last change: once after several."""

    def __init__(self, live: LiveIndex, later: Callable[[Callable[[], None]], None]) -> None:
        self._live, self._later = live, later  # has work done in a thread that nobody waits for
        self._lock = threading.Lock()
        self._first_at = self._last_at = 0.0  # time.monotonic() of the changes that wait
        self._timer: threading.Timer | None = None

    def soon(self) -> None:
        """There was a change. Never waits."""
        with self._lock:
            self._last_at = time.monotonic()
            if self._timer is None:
                self._first_at = self._last_at
                self._wait(QUIET_S)

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        with self._lock:
            left_s = min(self._last_at + QUIET_S, self._first_at + MAX_WAIT_S) - time.monotonic()
            if left_s > 0:
                self._wait(left_s)
                return
            self._timer = None
        self._later(self._live.prepare)
