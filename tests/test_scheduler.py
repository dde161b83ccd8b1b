"""The worker thread: what runs first, what makes way, and what is dropped. No test sleeps: each waits on an event."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from server.scheduler import Job, Scheduler, Urgency

WAIT_S = 20.0


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    result = Scheduler("test-worker")
    yield result
    result.close()
    assert result.join(WAIT_S)


class Held:
    """Work that starts, tells so, and goes on until it is released or told to stop."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.released = threading.Event()
        self.n_runs = 0

    def __call__(self, cancelled: Callable[[], bool]) -> str:
        self.n_runs += 1
        self.started.set()
        while not self.released.wait(0.001):
            if cancelled():
                return "stopped"
        return "done"


def held(scheduler: Scheduler, urgency: Urgency, key: str = "held") -> tuple[Held, Job[str]]:
    work = Held()
    job = scheduler.submit(urgency, key, work)
    assert work.started.wait(WAIT_S)
    return work, job


def test_a_job_gives_what_its_work_returns(scheduler: Scheduler) -> None:
    job = scheduler.submit(Urgency.COMPLETION, "a", lambda cancelled: cancelled())
    assert job.future.result(WAIT_S) is False


def test_all_work_is_done_by_one_thread(scheduler: Scheduler) -> None:
    jobs = [scheduler.submit(urgency, urgency.name, lambda _: threading.get_ident()) for urgency in Urgency]
    assert len({job.future.result(WAIT_S) for job in jobs}) == 1
    assert jobs[0].future.result() != threading.get_ident()


def test_the_most_urgent_job_runs_first_and_equals_in_their_order(scheduler: Scheduler) -> None:
    gate, _ = held(scheduler, Urgency.COMPLETION)
    order: list[str] = []
    jobs = [
        scheduler.submit(urgency, key, lambda _, key=key: order.append(key))  # type: ignore[misc]
        for urgency, key in [
            (Urgency.PREFILL, "prefill"),
            (Urgency.EXPLANATION, "hover 1"),
            (Urgency.COMPLETION, "completion 1"),
            (Urgency.EXPLANATION, "hover 2"),
            (Urgency.COMPLETION, "completion 2"),
        ]
    ]
    gate.released.set()
    for job in jobs:
        job.future.result(WAIT_S)
    assert order == ["completion 1", "completion 2", "hover 1", "hover 2", "prefill"]


def test_a_newer_job_with_the_same_key_takes_the_place_of_one_that_waits(scheduler: Scheduler) -> None:
    gate, _ = held(scheduler, Urgency.COMPLETION)
    older = scheduler.submit(Urgency.COMPLETION, "a", lambda _: "older")
    other = scheduler.submit(Urgency.COMPLETION, "b", lambda _: "other")
    newer = scheduler.submit(Urgency.COMPLETION, "a", lambda _: "newer")
    assert older.future.result(0) is None
    gate.released.set()
    assert (other.future.result(WAIT_S), newer.future.result(WAIT_S)) == ("other", "newer")


def test_a_newer_job_with_the_same_key_stops_one_that_runs(scheduler: Scheduler) -> None:
    _, older = held(scheduler, Urgency.COMPLETION, "a")
    newer = scheduler.submit(Urgency.COMPLETION, "a", lambda _: "newer")
    assert older.future.result(0) is None  # answered at once, not when the work has noticed
    assert newer.future.result(WAIT_S) == "newer"


def test_the_same_key_under_another_urgency_is_another_job(scheduler: Scheduler) -> None:
    gate, first = held(scheduler, Urgency.COMPLETION, "a")
    second = scheduler.submit(Urgency.EXPLANATION, "a", lambda _: "second")
    gate.released.set()
    assert (first.future.result(WAIT_S), second.future.result(WAIT_S)) == ("done", "second")


def test_reading_ahead_makes_way_for_good(scheduler: Scheduler) -> None:
    work, job = held(scheduler, Urgency.PREFILL)
    assert scheduler.submit(Urgency.COMPLETION, "a", lambda _: "urgent").future.result(WAIT_S) == "urgent"
    assert job.future.result(WAIT_S) is None
    assert work.n_runs == 1


def test_an_explanation_makes_way_and_starts_again(scheduler: Scheduler) -> None:
    work, job = held(scheduler, Urgency.EXPLANATION)
    gate = Held()
    urgent = scheduler.submit(Urgency.COMPLETION, "a", gate)
    assert gate.started.wait(WAIT_S)  # so the explanation was left
    assert not job.future.done()
    work.released.set()
    gate.released.set()
    assert urgent.future.result(WAIT_S) == "done"
    assert job.future.result(WAIT_S) == "done"
    assert work.n_runs == 2


def test_a_less_urgent_job_waits(scheduler: Scheduler) -> None:
    gate, running = held(scheduler, Urgency.COMPLETION)
    waiting = scheduler.submit(Urgency.PREFILL, "a", lambda _: "later")
    assert not waiting.future.done()
    gate.released.set()
    assert (running.future.result(WAIT_S), waiting.future.result(WAIT_S)) == ("done", "later")


def test_cancelling_a_job_that_runs_frees_the_worker(scheduler: Scheduler) -> None:
    _, job = held(scheduler, Urgency.COMPLETION)
    job.cancel()
    assert job.future.result(0) is None
    assert scheduler.submit(Urgency.PREFILL, "next", lambda _: "free").future.result(WAIT_S) == "free"


def test_cancelling_a_job_that_waits_keeps_it_from_running(scheduler: Scheduler) -> None:
    gate, _ = held(scheduler, Urgency.COMPLETION)
    work = Held()
    scheduler.submit(Urgency.COMPLETION, "a", work).cancel()
    gate.released.set()
    assert scheduler.submit(Urgency.PREFILL, "last", lambda _: True).future.result(WAIT_S)
    assert work.n_runs == 0


def test_a_cancelled_explanation_is_not_started_again(scheduler: Scheduler) -> None:
    work, job = held(scheduler, Urgency.EXPLANATION)
    job.cancel()
    assert scheduler.submit(Urgency.COMPLETION, "a", lambda _: True).future.result(WAIT_S)
    assert scheduler.submit(Urgency.PREFILL, "last", lambda _: True).future.result(WAIT_S)
    assert work.n_runs == 1


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)])
def test_work_that_fails_gives_its_error_and_the_worker_lives_on(scheduler: Scheduler, error: BaseException) -> None:
    def fail(_: Callable[[], bool]) -> None:
        raise error

    with pytest.raises(type(error)):
        scheduler.submit(Urgency.COMPLETION, "a", fail).future.result(WAIT_S)
    assert scheduler.submit(Urgency.COMPLETION, "b", lambda _: True).future.result(WAIT_S)


def test_a_job_that_nobody_waits_for_any_more_does_no_harm(scheduler: Scheduler) -> None:
    gate, job = held(scheduler, Urgency.COMPLETION)
    assert job.future.cancel()  # what awaiting it does when the one who awaits is cancelled
    gate.released.set()
    assert scheduler.submit(Urgency.COMPLETION, "b", lambda _: True).future.result(WAIT_S)


def test_closing_drops_everything_and_ends_the_thread() -> None:
    scheduler = Scheduler("test-worker")
    _, running = held(scheduler, Urgency.COMPLETION)
    waiting = scheduler.submit(Urgency.PREFILL, "a", lambda _: True)
    scheduler.close()
    assert (running.future.result(0), waiting.future.result(0)) == (None, None)
    assert scheduler.join(WAIT_S)
    assert scheduler.submit(Urgency.COMPLETION, "late", lambda _: True).future.result(0) is None
