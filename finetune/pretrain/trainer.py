"""The training loop: rows in, checkpoint out, stoppable and resumable at any step.

The rate follows warm-up, stable, decay, so that a run can be continued from before its decay. The order of rows depends
on the seed and the step alone: a resumed run sees what an unbroken one would have seen.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from finetune.pretrain.gpt2 import GPT2, IGNORED, Shape
from finetune.pretrain.optimizer import optimizers
from finetune.pretrain.provenance import check_recipe, check_rows, read_provenance
from finetune.pretrain.rows import Rows
from finetune.pretrain.run_folder import (
    Progress,
    TrainingError,
    append_to_log,
    has_recipe,
    load_state,
    read_recipe,
    save_checkpoint,
    save_state,
    write_recipe,
)

logger = logging.getLogger(__name__)

PAD_ID = 6  # <|pad|>


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained, and for how long."""

    shape: Shape
    rows: Path  # (rows, length + 1) uint16, .npy
    output: Path
    long_rows: Path | None = None  # longer rows for the last part, so that late positions are learned
    long_share: float = 0.3
    tokenizer: str | None = None  # fingerprint; rows that were made with another one are refused
    batch_tokens: int = 4096
    minutes: float | None = None
    tokens: int | None = None  # with `minutes` too, whatever ends first
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup_steps: int = 60
    decay_share: float = 0.4
    seed: int = 1
    threads: int = 2
    checkpoint_seconds: float = 240.0


