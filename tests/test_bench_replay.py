"""The typing replay tells answers apart, times those that are new, accepts what would be typed anyway, and types the
same keys again without an index."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bench import replay
from tests.bench.client import Pending, ServerFailure
from tests.bench.heldout import SourceFile, generator
from tests.bench.options import Options
from tests.bench.positions import offset_at
from tests.bench.replay import MAX_PAUSE_S, Replay, Stretch, counts_of, laid_out, pause_s, stretch_of
from tests.bench.replay_rows import Tally, index_rows, rows
from tests.bench.repositories import FABRIC, RXJS
from tests.bench.suggestion import Item
from tests.bench.table import BenchError

LINES = [f"def f{n}(a):\n    return a + {n}\n" for n in range(40)]
FILE = SourceFile("fabric/connection.py", "python", "".join(LINES))
STRETCH = Stretch(FILE, Path("/repository"))


class FakeClient:
    """An editor's other side: keeps the document, and answers each request as the test says."""

    def __init__(self, answers: Iterator[str], asked: list[FakeClient] | None = None) -> None:
        self.text = ""
        self.asked = [] if asked is None else asked  # at each request, who was asked
        self.n_accepted = self.n_cancelled = 0
        self.texts: list[str] = []  # at each request
        self._answers = answers
        self._counts = dict.fromkeys(replay.COUNTS, 0)

    def open(self, uri: str, language_id: str, text: str) -> None:
        self.text = text

    def edit(self, uri: str, text: str, start: int, end: int, inserted: str) -> None:
        assert text == self.text
        self.text = text[:start] + inserted + text[end:]

    def ask(self, uri: str, position: Mapping[str, int]) -> Pending:
        pending = Pending(1, "textDocument/inlineCompletion", 0.0)
        self.texts.append(self.text)
        self.asked.append(self)
        offset = offset_at(self.text, position)
        kind = next(self._answers)
        if kind == "late":
            return pending
        items = []
        if kind == "model":
            self._counts["modelAnswers"] += 1
            self._counts["promptTokens"] += 100
            self._counts["cachedTokens"] += 90
            # What the file has here, up to the end of the line.
            items = [self._item(position, FILE.text[offset:].split("\n")[0])]
        elif kind == "known":
            self._counts["typedThrough"] += 1
            items = [self._item(position, "nonsense")]
        elif kind == "index":
            items = [self._item(position, "nonsense")]
        pending.settle({"result": {"items": items}}, replay.time.perf_counter())
        return pending

    def ask_status(self) -> Pending:
        pending = Pending(2, "workspace/executeCommand", 0.0)
        pending.settle({"result": dict(self._counts)}, 0.0)
        return pending

    def status(self) -> dict[str, Any]:
        return dict(self._counts)

    def cancel(self, pending: Pending) -> None:
        self.n_cancelled += 1

    def send(self, method: str, params: Any) -> Pending:
        assert params == {"command": "loracle.accepted", "arguments": ["1"]}
        self.n_accepted += 1
        return Pending(3, method, 0.0)

    def _item(self, position: Mapping[str, int], text: str) -> dict[str, Any]:
        command = {"title": "", "command": "loracle.accepted", "arguments": ["1"]}
        return {"insertText": text, "range": {"start": position, "end": position}, "command": command}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "pause_s", lambda rng: 0.0)
    monkeypatch.setattr(replay, "START_PAUSE_S", 0.0)


def typed(client: FakeClient, n_keys: int) -> Tally:
    tally = Tally()
    followed(client, n_keys, tally, None)
    return tally


def followed(client: FakeClient, n_keys: int, tally: Tally, follow: Mapping[int, Item] | None) -> Mapping[int, Item]:
    typing = Replay(client, STRETCH, tally, follow)  # type: ignore[arg-type]
    typing.type(n_keys)
    return typing.accepted


def test_answers_are_told_apart_and_timed_apart() -> None:
    kinds = ["model", "known", "gated", "late", "index", "late"]
    client = FakeClient(iter(kinds * 10))
    tally = typed(client, 60)
    assert tally.n_keys == 60
    assert tally.n_answers == {"model": 10, "known": 10, "gated": 10, "index": 10, "late": 20}
    assert (len(tally.model_ms), len(tally.index_ms), len(tally.known_ms)) == (10, 10, 10)
    assert tally.new_ms == [*tally.model_ms, *tally.index_ms]
    assert (tally.n_prompt_tokens, tally.n_cached_tokens) == (1000, 900)
    assert 10 <= client.n_cancelled <= 20


