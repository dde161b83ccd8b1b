"""One thread that does the model's work, one job after the other, the most urgent first.

The thread owns the KV slots: nothing else may touch them. A job is asked through `cancelled` whether to go on and is
expected to look between two tokens. Knows nothing of what the jobs do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from enum import IntEnum
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Urgency(IntEnum):
    """The smaller, the sooner. A job interrupts a running one that is less urgent."""

    COMPLETION = 0
    EXPLANATION = (
        1  # when interrupted it starts again later: somebody waits for it, and the KV cache keeps what was read
    )
    PREFILL = 2  # when interrupted it is dropped: the text that it was for has moved on


Work = Callable[[Callable[[], bool]], T]


class Job(Generic[T]):
    """A piece of work that was handed in; `future` holds what it returned, or None if it was dropped."""

    def __init__(self, urgency: Urgency, key: str, work: Work[T]) -> None:
        self.urgency = urgency
        self.key = key
        self.future: Future[T | None] = Future()
        self._work = work
        self._cancelled = threading.Event()
        self._interrupted = threading.Event()

    def cancel(self) -> None:
        """Drops the job: it is not started any more, or told to stop. Its future is None at once."""
        self._cancelled.set()
        self._settle(None)

    def interrupt(self) -> None:
        """Tells a running job to make way."""
        self._interrupted.set()

    def run(self) -> bool:
        """Does the work in the calling thread; True if it was interrupted and is to be run once more."""
        if self._cancelled.is_set():
            return False
        try:
            result = self._work(self._is_stopped)
        except BaseException as error:  # also SystemExit: the thread must live on; whoever waits logs it
            self._settle(error)
            return False
        if not self._interrupted.is_set():
            self._settle(result)
        elif self.urgency is Urgency.EXPLANATION and not self._cancelled.is_set():
            return True
        else:
            self._settle(None)
        return False

    def reset(self) -> None:
        """Makes an interrupted job ready to be run again."""
        self._interrupted.clear()

    def _is_stopped(self) -> bool:
        return self._cancelled.is_set() or self._interrupted.is_set()

    def _settle(self, result: T | BaseException | None) -> None:
        """Completes the future, unless it is complete already."""
        try:
            if isinstance(result, BaseException):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)
        except Exception:  # InvalidStateError: settled before, or given up by the one who waited
            if isinstance(result, BaseException):
                logger.error("a dropped job failed", exc_info=result)


class Scheduler:
    """The thread and its queue. For each urgency and key only the newest job counts."""

    def __init__(self, name: str) -> None:
        self._waiting: list[Job[object]] = []
        self._running: Job[object] | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, urgency: Urgency, key: str, work: Work[T]) -> Job[T]:
        """Hands in `work`; drops an older job with the same urgency and key, interrupts a less urgent one."""
        job = Job(urgency, key, work)
        with self._changed:
            self._drop(urgency, key)
            if self._closed:
                job.cancel()
                return job
            self._waiting.append(job)  # type: ignore[arg-type]
            if self._running is not None and urgency < self._running.urgency:
                self._running.interrupt()
            self._changed.notify()
        return job

    def drop(self, urgency: Urgency, key: str) -> None:
        """Drops the job with this urgency and key, waiting or running, if there is one."""
        with self._changed:
            self._drop(urgency, key)

    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        with self._changed:
            return not self._all()

    def close(self) -> None:
        """Drops all jobs and ends the thread after the one that runs."""
        with self._changed:
            self._closed = True
            for job in self._all():
                job.cancel()
            self._waiting.clear()
            self._changed.notify()

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread to end after `close`; False if it is still at work then."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _drop(self, urgency: Urgency, key: str) -> None:
        for job in self._all():
            if job.urgency is urgency and job.key == key:
                job.cancel()
                if job in self._waiting:
                    self._waiting.remove(job)

    def _all(self) -> list[Job[object]]:
        return [*self._waiting, *([self._running] if self._running is not None else [])]

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            again = job.run()
            with self._changed:
                self._running = None
                if again and not self._closed:
                    job.reset()
                    self._waiting.insert(0, job)
                elif again:
                    job.cancel()

    def _next(self) -> Job[object] | None:
        """The most urgent job, among equals the one that has waited longest; None when the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            job = min(self._waiting, key=lambda waiting: waiting.urgency)
            self._waiting.remove(job)
            self._running = job
            return job
