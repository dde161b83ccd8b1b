"""The training loop of an adaptation: rows in, the best adapter out; stoppable and resumable at any step.

Every state is saved aside and renamed, so a kill at any moment leaves one that can be gone on from. The same plan, seed
and rows give the same adapter on a CPU. Started by torchrun, each process takes its share of every batch.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from finetune.examples import Rows
from finetune.lora import LoraModel, LoraShape
from finetune.planning import Plan
from finetune.pretrain.gpt2 import IGNORED
from finetune.run_state import BEST_FOLDER, RunState, keep_best, load_state, save_state
from finetune.world import World
from server.lm.errors import UserError

logger = logging.getLogger(__name__)

PAD_ID = 6  # <|pad|>
SAVE_SECONDS = 60.0
PATIENCE = 4  # looks at the validation rows without a better one
RISING = 4.0  # how much faster the B matrices learn
N_TIMED_STEPS = 4

End = Literal["done", "overfit", "interrupted", "budget"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is."""

    step: int
    steps: int
    seconds: float
    loss: float  # of the steps since the last look, nats a token
    validation: float | None  # the best so far


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training."""

    adapter: Path  # the best state, in peft's files
    best: float  # its validation loss, nats a token
    best_step: int
    first: float  # of the base model
    history: tuple[tuple[int, float, float], ...]  # step, training loss since the last look, validation loss
    why_ended: End
    seconds: float
    tokens: int


def seconds_per_step(base: Path, rows: Rows, plan: Plan) -> float:
    """How long a step takes here, the first ones not counted. Nothing is kept."""
    torch.set_num_threads(plan.threads)
    model = LoraModel(base, LoraShape(plan.rank, plan.alpha, bf16=plan.bf16), plan.seed)
    spent = []
    for _ in range(N_TIMED_STEPS):
        began = time.perf_counter()
        ids, targets = _batch(rows, plan, 0)
        model.loss(ids, targets, _n_targets(targets)).backward()  # type: ignore[no-untyped-call]
        spent.append(time.perf_counter() - began)
    return min(spent[1:])


def train(
    base: Path,
    rows: Rows,
    validation: Rows,
    plan: Plan,
    folder: Path,
    *,
    budget_s: float = math.inf,
    told: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains by `plan` and keeps the state with the lowest validation loss in `folder`; goes on from what lies there.

    Ends early when `stopped`, when the budget is used up, or when the validation loss rises. UserError when the disk
    does not take the state, or the rows are others than those of the state.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    if not len(rows) or not len(validation):
        raise UserError(f"{len(rows)} training rows and {len(validation)} that choose the best state: too little text")
    world = World.join(plan.batch_rows)
    model = LoraModel(base, LoraShape(plan.rank, plan.alpha, bf16=plan.bf16), plan.seed)
    trained = list(model.parameters().values())
    optimizer = _optimizer(model, plan)
    identity = _identity(base, rows, validation, plan)
    state = load_state(folder, model, optimizer, identity)
    began, saved = time.monotonic() - state.seconds, time.monotonic()
    if math.isnan(state.first):
        state.first = state.best = validation_loss(model, validation, plan)
        if world.writes:
            keep_best(folder, model)
        told(Progress(0, plan.steps, 0.0, state.first, state.first))
    why: End = "done"
    while state.step < plan.steps:
        ids, targets = _batch(rows, plan, state.step)
        n_targets = _n_targets(targets)
        loss = model.loss(*world.share(ids, targets), n_targets)
        loss.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(value := loss.item()):
            raise UserError(f"the loss is {value} at step {state.step}; try a lower --learning-rate")
        world.add(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        rate = rate_at(plan, state.step)
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * group["factor"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        model.merge()
        state.step += 1
        state.tokens += plan.batch_rows * plan.length
        state.seconds = time.monotonic() - began
        state.losses.append(value)
        told(Progress(state.step, plan.steps, state.seconds, _mean(state.losses), state.best))
        if state.step % plan.validate_every == 0 or state.step == plan.steps:
            _look(model, validation, plan, state, folder, world)
        if world.writes and time.monotonic() - saved > SAVE_SECONDS:
            save_state(folder, model, optimizer, state, identity)
            saved = time.monotonic()
        is_over = state.n_worse >= PATIENCE
        is_stopped, is_late = world.any(stopped()), world.any(state.seconds > budget_s)
        if is_over or is_stopped or is_late:
            why = "overfit" if is_over else "interrupted" if is_stopped else "budget"
            break
    if state.losses and why != "interrupted":  # what was learned since the last look counts as well
        _look(model, validation, plan, state, folder, world)
    state.seconds = time.monotonic() - began
    if world.writes:
        save_state(folder, model, optimizer, state, identity)
    return Trained(
        adapter=folder / BEST_FOLDER,
        best=state.best,
        best_step=state.best_step,
        first=state.first,
        history=tuple(state.history),
        why_ended=why,
        seconds=state.seconds,
        tokens=state.tokens,
    )


def rate_at(plan: Plan, step: int) -> float:
    """The factor on the rate of a step: up over the warm-up, then down along half a cosine to a tenth."""
    warm = min((step + 1) / max(plan.warmup_steps, 1), 1.0)
    share = min(step / max(plan.steps, 1), 1.0)
    return warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def validation_loss(model: LoraModel, validation: Rows, plan: Plan) -> float:
    """Nats a token."""
    total, n_tokens = 0.0, 0
    for start in range(0, len(validation), plan.batch_rows):
        ids, targets = _split_ids(validation[start : start + plan.batch_rows])
        n_here = _n_targets(targets)
        total += model.loss(ids, targets, 1).item()
        n_tokens += n_here
    return total / max(n_tokens, 1)


def _look(model: LoraModel, validation: Rows, plan: Plan, state: RunState, folder: Path, world: World) -> None:
    """Compares with the best state, and keeps this one if it is better."""
    value = validation_loss(model, validation, plan)
    state.history.append((state.step, _mean(state.losses), value))
    state.losses = []
    logger.info("step %d of %d: validation %.4f, the best %.4f", state.step, plan.steps, value, state.best)
    if value < state.best:
        state.best, state.best_step, state.n_worse = value, state.step, 0
        if world.writes:
            keep_best(folder, model)
    else:
        state.n_worse += 1


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / max(len(losses), 1)


def _batch(rows: Rows, plan: Plan, step: int) -> tuple[Tensor, Tensor]:
    """The rows of a step: each epoch takes all of them, in an order of its own."""
    n_batches = max(len(rows) // plan.batch_rows, 1)
    epoch, number = divmod(step, n_batches)
    order = np.random.default_rng((plan.seed, epoch)).permutation(len(rows))
    return _split_ids(rows[order[number * plan.batch_rows : (number + 1) * plan.batch_rows]])


def _split_ids(rows: Rows) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (batch, length) each."""
    ids = torch.from_numpy(rows.astype(np.int64))
    return ids[:, :-1], ids[:, 1:].masked_fill(ids[:, 1:] == PAD_ID, IGNORED)


def _n_targets(targets: Tensor) -> int:
    return int((targets != IGNORED).sum())


def _optimizer(model: LoraModel, plan: Plan) -> torch.optim.Optimizer:
    """The B matrices begin at nought and learn best at a higher rate (LoRA+, arXiv 2402.12354)."""
    named = model.parameters()
    groups: list[dict[str, Any]] = [
        {"params": [value for name, value in named.items() if "lora_B" not in name], "factor": 1.0},
        {"params": [value for name, value in named.items() if "lora_B" in name], "factor": RISING},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=plan.weight_decay)


def _identity(base: Path, rows: Rows, validation: Rows, plan: Plan) -> str:
    """What a state belongs to."""
    digest = hashlib.sha256(repr(sorted(asdict(plan).items())).encode() + str(base).encode())
    for table in (rows, validation):
        digest.update(np.ascontiguousarray(table).data)
    return digest.hexdigest()
