"""The token ids of each step of a training: rows of the repository in an order of their own, and general code.

Which rows a step takes follows from the plan, its seed and the number of the step alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finetune.examples import Rows
from finetune.lora import LoraModel
from finetune.planning import Plan, n_steps_of
from finetune.pretrain.gpt2 import IGNORED


@dataclass(frozen=True, slots=True)
class General:
    """Rows of general code, with what the base's head sees there."""

    ids: Tensor  # (rows, time)
    targets: Tensor
    before: Tensor  # (rows, time, width)
    places: NDArray[np.int64]  # of each row that there was: its number among these

    def draw(self, plan: Plan, step: int) -> Tensor:
        """The numbers of the rows of a step."""
        return torch.from_numpy(self.places[_drawn(len(self.places), plan, step)])


def general_of(model: LoraModel, rows: Rows, plan: Plan, pad_id: int) -> General | None:
    """The rows of general code that the plan's steps draw, while the model is the base; None where it wants none."""
    if not len(rows) or not plan.general_rows or not plan.general_weight:
        return None
    wanted = np.unique(np.concatenate([_drawn(len(rows), plan, step) for step in range(n_steps_of(plan))]))
    places = np.full(len(rows), -1)
    places[wanted] = np.arange(len(wanted))
    ids, targets = split_ids(rows[wanted], pad_id)
    before = torch.cat([model.hidden_states(ids[start : start + 8]) for start in range(0, len(ids), 8)])
    return General(ids, targets, before, places)


def _drawn(n_rows: int, plan: Plan, step: int) -> NDArray[np.int64]:
    return np.random.default_rng((plan.seed, step, 1)).permutation(n_rows)[: plan.general_rows]


def batch(rows: Rows, plan: Plan, step: int, pad_id: int) -> tuple[Tensor, Tensor]:
    """The rows of a step: each epoch takes all of them, in an order of its own."""
    n_batches = max(len(rows) // plan.batch_rows, 1)
    epoch, number = divmod(step, n_batches)
    order = np.random.default_rng((plan.seed, epoch)).permutation(len(rows))
    return split_ids(rows[order[number * plan.batch_rows : (number + 1) * plan.batch_rows]], pad_id)


def split_ids(rows: Rows, pad_id: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (batch, length) each."""
    ids = torch.from_numpy(rows.astype(np.int64))
    return ids[:, :-1], ids[:, 1:].masked_fill(ids[:, 1:] == pad_id, IGNORED)


def n_targets(targets: Tensor) -> int:
    """How many count."""
    return int((targets != IGNORED).sum())
