"""A thread for what is done while the model reads: on another core than the model's.

A thread that is woken for some milliseconds may be put on the core of whoever woke it, though another is idle: some
kernels pack threads so as to wake no second core. What was to be done beside a forward is then done in its time: on a
machine with two idle cores, 4 ms of ranking took 4 ms of a forward, and 1 ms once it was kept off the forward's core.
Only Linux lets a thread choose; elsewhere, and with one core, the system does.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


class ThreadBeside(ThreadPoolExecutor):
    """An executor of one thread, which runs on any core but that of whoever hands in the work."""

    def __init__(self, name: str) -> None:
        self._thread_ids: list[int] = []  # the system's of the one thread, once it runs
        # Nothing that the thread holds leads back here: an executor that is dropped ends its thread.
        super().__init__(1, name, _tell, (self._thread_ids,))
        self._barred: int | None = None  # the core that it was kept off last

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As in the library."""
        if not self._shutdown:  # else the system may have given the number to another thread
            self._keep_off(current_core())
        return super().submit(work, *args, **kwargs)

    def _keep_off(self, core: int | None) -> None:
        if core is None or core == self._barred or not self._thread_ids:
            return
        try:
            others = os.sched_getaffinity(os.getpid()) - {core}
            if others:
                os.sched_setaffinity(self._thread_ids[0], others)
                self._barred = core
        except OSError:  # the thread has ended, or may not choose
            self._barred = None


def _tell(thread_ids: list[int]) -> None:
    thread_ids.append(threading.get_native_id())


def current_core() -> int | None:
    """The number of the core that the caller runs on; None where the system does not tell."""
    core = -1 if (ask := _system_call()) is None else ask()
    return core if core >= 0 else None


@cache
def _system_call() -> Callable[[], int] | None:
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        found: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
    except (OSError, AttributeError):
        return None
    return found
