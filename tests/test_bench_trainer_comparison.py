"""The comparison with the Trainer: the same work for both, and a verdict that follows from the runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from finetune.base import open_base
from finetune.examples import Examples
from finetune.planning import Plan
from tests.bench.trainer_comparison import Run, compare, verdict


def test_the_verdict_is_of_medians() -> None:
    runs = [Run("ours", 1.0, 2.0), Run("ours", 9.0, 2.2), Run("ours", 2.0, 2.1), Run("Trainer + peft", 4.0, 2.0)]
    ratio, above = verdict(runs)
    assert ratio == 0.5
    assert math.isclose(above, 0.1)


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning")
def test_both_loops_end_with_the_same_loss(tiny_checkpoint: Path) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(7, 100, (14, 33)).astype(np.uint16)
    table[0, -9:] = 6
    plan = Plan(steps=4, length=32, batch_rows=4, rank=4, alpha=8, warmup_steps=1, validate_every=2)
    runs = compare(open_base(str(tiny_checkpoint)), Examples(table[:9], table[9:], table[:0], 1.0), plan, rounds=2)
    assert [run.loop for run in runs] == ["ours", "Trainer + peft", "Trainer + peft", "ours"]
    losses = [run.validation for run in runs]
    assert losses[0] == losses[3] and losses[1] == losses[2]
    assert math.isclose(losses[0], losses[1], rel_tol=0.02)
