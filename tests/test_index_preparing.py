"""Changed text is sorted after the last change, once, and never for long put off. Timers are fired by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.index import preparing
from server.index.live import LiveIndex
from server.index.preparing import MAX_WAIT_S, QUIET_S, Preparing


class Clock:
    """The time, and the timers that wait for it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        due = [work for at, work in self.waiting if at <= self.now]
        self.waiting = [(at, work) for at, work in self.waiting if at > self.now]
        for work in due:
            work()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()

    class Timer:
        def __init__(self, seconds: float, work: Callable[[], None]) -> None:
            self._at, self._work = made.now + seconds, work

        def start(self) -> None:
            made.waiting.append((self._at, self._work))

    monkeypatch.setattr(preparing.threading, "Timer", Timer)
    monkeypatch.setattr(preparing.time, "monotonic", lambda: made.now)
    return made


def test_after_several_changes_it_is_done_once_when_there_is_quiet(clock: Clock) -> None:
    done: list[float] = []
    work = Preparing(LiveIndex(), lambda prepare: done.append(clock.now))
    for _ in range(4):
        work.soon()
        clock.pass_by(QUIET_S / 2)
    assert done == [] and len(clock.waiting) == 1
    clock.pass_by(QUIET_S / 2)
    assert len(done) == 1 and not clock.waiting
    work.soon()
    clock.pass_by(QUIET_S)
    assert len(done) == 2


def test_who_types_on_and_on_puts_it_off_for_a_while_only(clock: Clock) -> None:
    done: list[float] = []
    work = Preparing(LiveIndex(), lambda prepare: done.append(clock.now))
    began = clock.now
    for _ in range(100):
        work.soon()
        clock.pass_by(0.1)
    assert 10.0 / (MAX_WAIT_S + QUIET_S) - 1 <= len(done) <= 10.0 / MAX_WAIT_S
    assert done[0] - began <= MAX_WAIT_S + 0.1