def test_what_comes_next_is_accepted_at_half_of_the_keys() -> None:
    client = FakeClient(iter(["model"] * 1000))
    tally = typed(client, 100)
    assert 5 < tally.n_accepted == client.n_accepted < 60
    assert tally.n_saved_keys > 100
    assert tally.n_right > 50


def test_a_server_without_suggestions_saves_nothing() -> None:
    tally = typed(FakeClient(iter(["gated"] * 100)), 100)
    assert (tally.n_accepted, tally.n_saved_keys, tally.n_shown) == (0, 0, 0)
    by_name = {row.what: row for row in rows(tally)}
    assert by_name["keystrokes saved"].value == 0
    assert by_name["key to the answer of model or index, debounce included, p50"].value is None
    assert by_name["key to the answer of model or index, debounce included, p50"].is_missed


def test_the_bound_is_on_answers_of_model_and_index_together() -> None:
    by_name = {row.what: row for row in rows(Tally(model_ms=[150.0], index_ms=[20.0] * 3))}
    assert by_name["key to the answer of model or index, debounce included, p50"].value == 20
    assert not by_name["key to the answer of model or index, debounce included, p50"].is_missed
    assert (by_name["key to the model's answer, p50"].value, by_name["key to the model's answer, p50"].bound) == (
        150,
        "",
    )
    assert by_name["key to the index's answer, p95"].value == 20


@pytest.mark.parametrize("with_index, alone, ratio, is_missed", [
    ([50.0], [50.0], 1.0, False),
    ([56.0], [50.0], 1.12, True),
    ([], [50.0], None, True),
    ([50.0], [], None, True),
])  # fmt: skip
def test_typing_is_no_slower_with_an_index(
    with_index: list[float], alone: list[float], ratio: float | None, is_missed: bool
) -> None:
    ours, theirs = (Tally(new_ms_at={("a", n): ms for n, ms in enumerate(each)}) for each in (with_index, alone))
    p50, p95 = index_rows(ours, theirs)
    assert (p50.value, p50.is_missed, p95.is_missed) == (ratio, is_missed, False)


def test_only_keys_that_both_answered_anew_are_compared() -> None:
    ours = Tally(new_ms_at={("a", 0): 60.0, ("a", 1): 900.0, ("b", 0): 60.0})
    theirs = Tally(new_ms_at={("a", 0): 50.0, ("b", 0): 50.0, ("b", 1): 1.0})
    p50, _ = index_rows(ours, theirs)
    assert p50.value == 1.2 and "at 2 keys" in p50.note


def test_new_answers_are_kept_by_their_key() -> None:
    tally = typed(FakeClient(iter(["model", "known", "gated", "late", "index", "late"])), 6)
    assert sorted(number for _, number in tally.new_ms_at) == [0, 3, 4, 5]
    assert sorted(tally.new_ms_at.values()) == sorted([*tally.new_ms, math.inf, math.inf])


def test_an_answer_that_is_late_with_the_index_alone_is_slower_than_any() -> None:
    ours = Tally(new_ms_at={("a", 0): 50.0, ("a", 1): math.inf, ("a", 2): math.inf, ("a", 3): math.inf})
    theirs = Tally(new_ms_at={("a", 0): 50.0, ("a", 1): 60.0, ("a", 2): 60.0, ("a", 3): math.inf})
    p50, p95 = index_rows(ours, theirs)
    assert "at 3 keys" in p50.note and p50.value is None and p50.is_missed and p95.value is None


def test_the_same_keys_are_typed_again_whatever_is_suggested() -> None:
    first, again, other = (FakeClient(iter([kind] * 100)) for kind in ("model", "gated", "gated"))
    taken = followed(first, 100, Tally(), None)
    assert len(taken) > 5
    assert followed(again, 100, Tally(), taken) == taken
    assert again.texts == first.texts
    assert (first.n_accepted, again.n_accepted) == (len(taken), 0)  # the other server has offered nothing
    followed(other, 100, Tally(), None)
    assert other.texts != first.texts


def test_servers_take_turns_at_the_same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "TURN_KEYS", 8)
    asked: list[FakeClient] = []
    first, second = (FakeClient(iter([kind] * 100), asked) for kind in ("model", "index"))
    tallies = Tally(), Tally()
    replay.type_in_turns(STRETCH, 20, (first, tallies[0]), (second, tallies[1]))  # type: ignore[arg-type]
    assert asked == [each for n_keys in (8, 8, 4) for each in [first] * n_keys + [second] * n_keys]
    assert first.texts == second.texts and first.n_accepted > 0 == second.n_accepted
    assert [tally.n_keys for tally in tallies] == [20, 20]
    assert (tallies[0].n_answers, tallies[1].n_answers) == ({"model": 20}, {"index": 20})


