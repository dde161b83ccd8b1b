"""How much of an adapter is kept: all of it where general code bears it, less where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from finetune import strength
from finetune.base import Base, open_base
from finetune.examples import Examples, Rows
from finetune.general import choosing_rows
from finetune.planning import Plan
from finetune.strength import STRENGTHS, settle, weakened
from finetune.training import new_adapter, train, validation_loss
from server.lm.adapter_manifest import ADAPTER_WEIGHTS_FILE

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")
PLAN = Plan(steps=20, length=32, batch_rows=4, rank=4, alpha=8, learning_rate=5e-3, warmup_steps=2, validate_every=10)


@pytest.fixture
def base(tiny_checkpoint: Path) -> Base:
    return open_base(str(tiny_checkpoint))


@pytest.fixture
def rows() -> Rows:
    starts = np.random.default_rng(0).integers(10, 60, 24)
    return np.array([[10 + (start + 7 * at) % 50 for at in range(33)] for start in starts], dtype=np.uint16)


@pytest.fixture
def adapter(base: Base, rows: Rows, tmp_path: Path) -> Path:
    return train(base, Examples(rows, rows[:4], rows[:0], 1.0), PLAN, tmp_path / "run").adapter


def test_where_nothing_is_forgotten_all_is_kept(
    base: Base, rows: Rows, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strength, "MAX_RISE", 1e9)
    monkeypatch.setattr(strength, "choosing_rows", lambda *given: choosing_rows(*given)[:8])
    before = load_file(adapter / ADAPTER_WEIGHTS_FILE)
    found = settle(base, PLAN, rows, rows[:4], adapter, kept := adapter.with_name("kept"))
    assert found.value == 1.0
    after = load_file(kept / ADAPTER_WEIGHTS_FILE)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_what_general_code_does_not_bear_is_weakened(
    base: Base, rows: Rows, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    general = written_by(base, rows)
    monkeypatch.setattr(strength, "choosing_rows", lambda *_: general)
    full = settle_rise(base, general, rows, adapter)
    monkeypatch.setattr(strength, "MAX_RISE", full / 3)
    found = settle(base, PLAN, rows, rows[:4], adapter, kept := adapter.with_name("kept"))
    again = settle(
        base, PLAN, rows, rows[:4], adapter, kept
    )  # after a kill: from what was trained, not from what was kept
    assert again == found
    assert STRENGTHS[-1] < found.value < 1 and found.general_rise <= full / 3
    model = new_adapter(base, PLAN, rows)
    first = validation_loss(model, rows[:4], PLAN, base.special.pad)
    model.load(kept)
    assert validation_loss(model, rows[:4], PLAN, base.special.pad) == pytest.approx(found.validation, rel=1e-5)
    assert found.validation < first


def written_by(base: Base, rows: Rows) -> Rows:
    """What the base itself writes, so that every change of it makes that harder to predict."""
    model = new_adapter(base, PLAN, rows)
    ids = torch.arange(10, 18).unsqueeze(1)
    with torch.no_grad():
        while ids.shape[1] <= PLAN.length:
            ids = torch.cat([ids, model.peft(input_ids=ids).logits[:, -1:].argmax(dim=2)], dim=1)
    return ids.numpy().astype(np.uint16)


def settle_rise(base: Base, general: Rows, rows: Rows, adapter: Path) -> float:
    """How much the whole adapter harms general code."""
    model = new_adapter(base, PLAN, rows)
    before = validation_loss(model, general, PLAN, base.special.pad)
    model.load(adapter)
    return validation_loss(model, general, PLAN, base.special.pad) / before - 1


def test_half_of_the_strength_is_half_of_the_change(base: Base, rows: Rows) -> None:
    model = new_adapter(base, PLAN, rows)
    untrained = model.values()
    torch.manual_seed(0)
    trained = {name: value + 0.1 * torch.randn_like(value) for name, value in untrained.items()}

    def change(values: dict[str, torch.Tensor], module: str) -> torch.Tensor:
        ups, downs = ([v for n, v in sorted(values.items()) if module in n and part in n] for part in ("_B", "_A"))
        return ups[0] @ downs[0]

    half = weakened(untrained, trained, 0.5)
    torch.testing.assert_close(change(half, "c_attn"), change(trained, "c_attn") / 2)
    assert all(torch.equal(weakened(untrained, trained, 1.0)[name], trained[name]) for name in trained)
