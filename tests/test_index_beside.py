"""The thread beside: its work is done, on another core than the asker's where there is one; nothing depends on that."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.index import beside
from server.index.beside import ThreadBeside, current_core


@pytest.fixture
def thread() -> Iterator[ThreadBeside]:
    with ThreadBeside("test-beside") as made:
        yield made


def where() -> set[int]:
    """The cores that the calling thread may run on."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def test_one_thread_does_what_it_is_given(thread: ThreadBeside) -> None:
    names = {thread.submit(lambda: threading.current_thread().name).result() for _ in range(5)}
    assert len(names) == 1 and names.pop().startswith("test-beside")
    assert thread.submit(max, 1, 2).result() == 2
    with pytest.raises(ZeroDivisionError):
        thread.submit(lambda: 1 / 0).result()


@pytest.mark.skipif(len(where()) < 2, reason="there is no other core, or the system does not let a thread choose")
def test_it_keeps_off_the_core_of_whoever_asks(thread: ThreadBeside, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = where()
    thread.submit(int).result()
    for core in sorted(mine)[:2]:
        monkeypatch.setattr(beside, "current_core", lambda core=core: core)
        assert thread.submit(where).result() == mine - {core}
    assert where() == mine


@pytest.mark.skipif(not where(), reason="the system does not tell")
def test_the_core_is_the_caller_s() -> None:
    def told(core: int) -> int | None:
        os.sched_setaffinity(0, {core})
        return current_core()

    with ThreadPoolExecutor(1) as other:
        for core in sorted(where()):
            assert other.submit(told, core).result() == core


@pytest.mark.parametrize("cores", [{0}, {0, 1, 2}])
def test_it_may_use_every_other_core_and_with_one_that(
    thread: ThreadBeside, monkeypatch: pytest.MonkeyPatch, cores: set[int]
) -> None:
    chosen: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread_id: set(cores), raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread_id, mask: chosen.append(set(mask)), raising=False)
    monkeypatch.setattr(beside, "current_core", lambda: 0)
    for _ in range(3):
        assert thread.submit(int).result() == 0
    assert chosen == ([] if len(cores) == 1 else [{1, 2}])  # once is enough


@pytest.mark.parametrize("core", [None, 0])
def test_where_it_may_not_choose_the_work_is_done_all_the_same(
    thread: ThreadBeside, monkeypatch: pytest.MonkeyPatch, core: int | None
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "sched_getaffinity", lambda thread_id: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refused, raising=False)
    monkeypatch.setattr(beside, "current_core", lambda: core)
    assert [thread.submit(int).result() for _ in range(3)] == [0, 0, 0]


def test_a_thread_that_nobody_holds_any_more_ends() -> None:
    dropped = ThreadBeside("test-dropped")
    (running,) = dropped.submit(lambda: [threading.current_thread()]).result()
    del dropped
    gc.collect()
    running.join(60)
    assert not running.is_alive()


def test_after_its_end_no_thread_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = ThreadBeside("test-ended")
    ended.submit(int).result()
    ended.shutdown()
    monkeypatch.setattr(ended, "_keep_off", lambda core: pytest.fail("moved"))
    with pytest.raises(RuntimeError):
        ended.submit(int)


def test_a_system_that_does_not_tell_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_system_call", lambda: None)
    assert current_core() is None
    monkeypatch.setattr(beside, "_system_call", lambda: lambda: -1)
    assert current_core() is None
