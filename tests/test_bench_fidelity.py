"""Engines that say the same are found to, others not; healing and bits per byte are measured on what is really fed."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, FakeTokenizer, NextLogits, noise

from server.lm import healing as server_healing
from server.lm import prompt as server_prompt
from server.lm.engine import Logits
from server.lm.healing import TokenIndex
from server.lm.tokenizer import load_tokenizer
from tests.bench import healing
from tests.bench.fidelity import N_NEW_TOKENS, agreement, bytes_of, greedy, read
from tests.bench.heldout import SourceFile, draw_offsets
from tests.bench.options import Options

N_VOCAB = 50
PROMPT = [9, 17, 25]
TEXT = "def add(first, second):\n    return first + second\n\n\nclass Point:\n    def move(self, dx):\n"
TEXT += "        self.x += dx\n"
FILE = SourceFile("fabric/point.py", "python", TEXT * 3)


def shifted(next_logits: NextLogits, by: float) -> NextLogits:
    """The same logits but for the best: it loses to the second best by so much."""

    def changed(token_ids: tuple[int, ...]) -> Logits:
        logits = next_logits(token_ids).copy()
        second, best = np.argsort(logits)[-2:]
        logits[best] = logits[second] - by
        return logits

    return changed


@pytest.mark.parametrize("by, expected", [(1e-4, "tie"), (0.01, "different")])
def test_a_difference_is_none_at_a_tie(by: float, expected: str) -> None:
    engine = FakeEngine(noise(N_VOCAB), N_VOCAB)
    written = greedy(engine, PROMPT, N_NEW_TOKENS)
    assert len(written) == N_NEW_TOKENS
    assert agreement(engine, PROMPT, written) == "same"
    assert agreement(FakeEngine(shifted(noise(N_VOCAB), by), N_VOCAB), PROMPT, written) == expected


def test_one_other_token_is_a_difference() -> None:
    engine = FakeEngine(noise(N_VOCAB), N_VOCAB)
    written = greedy(engine, PROMPT, 8)
    assert agreement(engine, PROMPT, [*written[:-1], (written[-1] + 1) % N_VOCAB]) == "different"


def test_bits_are_those_of_the_text_behind_its_head() -> None:
    even = FakeEngine(lambda _: np.zeros(N_VOCAB, dtype=np.float32), N_VOCAB)
    reading = read(even, [1, 2, 3], [5] * 100)
    assert math.isclose(reading.bits, 100 * math.log2(N_VOCAB))
    known = FakeEngine(noise(N_VOCAB), N_VOCAB)
    text = greedy(known, PROMPT, 70)
    assert (read(known, PROMPT, text).best == np.array(text)).all()
    assert bytes_of([8, 9, 0], FakeTokenizer(["ab", "c"])) == 3


def test_the_prompt_follows_the_tokens_of_the_whole_text(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_checkpoint)
    index = TokenIndex(tokenizer)
    places = draw_offsets([FILE], 200, "test")

    def n_off() -> int:
        return sum(not healing.healed(file, offset, tokenizer, index).is_canonical for file, offset in places)

    assert n_off() == 0
    monkeypatch.setattr(server_prompt, "heal", lambda token_ids, *_: (list(token_ids), b""))
    assert n_off() > 20
    monkeypatch.setattr(server_prompt, "heal", functools.partial(server_healing.heal, extra_tokens=0))
    assert healing.healed(FILE, 30, tokenizer, index).n_pending_bytes > 0


def test_all_cursors_are_looked_at(tiny_checkpoint: Path) -> None:
    rows = healing.run(Options(files=(FILE,), model=str(tiny_checkpoint), count=50))
    assert rows[0].note == "0 of 50"
    assert not rows[0].is_missed