def train(plan: Plan, stop_after_steps: int | None = None) -> GPT2:
    """Trains by `plan`, from `plan.output`'s state file where there is one, and leaves the weights there.

    `stop_after_steps` ends the call early with the state saved, as a kill would. Raises `TrainingError`, and
    `ProvenanceError` for rows of another tokenizer and for a state of another recipe.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sources = {"rows": _RowSource(plan.rows, plan)}
    if plan.long_rows is not None:
        sources["long_rows"] = _RowSource(plan.long_rows, plan)
    check_rows({source.path: source.provenance for source in sources.values()}, plan.tokenizer)
    model = GPT2(plan.shape).to(device)
    parts = optimizers(model, plan.muon_rate, plan.adam_rate, plan.weight_decay)
    progress = load_state(plan.output, model, parts)
    compute_loss = torch.compile(model.loss) if device == "cuda" else model.loss
    recipe = _recipe(plan, sources)
    if progress.step and has_recipe(plan.output):
        check_recipe(plan.output, read_recipe(plan.output), recipe)
    write_recipe(plan.output, recipe)
    started, saved, shown = time.monotonic() - progress.seconds, time.monotonic(), 0.0
    n_done, rate = 0, 0.0
    recent: list[float] = []
    while (share := _share_done(plan, progress)) < 1:
        source = "long_rows" if "long_rows" in sources and share >= 1 - plan.long_share else "rows"
        batch = sources[source].batch(progress.rows_taken[source]).to(device, non_blocking=True)
        progress.rows_taken[source] += len(batch)
        targets = batch[:, 1:].clone()
        targets[targets == PAD_ID] = IGNORED
        autocast = torch.autocast("cuda", dtype=torch.bfloat16) if device == "cuda" else nullcontext()
        with autocast:
            loss = compute_loss(batch[:, :-1], targets)
        recent.append(_finite(loss, progress))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = rate_at(plan, share, progress.step)
        for part, peak in zip(parts, (plan.muon_rate, plan.adam_rate), strict=True):
            for group in part.param_groups:
                group["lr"] = peak * rate
            part.step()
            part.zero_grad(set_to_none=True)
        progress.step += 1
        progress.tokens += targets.numel()
        progress.seconds = time.monotonic() - started
        n_done += 1
        if progress.seconds - shown > 15:
            shown = progress.seconds
            _log(plan, progress, rate, sum(recent) / len(recent))
            recent = []
        if time.monotonic() - saved > plan.checkpoint_seconds or n_done == stop_after_steps:
            save_state(plan.output, model, parts, progress)
            saved = time.monotonic()
        if n_done == stop_after_steps:
            return model
    if recent:
        _log(plan, progress, rate, sum(recent) / len(recent))
    save_state(plan.output, model, parts, progress)
    save_checkpoint(model, plan.output)
    return model


def rate_at(plan: Plan, share: float, step: int) -> float:
    """The factor on the peak rates: up over `warmup_steps`, flat, then 1 - sqrt down to nought over `decay_share`."""
    warm = min((step + 1) / max(plan.warmup_steps, 1), 1.0)
    left = (share - (1 - plan.decay_share)) / plan.decay_share if plan.decay_share else 0.0
    return warm * (1 - math.sqrt(left) if left > 0 else 1.0)


def _share_done(plan: Plan, progress: Progress) -> float:
    """How much of the budget is used, 1 at its end."""
    if plan.minutes is None and plan.tokens is None:
        raise TrainingError("a run needs a budget: give --minutes or --tokens")
    shares = []
    if plan.minutes is not None:
        shares.append(progress.seconds / (60 * plan.minutes))
    if plan.tokens is not None:
        shares.append(progress.tokens / plan.tokens)
    return max(shares)


class _RowSource:
    """The rows of one file, in an order that the seed draws anew for each pass over them."""

    def __init__(self, path: Path, plan: Plan) -> None:
        try:
            rows: Rows = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise TrainingError(
                f"cannot read training rows {path}: {error}; make them with `finetune.pretrain rows`"
            ) from error
        n_positions = plan.shape.n_positions
        if rows.ndim != 2 or rows.shape[0] == 0 or not 2 <= rows.shape[1] <= n_positions + 1:
            raise TrainingError(
                f"{path} holds rows of shape {rows.shape}, the model takes at most {n_positions} tokens"
            )
        self.path, self.provenance = path, read_provenance(path)
        self.n_rows, self.length = len(rows), rows.shape[1] - 1
        self._rows, self._seed, self._vocab_size = rows, plan.seed, plan.shape.vocab_size
        self._batch_rows = max(plan.batch_tokens // self.length, 1)
        self._n_pass, self._order = -1, np.zeros(0, dtype=np.int64)

    def batch(self, first: int) -> torch.Tensor:
        """The rows that come as the `first`-th and after it: (rows, length + 1)."""
        rows = np.stack([self._rows[self._row_at(first + i)] for i in range(self._batch_rows)])
        if rows.max() >= self._vocab_size:
            raise TrainingError(
                f"{self.path} holds token id {rows.max()}, the model has {self._vocab_size}; "
                f"make the rows again with the tokenizer of this run"
            )
        return torch.from_numpy(rows.astype(np.int64))

    def record(self) -> dict[str, object]:
        """What a recipe says of the rows: their number, and where they come from if that is known."""
        known = {} if self.provenance is None else asdict(self.provenance)
        return {"rows": self.n_rows, **known, "length": self.length}

    def _row_at(self, number: int) -> int:
        n_pass, place = divmod(number, self.n_rows)
        if n_pass != self._n_pass:
            self._n_pass = n_pass
            self._order = np.random.default_rng([self._seed, n_pass, self.n_rows]).permutation(self.n_rows)
        return int(self._order[place])


def _finite(loss: torch.Tensor, progress: Progress) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss is {value} at step {progress.step}; the last state that was saved is whole: "
            f"go on from it with a lower --muon-rate and --adam-rate"
        )
    return value


def _recipe(plan: Plan, sources: Mapping[str, _RowSource]) -> dict[str, object]:
    """The plan without folders and without what does not change the weights."""
    recipe = asdict(plan)
    for name in ("output", "threads", "checkpoint_seconds"):
        del recipe[name]
    for name in ("rows", "long_rows"):
        source = sources.get(name)
        recipe[name] = None if source is None else source.record()
    return recipe


def _log(plan: Plan, progress: Progress, rate: float, loss: float) -> None:
    share = _share_done(plan, progress)
    entry = {
        "step": progress.step,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "rate": round(rate, 4),
        "loss": round(loss, 4),
    }
    append_to_log(plan.output, entry)
    logger.info(
        "step %d, %.2f M tokens, %.0f tokens/s, loss %.3f, %.1f %% done, %.0f min left",
        progress.step,
        progress.tokens / 1e6,
        progress.tokens / max(progress.seconds, 1e-9),
        loss,
        100 * share,
        progress.seconds * (1 / share - 1) / 60,
    )
