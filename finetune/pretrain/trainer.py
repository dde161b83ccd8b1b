"""The training loop: rows in, checkpoint out, stoppable and resumable at any step.

The rate follows warm-up, stable, decay, so that a run can be continued from before its decay. A resumed run sees the
rows that an unbroken one would have seen (`row_source`). What a GPU does differently stands in `accelerator`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from finetune.pretrain.accelerator import Device, find_device, flops_per_token, prepare
from finetune.pretrain.gpt2 import GPT2, IGNORED, Shape
from finetune.pretrain.optimizer import optimizers
from finetune.pretrain.provenance import ProvenanceError, check_recipe, check_rows
from finetune.pretrain.row_source import RowSource, Wanted, length_of, open_rows
from finetune.pretrain.run_folder import (
    Progress,
    TrainingError,
    append_to_log,
    has_recipe,
    load_state,
    read_progress,
    read_recipe,
    save_checkpoint,
    save_progress,
    save_state,
    start_from,
    trained_tokens,
    weights_sha256,
    write_recipe,
)
from server.lm.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

PAD_ID = 6  # <|pad|>
CACHE_FOLDER = "unpacked"  # in the run's folder: the rows of the shards that have arrived
# What a plan says that does not change the weights, or is told otherwise.
NOT_IN_RECIPE = ("output", "start", "threads", "checkpoint_seconds", "log_seconds", "peak_tflops", "compiled")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained, and for how long."""

    shape: Shape
    rows: Path  # (rows, length + 1) uint16, .npy, or a folder of shards, to which some may be added as it trains
    output: Path
    start: Path | None = None  # a checkpoint whose weights are the first ones; optimizers and schedule start anew
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
    log_seconds: float = 15.0
    peak_tflops: float | None = None  # of the device, for its utilisation; None: by its name, if that is known
    compiled: bool = True  # on a GPU


