"""Lines ranked in another thread: for the newest question, once, and never in the way of whoever ends it all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.completion import prefill_ahead
from server.index import live
from server.index.continuations import Continuations
from server.index.lines import LineEnds, Surroundings, line_ends
from server.index.live import LiveIndex
from server.index.ranking import Ranking
from server.indexing import Indexing
from server.lm.context import Document
from server.lm.languages import language_for
from server.settings import Settings
from tests.marks import split_at_cursor
from tests.test_completion import writer

NOWHERE: LineEnds = {}
CURSOR = Surroundings("a.py", b"x = ", b"", b"")


def nothing() -> tuple[LineEnds, Surroundings]:
    return NOWHERE, CURSOR


@pytest.fixture
def ranking() -> Iterator[Ranking]:
    with ThreadPoolExecutor(max_workers=1) as thread:
        yield Ranking(thread)


def question(marked: str) -> tuple[Document, int]:
    text, offset = split_at_cursor(marked)
    return Document("file:///work/here.py", "here.py", language_for("python"), text), offset


def test_the_same_question_is_ranked_once(ranking: Ranking) -> None:
    first = ranking.begin("key", nothing)
    assert first.result() == [] and ranking.known("key") is first and ranking.known("other") is None


class Held:
    """A search that goes on when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> tuple[LineEnds, Surroundings]:
        self.begun.set()
        assert self.go_on.wait(60)
        return nothing()


def test_a_question_that_has_not_begun_makes_way_for_a_newer_one(ranking: Ranking) -> None:
    held = Held()
    running = ranking.begin(1, held)
    assert held.begun.wait(60)
    waiting, newest = ranking.begin(2, nothing), ranking.begin(3, nothing)
    assert waiting.cancelled() and not running.cancelled()
    held.go_on.set()
    assert running.result() == newest.result() == []


def test_what_failed_is_tried_again(ranking: Ranking) -> None:
    def broken() -> tuple[LineEnds, Surroundings]:
        raise OSError("gone")

    assert isinstance(ranking.begin("key", broken).exception(), OSError)
    assert ranking.known("key") is None and ranking.begin("key", nothing).result() == []


def test_what_was_begun_is_ended_and_nothing_comes_afterwards() -> None:
    thread, held = ThreadPoolExecutor(max_workers=1), Held()
    ranking = Ranking(thread)
    running = ranking.begin(1, held)
    assert held.begun.wait(60)
    thread.shutdown(wait=False)
    assert ranking.begin(2, nothing).result() == []
    held.go_on.set()
    assert running.result() == []


def test_reading_ahead_ranks_what_is_asked_next(monkeypatch: pytest.MonkeyPatch) -> None:
    index, n_searches = LiveIndex(), []

    def counted(*arguments: object) -> LineEnds:
        n_searches.append(1)
        return line_ends(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(live, "line_ends", counted)
    document, offset = question("price = total_of(rows)\nprice = <|>\n")
    prefill_ahead(document, offset, writer("x\n"), Settings(), index=index)
    assert index.lines(document, offset)[0].text == "total_of(rows)" and len(n_searches) == 1


def test_reading_ahead_ranks_last_and_not_for_a_question_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    index, model, done = LiveIndex(), writer("x\n"), []
    monkeypatch.setattr(LiveIndex, "ranked", lambda *arguments: done.append("ranked"))
    cache = type(model.completion_cache)
    advance = cache.advance
    monkeypatch.setattr(cache, "advance", lambda *args, **options: done.append("read") or advance(*args, **options))
    document, offset = question("price = <|>\n")
    prefill_ahead(document, offset, model, Settings(), index=index)
    assert done == ["read", "ranked"]
    prefill_ahead(document, offset, model, Settings(), index=index, cancelled=lambda: True)
    assert done == ["read", "ranked", "read"]


def test_places_are_looked_at_in_the_index_s_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    know = Continuations._know

    def watched(self: Continuations, texts: Sequence[bytes]) -> None:
        names.append(threading.current_thread().name)
        know(self, texts)

    monkeypatch.setattr(Continuations, "_know", watched)
    index = LiveIndex()
    document, offset = question("price = total_of(rows)\nprice = <|>\n")
    opinion = index.opinion(document, offset, 0, writer("x\n").tokenizer)
    opinion.prepare([b"", b"t"])
    index.lines(document, offset)  # in the same thread, after it
    assert [name.startswith("loracle-index") for name in names] == [True]


def test_another_file_that_changes_is_heard_of() -> None:
    index = LiveIndex()
    document, offset = question("price = <|>\n")
    assert index.lines(document, offset) == []
    index.change("other.py", "price = total_of(rows)\n", is_open=True)
    assert index.lines(document, offset)[0].text == "total_of(rows)"


def test_an_index_that_is_put_away_keeps_no_thread() -> None:
    before = set(threading.enumerate())
    indexing, (document, offset) = Indexing(), question("price = <|>\n")
    index = indexing.index_for(document)
    assert index is not None and index.lines(document, offset) == []
    (ranks,) = set(threading.enumerate()) - before
    indexing.shut_down()
    ranks.join(60)
    assert not ranks.is_alive() and index.lines(document, 0) == []
