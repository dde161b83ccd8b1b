"""What follows at a cursor is the same, looked at beforehand or not, and a busy thread is not waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
from fakes import FakeTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from server.index.continuations import Continuation, Continuations, FirstTokens
from server.index.lookup import Tier
from server.index.segment import Segment, SegmentFile

WORDS = FakeTokenizer([*(bytes([byte]) for byte in range(256)), "self", "self.", "name", "named", " = ", "\n    "])
FIRST = FirstTokens(WORDS)
PIECES = st.lists(st.sampled_from(["self", ".", "name", "d", " = ", "\n", "\n    ", "é", "€"]), max_size=8).map("".join)


def tier_of(*texts: str) -> Tier:
    files = [SegmentFile(f"pkg/{number}.py", text.encode()) for number, text in enumerate(texts)]
    return Tier("repository", "repository", Segment.build(files))


TIER = tier_of("a = self.name\nb = self.named\nc = self.name\n")


def found_by(tier: Tier, past: str, pending: str = "", thread: Executor | None = None) -> Continuations:
    return Continuations([tier], (past + pending).encode(), len(pending.encode()), FIRST, thread=thread)


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1) as made:
        yield made


def content(found: Sequence[Continuation]) -> list[tuple[object, ...]]:
    return [(each.kind, each.level, each.finding, each.places, each.line_breaks, each.is_forced) for each in found]


def test_places_are_told_by_the_token_that_comes_next() -> None:
    longest, *_ = found_by(TIER, "d = self.").behind(b"")
    assert {WORDS.token_bytes(token): len(places) for token, places in longest.places.items()} == {
        b"name": 2,
        b"named": 1,
    }
    assert longest.likeliest.startswith(b"name\n") and not longest.line_breaks and not longest.is_forced
    (line_break,) = found_by(TIER, "d = self.named").behind(b"")[-1].line_breaks
    assert WORDS.token_bytes(line_break) == b"\n"
    forced = found_by(TIER, "d = ", pending="self.").behind(b"se")[-1]
    assert forced.is_forced and [WORDS.token_bytes(token) for token in forced.places] == [b"l"]


@settings(max_examples=60, deadline=None)
@given(
    text=PIECES,
    past=PIECES,
    pending=st.sampled_from(["", "se", "é"]),
    written=PIECES,
    n_prepared=st.lists(st.integers(0, 12), max_size=4),
)
def test_what_was_looked_at_beforehand_is_what_a_look_would_find(
    text: str, past: str, pending: str, written: str, n_prepared: list[int]
) -> None:
    tier, all_of_it = tier_of(text, past + pending + written), (pending + written).encode()
    texts = [all_of_it[:end] for end in range(len(all_of_it) + 1)]
    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead = found_by(tier, past, pending, thread)
        for number, text_so_far in enumerate(texts):
            for n_texts in n_prepared:
                ahead.prepare(texts[number : number + n_texts])
            alone = found_by(tier, past, pending)
            assert content(ahead.behind(text_so_far)) == content(alone.behind(text_so_far))


def test_it_is_looked_at_in_the_thread(thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    by_thread: dict[bytes, threading.Thread] = {}
    look = Continuations._looked_up

    def watched(self: Continuations, text_so_far: bytes) -> list[Continuation]:
        by_thread[text_so_far] = threading.current_thread()
        return look(self, text_so_far)

    monkeypatch.setattr(Continuations, "_looked_up", watched)
    found = found_by(TIER, "d = ", thread=thread)
    found.prepare([b"", b"self"])
    thread.submit(lambda: None).result()
    assert set(by_thread) == {b"", b"self"} and threading.current_thread() not in by_thread.values()
    first = dict(by_thread)
    found.behind(b"self")
    found.prepare([b"self"])
    thread.submit(lambda: None).result()
    assert by_thread == first  # once is enough
    found.behind(b"self.")
    assert by_thread[b"self."] is threading.current_thread()


def test_a_thread_that_is_busy_or_gone_is_not_waited_for(thread: ThreadPoolExecutor) -> None:
    go_on = threading.Event()
    busy = thread.submit(go_on.wait, 60)
    found = found_by(TIER, "d = ", thread=thread)
    found.prepare([b"self."])
    assert content(found.behind(b"self.")) == content(found_by(TIER, "d = ").behind(b"self."))
    assert not busy.done()
    go_on.set()
    thread.shutdown()
    found.prepare([b""])
    assert content(found.behind(b"")) == content(found_by(TIER, "d = ").behind(b""))


def test_what_fails_in_the_thread_fails_whoever_asks(
    thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = found_by(TIER, "d = ", thread=thread)

    def broken(self: Continuations, text_so_far: bytes) -> list[Continuation]:
        raise OSError("gone")

    monkeypatch.setattr(Continuations, "_looked_up", broken)
    found.prepare([b""])
    thread.submit(lambda: None).result()
    with pytest.raises(OSError, match="gone"):
        found.behind(b"")


@settings(max_examples=60, deadline=None)
@given(text=PIECES, past=PIECES, pending=st.sampled_from(["", "se"]), written=PIECES, n_bytes=st.integers(1, 12))
def test_a_long_match_is_never_ruled_out_where_there_is_one(
    text: str, past: str, pending: str, written: str, n_bytes: int
) -> None:
    tier = tier_of(text, past + written)
    found = found_by(tier, past, pending)
    found.behind(pending.encode())
    text_so_far = (pending + written).encode()
    may_agree = found.may_agree(text_so_far, n_bytes)
    longest = max((each.finding.n_bytes for each in found.behind(text_so_far)), default=0)
    assert may_agree or longest < n_bytes
    assert found.may_agree(text_so_far, n_bytes) is (longest >= n_bytes)


def test_a_match_is_ruled_out_by_the_one_before_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_by(TIER, "x")
    assert found.may_agree(b"", 99)  # nothing is known yet
    assert not found.behind(b"")
    monkeypatch.setattr(Continuations, "_looked_up", lambda self, text_so_far: pytest.fail("a look"))
    assert not found.may_agree(b"self", 5) and found.may_agree(b"self", 4)
