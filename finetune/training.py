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

from finetune.base import Base
from finetune.batches import General, batch, general_of, n_targets, split_ids
from finetune.examples import Examples, Rows
from finetune.lora import LoraModel, LoraShape
from finetune.planning import Pace, Plan, n_steps_of
from finetune.run_state import BEST_FOLDER, LAST_FOLDER, RunState, keep_best, load_state, save_state
from finetune.world import World
from server.lm.errors import UserError

logger = logging.getLogger(__name__)

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
    left_s: float | None = None  # that the rest takes


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training."""

    adapter: Path  # the best state, in peft's files
    best: float  # its validation loss, nats a token
    best_step: int
    first: float  # of the base model
    history: tuple[tuple[int, float, float], ...]  # step, training loss since the last look, validation loss
    why_ended: End
    steps: int  # that were taken
    seconds: float
    tokens: int


def new_adapter(base: Base, plan: Plan, rows: Rows, device: str = "cpu") -> LoraModel:
    """The base with a fresh adapter of the plan's size, drawn from its seed.

    Names are what a repository has of its own: the embeddings of the tokens in `rows` are trained whole. On the tuning
    packages that takes twice as much off the validation loss as the matrices alone do.
    """
    occurring = {int(token_id) for token_id in np.unique(rows)} - {base.special.pad} if plan.tokens else set[int]()
    tokens = tuple(sorted({*base.new_tokens, *occurring}))
    shape = LoraShape(plan.rank, plan.alpha, token_rows=tokens, bf16=plan.bf16)
    return LoraModel(base.folder, shape, plan.seed, device)


def pace(base: Base, examples: Examples, plan: Plan, world: World) -> Pace:
    """How long a step, a look at the validation rows and the first reading of a step's general code take here.

    At their quickest; nothing is kept.
    """
    torch.set_num_threads(plan.threads)
    model = new_adapter(base, plan, examples.train, world.device)
    optimizer = _optimizer(model, plan)
    began = time.perf_counter()
    general = general_of(model, examples.general[: max(plan.general_rows, 1)], plan, base.special.pad)
    general_s = time.perf_counter() - began if general is not None else 0.0
    spent = []
    for _ in range(N_TIMED_STEPS):
        began = time.perf_counter()
        _take_step(model, optimizer, base, examples.train, general, plan, 0, world)
        spent.append(time.perf_counter() - began)
    began = time.perf_counter()
    some = examples.validation[: plan.batch_rows]
    validation_loss(model, some, plan, base.special.pad)
    look = (time.perf_counter() - began) * len(examples.validation) / max(len(some), 1)
    return Pace(world.longest(min(spent[1:])), world.longest(look), world.longest(general_s))


def train(
    base: Base,
    examples: Examples,
    plan: Plan,
    folder: Path,
    *,
    budget_s: float = math.inf,
    told: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    world: World | None = None,
) -> Trained:
    """Trains by `plan` and keeps the state with the lowest validation loss in `folder`; goes on from what lies there.

    Ends early when `stopped`, when the budget is used up, or when the validation loss rises. A state of other rows or
    another plan is not gone on from. UserError when the disk does not take the state.
    """
    began = time.monotonic()
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    rows, validation = examples.train, examples.validation
    if not len(rows) or not len(validation):
        raise UserError(f"{len(rows)} training rows and {len(validation)} that choose the best state: too little text")
    world = world or World.join()
    model = new_adapter(base, plan, rows, world.device)
    optimizer = _optimizer(model, plan)
    general = general_of(model, examples.general, plan, base.special.pad)  # of the base, before anything is learned
    identity = _identity(base, examples, plan)
    state = load_state(folder, model, optimizer, identity) if world.writes else None
    world.told(None)  # the others read what the first has made of the folder
    state = state or load_state(folder, model, optimizer, identity, cleans=False)
    spent, look_s = [0.0], 0.0  # seconds that each step and the last look took
    began, saved = began - state.seconds, time.monotonic()
    if math.isnan(state.first):
        looked = time.monotonic()
        state.first = state.best = validation_loss(model, validation, plan, base.special.pad)
        look_s = time.monotonic() - looked
        if world.writes:
            keep_best(folder, model)
        told(Progress(0, n_steps_of(plan), time.monotonic() - began, state.first, state.first))

    def look() -> None:
        nonlocal look_s
        looked = time.monotonic()
        _keep_if_better(validation_loss(model, validation, plan, base.special.pad), model, state, folder, world)
        look_s = time.monotonic() - looked

    def ending() -> End | None:
        """Why no step is to follow. Asked before each: a run that has ended goes on with none."""
        if state.n_worse >= PATIENCE:
            return "overfit"
        if world.any(stopped()):
            return "interrupted"
        ends_s = time.monotonic() - began + spent[-1] + look_s  # with one more step and the final look
        return "budget" if world.any(state.step > 0 and ends_s > budget_s) else None

    def left_s() -> float:
        """How long the steps and looks take that are left."""
        n_left = n_steps_of(plan) - state.step
        n_looks = n_steps_of(plan) // plan.validate_every - state.step // plan.validate_every + 1
        return n_left * sum(spent) / max(len(spent) - 1, 1) + n_looks * look_s

    why: End = "done"
    while state.step < n_steps_of(plan):
        if (ended := ending()) is not None:
            why = ended
            break
        stepped = time.monotonic()
        value = _take_step(model, optimizer, base, rows, general, plan, state.step, world)
        spent.append(time.monotonic() - stepped)
        state.step += 1
        state.tokens += (plan.batch_rows + (plan.general_rows if general else 0)) * plan.length
        state.seconds = time.monotonic() - began
        state.losses.append(value)
        told(Progress(state.step, n_steps_of(plan), state.seconds, _mean(state.losses), state.best, left_s()))
        if state.step % plan.validate_every == 0 or state.step == plan.steps:
            look()
        if world.writes and time.monotonic() - saved > SAVE_SECONDS:
            save_state(folder, model, optimizer, state, identity)
            saved = time.monotonic()
    state.seconds = time.monotonic() - began
    if world.writes:
        save_state(folder, model, optimizer, state, identity)
    # What was learned since the last look counts as well. Whoever goes on with more time goes on without this look.
    found = folder / BEST_FOLDER
    if state.losses and why != "interrupted":
        value = validation_loss(model, validation, plan, base.special.pad)
        if value < state.best and world.writes:
            found = keep_best(folder, model, LAST_FOLDER)
        _note(value, state)
    if world.any(stopped()):
        why = "interrupted"
    return Trained(
        adapter=found,
        best=state.best,
        best_step=state.best_step,
        first=state.first,
        history=tuple(state.history),
        why_ended=why,
        steps=state.step,
        seconds=time.monotonic() - began,
        tokens=state.tokens,
    )


def _take_step(
    model: LoraModel,
    optimizer: torch.optim.Optimizer,
    base: Base,
    rows: Rows,
    general: General | None,
    plan: Plan,
    step: int,
    world: World,
) -> float:
    """The loss of the step's rows, nats a token, from which the trained parameters have learned.

    General code is not learned: there the base's own distribution is what is wanted (Li and Hoiem 2016, learning
    without forgetting). UserError when there is no finite loss.
    """
    ids, targets = batch(rows, plan, step, base.special.pad)
    trained = list(model.parameters().values())
    loss = model.loss(*world.share(ids, targets), n_targets(targets))
    loss.backward()  # type: ignore[no-untyped-call]
    if not math.isfinite(value := loss.item()):
        raise UserError(f"the loss is {value} at step {step}; try a lower --learning-rate")
    if general is not None:
        picked = general.draw(plan, step)[world.rank :: world.size]
        ids, targets, before = general.ids[picked], general.targets[picked], general.before[picked]
        if len(ids):
            n_general = plan.general_rows * plan.length / plan.general_weight
            model.divergence(ids, targets, before, n_general).backward()  # type: ignore[no-untyped-call]
    world.add(trained)
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    for group in optimizer.param_groups:
        group["lr"] = plan.learning_rate * group["factor"] * rate_at(plan, step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.merge()
    return value


def rate_at(plan: Plan, step: int) -> float:
    """The factor on the rate of a step: up over the warm-up, then down along half a cosine to a tenth."""
    warm = min((step + 1) / max(plan.warmup_steps, 1), 1.0)
    share = min(step / max(plan.steps, 1), 1.0)
    return warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def validation_loss(model: LoraModel, validation: Rows, plan: Plan, pad_id: int) -> float:
    """Nats a token."""
    total, n_tokens = 0.0, 0
    for start in range(0, len(validation), plan.batch_rows):
        ids, targets = split_ids(validation[start : start + plan.batch_rows], pad_id)
        n_here = n_targets(targets)
        total += model.loss(ids, targets, 1).item()
        n_tokens += n_here
    return total / max(n_tokens, 1)


def _keep_if_better(value: float, model: LoraModel, state: RunState, folder: Path, world: World) -> None:
    """Keeps the state if its validation loss is less than that of the best one."""
    if value < state.best and world.writes:
        keep_best(folder, model)
    _note(value, state)


def _note(value: float, state: RunState) -> None:
    """Takes down a validation loss, and whether it is the least."""
    state.history.append((state.step, _mean(state.losses), value))
    state.losses = []
    logger.info("step %d: validation %.4f, the best %.4f", state.step, value, state.best)
    if value < state.best:
        state.best, state.best_step, state.n_worse = value, state.step, 0
    else:
        state.n_worse += 1


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / max(len(losses), 1)


def _optimizer(model: LoraModel, plan: Plan) -> torch.optim.Optimizer:
    """The B matrices begin at nought and learn best at a higher rate (LoRA+, arXiv 2402.12354)."""
    named = model.parameters()
    groups: list[dict[str, Any]] = [
        {"params": [value for name, value in named.items() if "lora_B" not in name], "factor": 1.0},
        {"params": [value for name, value in named.items() if "lora_B" in name], "factor": RISING},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=plan.weight_decay)


def _identity(base: Base, examples: Examples, plan: Plan) -> str:
    """What a state belongs to."""
    digest = hashlib.sha256(repr(sorted(asdict(plan).items())).encode() + base.identity.fingerprint.encode())
    for table in (examples.train, examples.validation, examples.general):
        digest.update(np.ascontiguousarray(table).data)
    return digest.hexdigest()
