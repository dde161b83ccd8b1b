"""The typing replay tells answers apart, times only the model's, and accepts what would be typed anyway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.bench import replay
from tests.bench.client import Pending, offset_at
from tests.bench.heldout import SourceFile, generator
from tests.bench.replay import MAX_PAUSE_S, Tally, counts_of, pause_s, rows, stretch_of
from tests.bench.table import BenchError

LINES = [f"def f{n}(a):\n    return a + {n}\n" for n in range(40)]
FILE = SourceFile("fabric/connection.py", "python", "".join(LINES))


class FakeClient:
    """An editor's other side: keeps the document, and answers each request as the test says."""

    def __init__(self, answers: Iterator[str]) -> None:
        self.text = ""
        self.n_accepted = self.n_cancelled = 0
        self._answers = answers
        self._counts = dict.fromkeys(replay.COUNTS, 0)

    def open(self, uri: str, language_id: str, text: str) -> None:
        self.text = text

    def edit(self, uri: str, text: str, start: int, end: int, inserted: str) -> None:
        assert text == self.text
        self.text = text[:start] + inserted + text[end:]

    def ask(self, uri: str, position: Mapping[str, int]) -> Pending:
        pending = Pending(1, "textDocument/inlineCompletion", 0.0)
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
    replay._Replay(client, FILE, tally).type(n_keys)  # type: ignore[arg-type]
    return tally


def test_answers_are_told_apart_and_only_the_models_are_timed() -> None:
    kinds = ["model", "known", "gated", "late", "model", "late"]
    client = FakeClient(iter(kinds * 10))
    tally = typed(client, 60)
    assert tally.n_keys == 60
    assert tally.n_answers == {"model": 20, "known": 10, "gated": 10, "late": 20}
    assert (len(tally.model_ms), len(tally.known_ms)) == (20, 10)
    assert (tally.n_prompt_tokens, tally.n_cached_tokens) == (2000, 1800)
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
    assert by_name["key to the model's answer, debounce included, p50"].value is None
    assert by_name["key to the model's answer, debounce included, p50"].is_missed


def test_the_document_stays_that_of_the_server() -> None:
    client = FakeClient(iter(["model"] * 10_000))
    typed(client, 10_000)
    assert client.text == FILE.text


def test_the_stretch_is_in_the_middle_of_the_file() -> None:
    before, target, after = stretch_of(FILE, 10)
    assert before + target + after == FILE.text
    assert target == "".join(LINES[20:25])


def test_pauses_are_those_of_somebody_who_types() -> None:
    rng = generator("test")
    drawn = sorted(pause_s(rng) for _ in range(2000))
    assert 0.12 < drawn[1000] < 0.14
    assert 0.02 < drawn[0] < drawn[-1] <= MAX_PAUSE_S


def test_a_server_that_does_not_count_is_named() -> None:
    with pytest.raises(BenchError, match="does not tell modelAnswers, promptTokens, cachedTokens"):
        counts_of({"typedThrough": 3})
