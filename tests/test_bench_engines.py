"""Engines side by side: taking turns, judged by the tokens of the reference, and free to fail."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from server.lm.checkpoint import open_checkpoint
from server.lm.engine import PREFILL_CHUNK_TOKENS, Logits
from tests.bench import busy, engines, engines_own
from tests.bench.engines_candidates import CANDIDATES, OWN, REFERENCE, Candidate
from tests.bench.engines_process import EngineFailure, EngineProcess, Writer
from tests.bench.engines_report import BUSY, CASES, COLD, COMPLETION, Block, Timed, report
from tests.bench.engines_weights import gpt2_shape, n_parameters, write_random_checkpoint
from tests.bench.page import Table

TINY = gpt2_shape(n_layer=2, n_head=4, n_embd=64, vocab_size=500)


class Counting:
    """Continues a sequence by counting up from its last token."""

    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> list[int]:
        return [token_ids[-1] + number for number in range(1, n_new + 1)]


class Dying(Counting):
    """Dies at the second request."""

    n_asked = 0

    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> list[int]:
        self.n_asked += 1
        if self.n_asked > 1:
            os._exit(7)
        return super().write(token_ids, n_cached, n_new)


class Wrong(Counting):
    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> list[int]:
        return [0] * n_new


def make(kind: type[Writer], folder: Path, threads: int) -> Writer:
    return kind()


def not_there(folder: Path, threads: int) -> Writer:
    raise ValueError("no such model")


def candidate(name: str, kind: type[Writer], *, is_exact: bool = False, twin: type[Writer] | None = None) -> Candidate:
    return Candidate(name, partial(make, kind), (), is_exact, twin and partial(make, twin))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("random")
    write_random_checkpoint(folder, TINY)
    return folder


def test_the_shapes_are_those_that_were_promised() -> None:
    assert [round(n_parameters(shape) / 1e6) for shape in engines.SHAPES] == [34, 47]


def test_random_weights_are_the_same_every_time_and_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, TINY)
    assert open_checkpoint(tmp_path).fingerprint == open_checkpoint(checkpoint).fingerprint
    assert open_checkpoint(checkpoint).config == TINY


def test_our_engines_are_fed_by_chunks_and_only_what_is_new() -> None:
    fed: list[tuple[int, int, int]] = []

    class Recording:
        config, n_slots = TINY, 1

        def logits(self, slot: int, token_ids: Sequence[int], n_past: int, n_keep: int = 1) -> Logits:
            fed.append((len(token_ids), n_past, n_keep))
            return np.eye(n_keep, TINY.vocab_size, n_past, dtype=np.float32)

    n = PREFILL_CHUNK_TOKENS
    assert len(engines_own.Served(Recording()).write([1] * (2 * n + 5), n, 3)) == 3
    assert fed == [(n, n, 0), (5, 2 * n, 1), (1, 2 * n + 5, 1), (1, 2 * n + 6, 1)]


def test_engines_are_judged_by_what_they_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reference = candidate("right", Counting, is_exact=True)
    monkeypatch.setattr(engines, "REFERENCE", reference)
    others = [
        candidate("exact", Counting, is_exact=True),
        candidate("inexact", Wrong, is_exact=True),
        candidate("8 bits", Wrong, twin=Counting),
        candidate("wrongly converted", Counting, twin=Wrong),
        candidate("dies", Dying),
        Candidate("missing", partial(make, Counting), ("no_such_library",)),
    ]
    monkeypatch.setattr(engines, "CANDIDATES", (reference, *others))
    assert engines.compared(tmp_path, TINY, 10) == {
        "exact": "same tokens",
        "inexact": "✗ other tokens in fp32",
        "8 bits": "0 % of best tokens",
        "wrongly converted": "✗ other tokens in fp32",
        "dies": "✗ dies ended with status 7",
    }


def test_all_take_turns_and_one_that_fails_stops_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = (
        candidate("well", Counting),
        candidate("dies", Dying),
        Candidate("cannot load", not_there, ()),
        Candidate("missing", partial(make, Counting), ("no_such_library",)),
    )
    monkeypatch.setattr(engines, "CANDIDATES", chosen)
    monkeypatch.setattr(engines, "_REST_S", 0.0)
    timed = engines.timed_in_turn(tmp_path, TINY, threads=-1, n_rounds=2)
    assert {case: len(values) for case, values in timed["well"].seconds.items()} == dict.fromkeys(CASES, 2)
    assert timed["dies"].problem == "dies ended with status 7"
    assert timed["cannot load"].problem == "cannot load: ValueError: no such model"
    assert timed["missing"].problem == "not installed"


def test_an_engine_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.bench import engines_process

    monkeypatch.setattr(engines_process, "_ANSWER_S", 0.01)
    engine = EngineProcess("slow", partial(make, Counting, tmp_path, 1))
    with engine, pytest.raises(EngineFailure, match="slow did not answer within"):
        engine.wait_until_loaded()


def some_block() -> Block:
    timed = {each.name: Timed() for each in CANDIDATES}
    timed[OWN.name].seconds = {COLD: [0.25, 0.5], COMPLETION: [0.125, 0.25]}
    timed[REFERENCE.name].seconds = {COLD: [0.5, 1.5], COMPLETION: [0.125, 0.75]}
    timed["llama.cpp Q8_0"].problem = "not installed"
    return Block(TINY, 1, timed, {OWN.name: "98 % of best tokens", "own fp32": "✗ other tokens in fp32"})


def test_a_ratio_compares_what_was_timed_in_one_round() -> None:
    block = some_block()
    assert block.ratios(REFERENCE.name, COLD) == pytest.approx([2.0, 3.0])
    assert block.ratios(REFERENCE.name, BUSY) == []


def test_the_table_has_ratios_first_and_marks_what_is_wrong() -> None:
    found = report([some_block()])
    by_name = {row.what: row for row in found.rows}
    assert by_name["0.2 M parameters, 1 thread: torch reference"].value == pytest.approx(2.0)
    wrong = by_name["engines that compute something else"]
    assert (wrong.value, wrong.note, wrong.is_missed) == (1, "own fp32", True)
    table = found.sections[0].blocks[0]
    assert isinstance(table, Table)
    cells = {row[0]: tuple(row[1:]) for row in table.rows}
    assert cells["own 8-bit"] == ("1.00 × (375)", "-", "1.00 × (187.5)", "-", "98 % of best tokens")
    assert cells["torch reference"] == ("2.50 × (1000)", "-", "2.00 × (437.5)", "-", "is the reference")
    assert cells["llama.cpp Q8_0"][-1] == "not installed"
    assert found.details["0.2 M parameters, 1 thread"]["own 8-bit"][COLD] == [250, 500]


def test_a_neighbour_is_busy_until_left() -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[call-overload]
            started.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(busy.subprocess, "Popen", Watched)
        with busy.busy_neighbour():
            (process,) = started
            assert process.poll() is None
            ends_at = time.monotonic() + 20
            while cpu_ticks(process.pid) < 2 and time.monotonic() < ends_at:
                pass
            assert cpu_ticks(process.pid) >= 2
    assert process.poll() is not None


def cpu_ticks(pid: int) -> int:
    """Processor time that a process has had, in ticks of the clock."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        pytest.skip("no /proc here")
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
