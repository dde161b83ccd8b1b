"""Turns: which question is still to be answered, how long it waits, and what becomes of its job."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from server.scheduler import Scheduler, Urgency
from server.turns import TYPING_PAUSE_S, Turn, Turns

ONE, OTHER = "file:///work/one.py", "file:///work/other.py"
WAIT_S = 20.0


@pytest.fixture
def worker() -> Iterator[Scheduler]:
    result = Scheduler("test")
    yield result
    result.close()
    assert result.join(WAIT_S)


class Held:
    """Work that goes on until it is told to stop."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.stopped = threading.Event()

    def __call__(self, cancelled: Callable[[], bool]) -> str:
        self.started.set()
        while not cancelled():
            self.stopped.wait(0.001)
        self.stopped.set()
        return "stopped"


def test_a_newer_question_ends_the_turn_of_the_older_one_in_the_same_document() -> None:
    turns = Turns()
    with turns.taken(ONE, 1.0) as older, turns.taken(OTHER, 2.0) as elsewhere, turns.taken(ONE, 3.0) as newer:
        assert (older.is_over, elsewhere.is_over, newer.is_over) == (True, False, False)


def test_an_older_question_that_leaves_takes_nothing_from_the_newer_one() -> None:
    turns = Turns()
    with ExitStack() as later:
        with turns.taken(ONE, 1.0):
            newer = later.enter_context(turns.taken(ONE, 2.0))
        assert not newer.is_over
        turns.outdate(ONE)
        assert newer.is_over


def test_an_edit_ends_the_turn_in_its_document_only() -> None:
    turns = Turns()
    with turns.taken(ONE, 1.0) as turn:
        turns.outdate(OTHER)
        assert not turn.is_over
        turns.outdate(ONE)
        assert turn.is_over


def test_who_was_answered_is_not_outdated() -> None:
    turns = Turns()
    with turns.taken(ONE, 1.0) as turn:
        pass
    turns.outdate(ONE)
    assert not turn.is_over


def test_a_failure_ends_no_turn_and_a_cancel_does() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.taken(ONE, 1.0) as failed:
        _ = 1 / 0
    assert not failed.is_over
    with pytest.raises(asyncio.CancelledError), turns.taken(ONE, 2.0) as cancelled:
        raise asyncio.CancelledError
    assert cancelled.is_over


def test_closing_ends_all_turns() -> None:
    turns = Turns()
    with turns.taken(ONE, 1.0) as one, turns.taken(OTHER, 2.0) as other:
        turns.close()
        assert one.is_over and other.is_over


@pytest.mark.parametrize(
    "asked_before, changed_at, asked_at, to_rest_s",
    [
        (0.0, 10.0, 10.0, 0.5),
        (0.0, 10.0, 10.2, 0.3),  # the edit was some time ago
        (10.1, 9.0, 10.2, 0.4),  # a question counts as a key
        (0.0, 10.0, 10.5, 0.0),
        (0.0, 10.0, 99.0, 0.0),
        (0.0, 0.0, 99.0, 0.0),  # never edited
    ],
)
def test_keys_have_to_rest_since_the_last_edit_and_the_last_question(
    asked_before: float, changed_at: float, asked_at: float, to_rest_s: float
) -> None:
    turns = Turns()
    with turns.taken(OTHER, asked_before), turns.taken(ONE, asked_at) as turn:
        assert turn.still_to_rest_s(changed_at, 500) == pytest.approx(to_rest_s)


async def test_a_wait_is_over_when_the_time_is_or_the_turn() -> None:
    turn = Turn(1.0, 0.0)
    assert await turn.over_within(0.001) is False
    waiting = asyncio.create_task(turn.over_within(WAIT_S))
    await asyncio.sleep(0)
    turn.end()
    assert await asyncio.wait_for(waiting, 2.0) is True


async def test_a_turn_gets_what_its_job_gives(worker: Scheduler) -> None:
    turn = Turn(1.0, 0.0)
    assert await turn.result(worker.submit(Urgency.COMPLETION, ONE, lambda _: "an answer")) == "an answer"
    assert not turn.is_over


async def test_a_job_that_fails_fails_the_question(worker: Scheduler) -> None:
    with pytest.raises(ZeroDivisionError):
        await Turn(1.0, 0.0).result(worker.submit(Urgency.COMPLETION, ONE, lambda _: 1 / 0))


async def test_the_end_of_a_turn_stops_its_job_and_is_not_waited_for(worker: Scheduler) -> None:
    turn, held = Turn(1.0, 0.0), Held()
    waiting = asyncio.create_task(turn.result(worker.submit(Urgency.COMPLETION, ONE, held)))
    assert await asyncio.to_thread(held.started.wait, WAIT_S)
    turn.end()
    assert await asyncio.wait_for(waiting, 2.0) is None
    assert await asyncio.to_thread(held.stopped.wait, WAIT_S)


async def test_a_job_that_was_dropped_ends_the_turn(worker: Scheduler) -> None:
    turn, held = Turn(1.0, 0.0), Held()
    waiting = asyncio.create_task(turn.result(worker.submit(Urgency.COMPLETION, ONE, held)))
    assert await asyncio.to_thread(held.started.wait, WAIT_S)
    worker.drop(Urgency.COMPLETION, ONE)
    assert await asyncio.wait_for(waiting, 2.0) is None
    assert turn.is_over


async def test_a_question_that_is_cancelled_takes_its_job_with_it(worker: Scheduler) -> None:
    turns, held = Turns(), Held()

    async def ask() -> None:
        with turns.taken(ONE, 1.0) as turn:
            await turn.result(worker.submit(Urgency.COMPLETION, ONE, held))

    asking = asyncio.create_task(ask())
    assert await asyncio.to_thread(held.started.wait, WAIT_S)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await asyncio.to_thread(held.stopped.wait, WAIT_S)


@pytest.mark.parametrize(
    "asked_in, seconds_ago, is_typing_elsewhere",
    [(OTHER, 0.0, True), (ONE, 0.0, False), (OTHER, 2 * TYPING_PAUSE_S, False), (None, 0.0, False)],
)
def test_somebody_types_elsewhere_for_a_while_after_a_question_there(
    asked_in: str | None, seconds_ago: float, is_typing_elsewhere: bool
) -> None:
    turns = Turns()
    if asked_in is not None:
        with turns.taken(asked_in, time.monotonic() - seconds_ago):
            pass
    assert turns.is_typing_elsewhere(ONE) is is_typing_elsewhere
