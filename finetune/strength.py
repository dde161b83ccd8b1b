"""How much of an adapter is kept: as much as general code bears, and no more than helps.

Between the base and the adapter lies a line of models that know nearly all of both (Wortsman et al. 2022, robust
fine-tuning by weight averaging). On the tuning packages most of the gain is left where nearly nothing is forgotten.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from finetune.base import Base
from finetune.examples import Rows
from finetune.general import choosing_rows
from finetune.planning import Plan
from finetune.training import new_adapter, validation_loss

STRENGTHS = tuple(step / 20 for step in range(20, 1, -1))
# Of general code's nats a token. The gate allows 2 % on other text, where soco's adapter was at +2.1 % when it was at
# +0.9 % here.
MAX_RISE = 0.008


@dataclass(frozen=True, slots=True)
class Strength:
    """What was kept of an adapter."""

    value: float  # 0..1: 0 is the base, 1 what was trained
    validation: float  # nats a token
    general_rise: float  # share of the base's nats a token of general code


def settle(
    base: Base, plan: Plan, rows: Rows, validation: Rows, adapter: Path, kept: Path, device: str = "cpu"
) -> Strength:
    """Writes to the folder `kept` as much of the adapter in a folder, which `rows` have taught, as general code bears.

    Of the strengths that general code bears the one with the lowest validation loss. Where it bears none, the least
    one: the gate then says what is wrong.
    """
    torch.set_num_threads(plan.threads)
    model = new_adapter(base, plan, rows, device)
    untrained = model.values()
    general = choosing_rows(base, plan.length)
    before = validation_loss(model, general, plan, base.special.pad)
    model.load(adapter)
    trained = model.values()

    def rise(value: float) -> float:
        model.set_values(weakened(untrained, trained, value))
        return validation_loss(model, general, plan, base.special.pad) / before - 1

    def looked_at(value: float) -> Strength:
        harm = rise(value)
        return Strength(value, validation_loss(model, validation, plan, base.special.pad), harm)

    # Weaker adapters harm less: the first strength in the list that general code bears is found by halves.
    first = (
        0 if rise(STRENGTHS[0]) <= MAX_RISE else bisect_left(STRENGTHS, True, lo=1, key=lambda v: rise(v) <= MAX_RISE)
    )
    best = looked_at(STRENGTHS[min(first, len(STRENGTHS) - 1)])
    for value in STRENGTHS[first + 1 :]:
        found = looked_at(value)
        if found.validation >= best.validation:
            break
        best = found
    model.set_values(weakened(untrained, trained, best.value))
    model.save(kept)
    return best


def weakened(untrained: Mapping[str, Tensor], trained: Mapping[str, Tensor], strength: float) -> dict[str, Tensor]:
    """The values of an adapter that changes the base by a share of what the trained one does."""
    values = {}
    for name, value in trained.items():
        if "lora_A" in name:  # the product with B, which begins at nought, is what counts
            values[name] = value
        else:
            values[name] = torch.lerp(untrained[name], value, strength)
    return values
