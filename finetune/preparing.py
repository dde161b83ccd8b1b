"""From a folder to what is trained: its text, the split, the plan for the time there is, and the rows."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from finetune.base import Base
from finetune.collect import Collection, check_enough, collect
from finetune.examples import Examples, make_examples
from finetune.kept_run import KeptRun, keep_run, read_run
from finetune.lora import multiplies_bf16
from finetune.novelty import novelty
from finetune.options import DEFAULT_BUDGET_S, Options
from finetune.planning import (
    BATCH_ROWS,
    ROW_LENGTH,
    SHORT_ROW_LENGTH,
    Pace,
    Plan,
    is_hurried,
    n_looks_for,
    plan_for,
    read_plan,
)
from finetune.progress import Display, minutes
from finetune.split import Split, split
from finetune.training import new_adapter, pace
from finetune.world import World
from server.lm.engine import default_threads
from server.lm.errors import UserError


def prepared(
    options: Options, display: Display, base: Base, run_folder: Path, world: World
) -> tuple[KeptRun, Collection, Split]:
    """What is to be trained, kept so that an interrupted run can go on, and the text that judges it."""
    if options.resume:
        run = read_run(run_folder, options.repository, base)
        collection = collect(options.repository, run.include, run.exclude, run.seed)
        return run, collection, run.split_of(collection.files)
    if world.writes:
        shutil.rmtree(run_folder, ignore_errors=True)
    named = None if options.plan is None else _fitting(read_plan(options.plan), options, base)
    seed = options.seed if options.seed is not None else named.seed if named else 0
    collection = collect(options.repository, options.include, options.exclude, seed)
    check_enough(collection)
    parts = split(options.repository, collection.files, options.holdout, seed)
    for line in found(collection, parts):
        display.say(line)
    plan, examples = _planned(options, display, base, parts, named, seed, world)
    run = KeptRun(
        plan=plan,
        examples=examples,
        base=base.identity.fingerprint,
        seed=seed,
        time_budget_s=options.time_budget_s or DEFAULT_BUDGET_S,
        include=options.include,
        exclude=options.exclude,
        holdout=options.holdout,
        is_timed=named is None,
        learned={file.path: hashlib.sha256(file.text.encode()).hexdigest() for file in parts.train},
        validation=tuple(file.path for file in parts.validation),
        heldout=tuple(file.path for file in parts.heldout),
    )
    if world.writes:
        try:
            keep_run(run_folder, run)
        except OSError as error:
            raise unwritable(run_folder, error, "the adapter in force is as it was") from error
    return run, collection, parts


def _fitting(plan: Plan, options: Options, base: Base) -> Plan:
    """A named plan with what the options say beside it. UserError for one that the base cannot follow."""
    if plan.length >= base.n_positions:
        raise UserError(
            f"the plan {options.plan} has rows of {plan.length} tokens, the base model takes {base.n_positions - 1} at "
            f"most; name a smaller `length`"
        )
    if options.seed is not None:
        plan = replace(plan, seed=options.seed)
    if options.learning_rate is not None:
        plan = replace(plan, learning_rate=options.learning_rate)
    return plan if options.rank is None else replace(plan, rank=options.rank, alpha=2 * options.rank)


def _planned(
    options: Options, display: Display, base: Base, parts: Split, named: Plan | None, seed: int, world: World
) -> tuple[Plan, Examples]:
    """The plan, and the rows that it trains on: of all text, or of the most novel where not all of it fits."""
    if named is not None:
        plan, examples = named, make_examples(parts, base.tokenizer, named.length, seed)
    else:
        display.say("timing some steps")
        plan, examples, expected_s = _timed(options, base, parts, ROW_LENGTH, seed, world)
        if is_hurried(plan, len(examples.train)):
            plan, examples, expected_s = _timed(options, base, parts, SHORT_ROW_LENGTH, seed, world)
        display.say(
            f"plan: {plan.steps} steps of {plan.batch_rows} rows and {plan.general_rows} of general code (weight "
            f"{plan.general_weight:g}), {plan.length} tokens each, rank {plan.rank}, {plan.threads} "
            f"thread{'s' * (plan.threads > 1)}, about "
            f"{minutes(expected_s)}"
        )
    n_rows = plan.steps * plan.batch_rows
    if n_rows < len(examples.train):
        new = novelty(new_adapter(base, plan, examples.train), base.tokenizer, parts.train)
        examples = make_examples(parts, base.tokenizer, plan.length, seed, max_rows=n_rows, novelty=new)
        display.say(f"less than an epoch fits: the most novel {100 * examples.share_seen:.0f} % of the text is learned")
    return plan, examples


def _timed(
    options: Options, base: Base, parts: Split, length: int, seed: int, world: World
) -> tuple[Plan, Examples, float]:
    """The plan for rows of `length` tokens, as fast as they are learned here; all rows, and the seconds expected."""
    length = min(length, base.n_positions - 1)
    examples = make_examples(parts, base.tokenizer, length, seed)
    budget_s = options.time_budget_s or DEFAULT_BUDGET_S
    chosen = {"rank": options.rank, "learning_rate": options.learning_rate}
    given = {name: value for name, value in chosen.items() if value is not None}
    batch = max(BATCH_ROWS, world.size)  # a row for each process
    fixed = {**given, "length": length, "batch_rows": batch, "bf16": multiplies_bf16(world.device)}
    trial = plan_for(len(examples.train), Pace(1.0), budget_s, default_threads(), seed, **fixed)
    measured = pace(base, examples, trial, world)
    plan = plan_for(len(examples.train), measured, budget_s, default_threads(), seed, **fixed)
    return plan, examples, plan.steps * measured.step + (n_looks_for(measured, budget_s) + 2) * measured.look


def found(collection: Collection, parts: Split) -> Iterator[str]:
    """What there is, what is left out and what was cut, in sentences."""
    n_bytes = sum(len(file.text) for file in collection.files)
    yield (
        f"{len(collection.files)} files with {n_bytes / 1000:,.0f} kB: {len(parts.train)} to learn from, "
        f"{len(parts.validation)} to choose the best state, {len(parts.heldout)} held out"
    )
    if collection.left_out:
        counts = ", ".join(f"{n} {reason}" for reason, n in collection.counts().items())
        yield f"left out: {counts}"
    if collection.secrets:
        by_file: dict[str, int] = {}
        for secret in collection.secrets:
            by_file[secret.path] = by_file.get(secret.path, 0) + 1
        yield "cut: " + ", ".join(f"{n} secret{'s' * (n > 1)} in {path}" for path, n in sorted(by_file.items()))


def check_writable(folder: Path, consequence: str) -> None:
    """A folder that cannot be written is told before minutes are spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error, consequence) from error


def unwritable(folder: Path, error: OSError, consequence: str) -> UserError:
    """What is said where the disk does not take something."""
    reason = error.strerror or error
    return UserError(f"cannot write to {folder} ({reason}); free some space, or make it writable; {consequence}")
