"""How a run is shown: a line that is rewritten on a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

PLAIN_SECONDS = 15.0  # between lines where nobody rewrites them
BAR = 24  # characters


class Display:
    """One run's progress."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._told_at = 0.0
        self._is_open = False

    def say(self, text: str) -> None:
        """A line that stays."""
        self._close()
        print(text, file=self._stream, flush=True)

    def step(
        self, what: str, done: int, total: int, seconds: float, note: str = "", left_s: float | None = None
    ) -> None:
        """How far something is, with the time that it still takes: `left_s`, or as long for the rest as until here."""
        share = min(done / max(total, 1), 1.0)
        if left_s is None and share > 0:
            left_s = seconds * (1 / share - 1)
        left = f", {minutes(left_s)} left" if left_s is not None and 0 < share < 1 else ""
        text = f"{what} {done} of {total}{left}{', ' + note if note else ''}"
        now = time.monotonic()
        if self._is_terminal:
            bar = "#" * round(share * BAR)
            # A line that wraps could not be rewritten.
            self._stream.write(f"\r\033[K{f'[{bar:<{BAR}}] {text}'[: shutil.get_terminal_size().columns - 1]}")
            self._stream.flush()
            self._is_open = True
        elif now - self._told_at >= PLAIN_SECONDS or done == total:
            self._told_at = now
            print(text, file=self._stream, flush=True)
        if done >= total:
            self._close()

    def _close(self) -> None:
        if self._is_open:
            self._stream.write("\n")
            self._is_open = False


def minutes(seconds: float) -> str:
    """A time for people."""
    seconds = max(round(seconds), 0)
    return f"{seconds} s" if seconds < 90 else f"{seconds // 60} min {seconds % 60:02} s"