# The repository around what is typed.


def test_what_is_typed_is_not_in_the_repository_around_it(tmp_path: Path) -> None:
    sources = {FABRIC: tmp_path / "fetched" / "fabric", RXJS: tmp_path / "fetched" / "src"}
    for folder in sources.values():
        folder.mkdir(parents=True)
    (sources[FABRIC] / "connection.py").write_text(FILE.text)
    (sources[FABRIC] / "group.py").write_text("import connection\n")
    (stretch,) = laid_out(sources, tmp_path / "roots")
    assert stretch.file == FILE
    assert stretch.uri == (tmp_path / "roots" / "fabric" / "fabric" / "connection.py").as_uri()
    assert [path.name for path in stretch.root.rglob("*.py")] == ["group.py"]


class Server:
    """One that is asked for nothing but its session."""

    def __init__(self, index_problem: str | None = None) -> None:
        self.opened: list[tuple[dict[str, Any], Path]] = []
        self.waited_for_index = False
        self._index_problem = index_problem

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def initialize(self, settings: dict[str, Any], root: Path) -> None:
        self.opened.append((settings, root))

    def wait_for_model(self) -> None:
        pass

    def wait_for_index(self) -> str | None:
        self.waited_for_index = True
        return self._index_problem


def session(monkeypatch: pytest.MonkeyPatch, server: Server, *, with_index: bool) -> dict[str, str]:
    """A session with the server in which nothing is typed; the environment that its process was given."""
    given: list[dict[str, str]] = []
    monkeypatch.setattr(Options, "client", lambda self, environment: given.append(environment) or server)
    options = Options(files=(), settings={"index": {"snippets": True}})
    with replay.served(options, STRETCH, with_index=with_index) as client:
        assert client is server
    return given[0]


def test_the_repository_is_indexed_in_a_cache_of_its_own(monkeypatch: pytest.MonkeyPatch, user_directory: Path) -> None:
    server = Server()
    environment = session(monkeypatch, server, with_index=True)
    assert server.opened[0][1] == Path("/repository")
    assert server.opened[0][0]["index"] == {"snippets": True} and server.waited_for_index
    assert environment["XDG_CACHE_HOME"].endswith("loracle/bench/servers")


def test_without_an_index_none_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    session(monkeypatch, server, with_index=False)
    assert server.opened[0][0]["index"] == {"snippets": True, "enabled": False} and not server.waited_for_index


def test_a_repository_that_cannot_be_indexed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerFailure, match="was to be typed with an index: no space"):
        session(monkeypatch, Server("no space"), with_index=True)


# What is typed, and when.


def test_the_document_stays_that_of_the_server() -> None:
    client = FakeClient(iter(["model"] * 10_000))
    typed(client, 10_000)
    assert client.text == FILE.text


def test_the_stretch_is_in_the_middle_of_the_file() -> None:
    before, target, after = stretch_of(FILE, 10)
    assert before + target + after == FILE.text
    assert target == "".join(LINES[20:25]).removesuffix("\n")  # the line is there before it is typed
    assert stretch_of(SourceFile("a.ts", "typescript", "let a = 1;\r\n" * 9), 2)[1:] == (
        "let a = 1;\r\nlet a = 1;",
        "\r\n" + "let a = 1;\r\n" * 3,
    )


def test_the_file_is_whole_without_the_stretch() -> None:
    text = "class A:\n    x = 1\n\n    def f(self):\n        def g(): ...\n        return g\n\n    def h(self): ...\n"
    before, target, after = stretch_of(SourceFile("a.py", "python", text), 1)
    assert before.endswith("x = 1\n\n    def f(self):\n") and target.strip() == "def g(): ...\n        return g"
    assert after.strip() == "def h(self): ..."


def test_pauses_are_those_of_somebody_who_types() -> None:
    rng = generator("test")
    drawn = sorted(pause_s(rng) for _ in range(2000))
    assert 0.12 < drawn[1000] < 0.14
    assert 0.02 < drawn[0] < drawn[-1] <= MAX_PAUSE_S


def test_a_server_that_does_not_count_is_named() -> None:
    with pytest.raises(BenchError, match="does not tell modelAnswers, promptTokens, cachedTokens"):
        counts_of({"typedThrough": 3})