def train(plan: Plan, stop_after_steps: int | None = None) -> GPT2:
    """Trains by `plan`, from `plan.output`'s state file where there is one, and leaves the weights there.

    `stop_after_steps` ends the call early with the state saved, as a kill would. Raises `TrainingError`, and
    `ProvenanceError` for rows of another tokenizer and for a state of another recipe.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    device = find_device(plan.peak_tflops)
    sources = _sources(plan)
    check_rows({source.path: source.provenance for source in sources.values()}, plan.tokenizer)
    model = GPT2(plan.shape)
    before = _start(plan, model)
    model = model.to(device.kind)
    parts = optimizers(model, plan.muon_rate, plan.adam_rate, plan.weight_decay)
    progress = load_state(plan.output, model, parts)
    recipe = _recipe(plan, sources, before)
    if progress.step and has_recipe(plan.output):
        check_recipe(plan.output, read_recipe(plan.output), recipe)
    write_recipe(plan.output, recipe)
    if _share_done(plan, progress) < 1:
        batches = [(source.batch_rows, source.length) for source in sources.values()]
        prepared = prepare(model, device, batches, plan.compiled)
        logger.info("on %s, prepared in %.0f s, which the schedule does not count", device.name, prepared)
    started, saved = time.monotonic() - progress.seconds, time.monotonic()
    watch = _Watch(plan, device)
    n_done, rate = 0, 0.0
    recent: list[Tensor] = []
    while (share := _share_done(plan, progress)) < 1:
        name = "long_rows" if "long_rows" in sources and share >= 1 - plan.long_share else "rows"
        batch = device.put(sources[name].batch(progress.rows_taken[name], progress.visits[name]))
        progress.rows_taken[name] += len(batch)
        targets = batch[:, 1:].masked_fill(batch[:, 1:] == PAD_ID, IGNORED)
        with device.autocast():
            loss = model.loss(batch[:, :-1], targets)
        recent.append(loss.detach())
        if not device.is_gpu:  # reading a loss would make a GPU wait: there it is read when it is told
            _mean(recent[-1:], progress.step)
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
        watch.step(targets.numel(), flops_per_token(plan.shape, sources[name].length))
        if watch.is_due():
            watch.tell(progress, rate, _mean(recent, progress.step - 1))
            recent = []
        if time.monotonic() - saved > plan.checkpoint_seconds or n_done == stop_after_steps:
            _mean(recent, progress.step - 1)  # weights that are no numbers are not saved
            save_state(plan.output, model, parts, progress)
            saved = time.monotonic()
        if n_done == stop_after_steps:
            return model
    if recent:
        loss_of_rest = _mean(recent, progress.step - 1)
        progress.seconds = time.monotonic() - started  # a GPU may have had steps before it
        watch.tell(progress, rate, loss_of_rest)
    save_state(plan.output, model, parts, progress)
    save_progress(plan.output, progress)
    save_checkpoint(model, plan.output)
    return model


def speed(plan: Plan) -> dict[str, object]:
    """How much a finished run saw and how fast, compilation left out. Raises `TrainingError`."""
    progress, device = read_progress(plan.output), find_device(plan.peak_tflops)
    tokens_per_second = progress.tokens / max(progress.seconds, 1e-9)
    flops = tokens_per_second * flops_per_token(plan.shape, length_of(plan.rows))
    used = round(flops / (1e12 * device.peak_tflops), 4) if device.peak_tflops else None
    return {
        "steps": progress.step,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "tokens_per_second": round(tokens_per_second, 1),
        "peak_tflops": device.peak_tflops,
        "flop_utilisation": used,
    }


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


def _sources(plan: Plan) -> dict[str, RowSource]:
    """The rows and the longer rows, if there are any, by the names that they have in `Progress`."""
    shape = plan.shape
    wanted = Wanted(plan.batch_tokens, plan.seed, shape.vocab_size, shape.n_positions, plan.output / CACHE_FOLDER)
    sources = {"rows": open_rows(plan.rows, wanted)}
    if plan.long_rows is not None:
        sources["long_rows"] = open_rows(plan.long_rows, wanted)
    return sources


def _start(plan: Plan, model: GPT2) -> dict[str, object] | None:
    """Puts the weights to start from into `model`; what a recipe says of them. Raises `UserError`."""
    if plan.start is None:
        return None
    start_from(plan.start, model)
    if plan.tokenizer is not None and (plan.start / "tokenizer.json").is_file():
        found = load_tokenizer(plan.start).fingerprint
        if found != plan.tokenizer:
            raise ProvenanceError(
                f"the checkpoint in {plan.start} was made with the tokenizer {found[:12]}, this run has "
                f"{plan.tokenizer[:12]}; name the --tokenizer of the checkpoint, with rows made by it"
            )
    return {"weights_sha256": weights_sha256(plan.start), "trained_tokens": trained_tokens(plan.start)}


def _mean(losses: Sequence[Tensor], last_step: int) -> float:
    """The mean of the losses of the steps up to `last_step`; 0.0 of none. Raises `TrainingError`."""
    values: list[float] = torch.stack(list(losses)).tolist() if losses else []
    for step, value in enumerate(values, last_step + 1 - len(values)):
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {step}; the last state that was saved is whole: "
                f"go on from it with a lower --muon-rate and --adam-rate"
            )
    return sum(values) / max(len(values), 1)


def _recipe(plan: Plan, sources: Mapping[str, RowSource], before: dict[str, object] | None) -> dict[str, object]:
    """The plan without folders and without what does not change the weights."""
    recipe = {name: value for name, value in asdict(plan).items() if name not in NOT_IN_RECIPE}
    for name in ("rows", "long_rows"):
        source = sources.get(name)
        recipe[name] = None if source is None else source.record()
    return {**recipe, "from": before}


class _Watch:
    """Tells log and user how fast it goes, every `log_seconds`."""

    def __init__(self, plan: Plan, device: Device) -> None:
        self._plan, self._device = plan, device
        self._told, self._tokens, self._flops = time.monotonic(), 0, 0.0

    def step(self, n_tokens: int, token_flops: float) -> None:
        """One more step was taken."""
        self._tokens += n_tokens
        self._flops += n_tokens * token_flops

    def is_due(self) -> bool:
        return time.monotonic() - self._told > self._plan.log_seconds

    def tell(self, progress: Progress, rate: float, loss: float) -> None:
        """Writes an entry about the steps since the one before."""
        share = _share_done(self._plan, progress)
        seconds = max(time.monotonic() - self._told, 1e-9)
        entry = {
            "step": progress.step,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds, 1),
            "rate": round(rate, 4),
            "loss": round(loss, 4),
            "tokens_per_second": round(self._tokens / seconds, 1),
        }
        used = ""
        if self._device.peak_tflops:
            entry["flop_utilisation"] = round(self._flops / seconds / (1e12 * self._device.peak_tflops), 4)
            used = f", {100 * entry['flop_utilisation']:.1f} % of the peak"
        append_to_log(self._plan.output, entry)
        logger.info(
            "step %d, %.2f M tokens, %.0f tokens/s%s, loss %.3f, %.1f %% done, %.1f min left",
            progress.step,
            progress.tokens / 1e6,
            entry["tokens_per_second"],
            used,
            loss,
            100 * share,
            progress.seconds * (1 / share - 1) / 60,
        )
        self._told, self._tokens, self._flops = time.monotonic(), 0, 0.0
