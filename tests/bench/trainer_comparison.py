"""Our training loop against transformers' Trainer with peft: same rows, same plan, same adapter to begin with.

    python -P -m tests.bench.trainer_comparison REPOSITORY [--trainer-bf16]

Both train the same number of steps with the same optimizer, rates, clipping and looks at the validation rows, in turn,
several times. Both final states are then judged by the same function. Loading the model is not counted. The Trainer
computes in fp32, as it does unless told otherwise; with `--trainer-bf16` in bfloat16, by its own switch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from finetune import training
from finetune.base import Base, open_base
from finetune.batches import batch
from finetune.collect import check_enough, collect
from finetune.examples import Examples, Rows, make_examples
from finetune.lora import multiplies_bf16
from finetune.planning import RANK, Plan
from finetune.pretrain.gpt2 import IGNORED
from finetune.split import split
from tests.bench.machine import look

MAX_RATIO = 2 / 3  # of the Trainer's time
MAX_LOSS_ABOVE = 0.005  # nats a token, for the rounding of the two


@dataclass(frozen=True, slots=True)
class Run:
    """One training."""

    loop: str
    seconds: float
    validation: float  # nats a token, of the last state


def ours(base: Base, examples: Examples, plan: Plan) -> Run:
    """By `finetune.training`."""
    folder = Path(tempfile.mkdtemp(prefix="trainer-comparison-"))
    began = 0.0

    def told(progress: training.Progress) -> None:
        nonlocal began
        if progress.step == 0:  # the base has been judged
            began = time.perf_counter()

    try:
        trained = training.train(base, examples, plan, folder, told=told)
        seconds = time.perf_counter() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Run("ours", seconds, trained.history[-1][2])


def theirs(base: Base, examples: Examples, plan: Plan, bf16: bool = False) -> Run:
    """By transformers' Trainer, on the model as peft makes it."""
    torch.set_num_threads(plan.threads)
    model = training.new_adapter(base, plan, examples.train)
    named = model.parameters()
    groups = [
        {"params": [value for name, value in named.items() if ("lora_B" in name) is rising], "lr": rate}
        for rising, rate in ((False, plan.learning_rate), (True, plan.learning_rate * training.RISING))
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: training.rate_at(plan, step))
    folder = Path(tempfile.mkdtemp(prefix="trainer-comparison-"))
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch_rows,
        per_device_eval_batch_size=plan.batch_rows,
        eval_strategy="steps",
        eval_steps=plan.validate_every,
        prediction_loss_only=True,
        max_grad_norm=1.0,
        seed=plan.seed,
        use_cpu=True,
        bf16=bf16,
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        train_sampling_strategy="sequential",  # another order would give another loss
    )
    trainer = transformers.Trainer(
        model=model.peft,
        args=arguments,
        train_dataset=_dataset(_in_our_order(examples.train, plan, base.special.pad), base.special.pad),
        eval_dataset=_dataset(examples.validation, base.special.pad),
        optimizers=(optimizer, schedule),
    )
    try:
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    model.merge()
    return Run("Trainer + peft", seconds, training.validation_loss(model, examples.validation, plan, base.special.pad))


def _in_our_order(rows: Rows, plan: Plan, pad_id: int) -> Rows:
    """The rows of all steps, one after the other."""
    steps = (batch(rows, plan, step, pad_id) for step in range(plan.steps))
    whole = torch.cat([torch.cat([ids, targets[:, -1:]], dim=1) for ids, targets in steps])
    return whole.masked_fill(whole == IGNORED, pad_id).numpy()


def _dataset(rows: Rows, pad_id: int) -> list[dict[str, Any]]:
    """The rows as the Trainer takes them; targets are given as they are, so that no position is lost."""
    found = []
    for row in torch.from_numpy(rows.astype("int64")):
        targets = row[1:].masked_fill(row[1:] == pad_id, IGNORED)
        found.append({"input_ids": row[:-1], "labels": targets, "shift_labels": targets})
    return found


def compare(base: Base, examples: Examples, plan: Plan, rounds: int, trainer_bf16: bool = False) -> list[Run]:
    """Both in turn, who begins changes from round to round."""
    loops: list[Callable[[Base, Examples, Plan], Run]] = [ours, partial(theirs, bf16=trainer_bf16)]
    runs = []
    for number in range(rounds):
        for loop in loops if number % 2 == 0 else reversed(loops):
            runs.append(loop(base, examples, plan))
            print(f"{runs[-1].loop}: {runs[-1].seconds:.1f} s, validation {runs[-1].validation:.4f}", flush=True)
    return runs


def verdict(runs: Sequence[Run]) -> tuple[float, float]:
    """Our time as a share of theirs, and our validation loss minus theirs; of medians."""
    mine, other = ([run for run in runs if (run.loop == "ours") is own] for own in (True, False))
    ratio = statistics.median(run.seconds for run in mine) / statistics.median(run.seconds for run in other)
    above = statistics.median(run.validation for run in mine) - statistics.median(run.validation for run in other)
    return ratio, above


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when we are as good in two thirds of the time."""
    parser = argparse.ArgumentParser(prog="python -P -m tests.bench.trainer_comparison")
    parser.add_argument("repository", type=Path, help="folder whose code is learned")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rank", type=int, default=RANK)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trainer-bf16", action="store_true", help="let the Trainer compute in bfloat16")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    machine = look()
    print(machine)
    if machine.warning:
        print(machine.warning)
    found = collect(options.repository)
    check_enough(found)
    base = open_base("default")
    plan = Plan(
        steps=options.steps,
        rank=options.rank,
        alpha=2 * options.rank,
        warmup_steps=max(options.steps // 10, 1),
        validate_every=max(options.steps // 2, 1),
        threads=options.threads,
        general_rows=0,  # the Trainer has no such loss
        bf16=multiplies_bf16(),
    )
    files = split(options.repository, found.files)
    examples = make_examples(files, base.tokenizer, plan.length, plan.seed)
    runs = compare(base, examples, plan, options.rounds, options.trainer_bf16)
    ratio, above = verdict(runs)
    print(f"ours takes {ratio:.2f} of the time; validation loss {above:+.4f} nats a token")
    if options.json is not None:
        record = {"machine": str(machine), "plan": asdict(plan), "runs": [asdict(run) for run in runs], "ratio": ratio}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0 if ratio <= MAX_RATIO and above <= MAX_LOSS_ABOVE else 1


if __name__ == "__main__":
    sys.exit(main())
