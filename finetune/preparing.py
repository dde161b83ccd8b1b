"""From a folder to what is trained: its text, the split, the plan for the time there is, and the rows."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from finetune.base import Base
from finetune.collect import Collection, SourceText, check_enough, collect, whole_globs
from finetune.examples import Examples, make_examples, too_little
from finetune.kept_run import KeptRun, is_kept, keep_run, read_run
from finetune.lora import multiplies_bf16
from finetune.novelty import novelty
from finetune.options import DEFAULT_BUDGET_S, Options
from finetune.planning import (
    BATCH_ROWS,
    ROW_LENGTH,
    SHORT_ROW_LENGTH,
    Pace,
    Plan,
    expected_s,
    is_hurried,
    n_validation_rows_for,
    plan_for,
    read_plan,
)
from finetune.progress import Display, minutes
from finetune.split import Split, split
from finetune.training import new_adapter, pace
from finetune.world import World
from server.lm.engine import default_threads
from server.lm.errors import UserError
from server.repository.barred import is_barred_path
from server.repository.listing import git_says

MIN_LENGTH = 64  # tokens a row: in fewer there is no room for a sample
# Characters that are made into rows at all. Ten times what is learned is enough to choose the most novel from, and of
# twenty thousand files all would take longer than the training.
MIN_REACH, MAX_CHOICE = 2_000_000, 40  # the second for each token that is learned
# Files whose novelty is asked for, for each row that is learned: to ask is not to take longer than to learn.
ASKED_FOR_A_ROW, MIN_ASKED = 2, 100
MAX_CHOOSING = 500_000  # of the files that choose the best state


def prepared(
    options: Options, display: Display, base: Base, run_folder: Path, world: World
) -> tuple[KeptRun, Collection, Split]:
    """What is to be trained, kept so that an interrupted run can go on, and the text that judges it."""
    if options.resume:
        run = read_run(run_folder, options.repository, base)
        _check_learned(run, options.exclude)
        collection = collect(options.repository, run.include, run.exclude, run.seed)
        return run, collection, run.split_of(collection.files)
    if is_kept(run_folder):
        display.say("the run before is unfinished: `--resume` goes on with it; this one takes its place once it learns")
    named = None if options.plan is None else _fitting(read_plan(options.plan), options, base)
    seed = options.seed if options.seed is not None else named.seed if named else 0
    commit = commit_of(options.repository)
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
        commit=commit,
    )
    if world.writes:
        try:
            keep_run(run_folder, run)
        except OSError as error:
            raise unwritable(run_folder, error, "the adapter in force is as it was") from error
    return run, collection, parts


def _check_learned(run: KeptRun, exclude: Sequence[str]) -> None:
    """UserError where an interrupted run learns from what is excluded by now."""
    globs = whole_globs(exclude)
    barred = [path for path in (*run.learned, *run.validation) if is_barred_path(path, globs)] if globs else []
    if barred:
        raise UserError(
            f"the interrupted run learns from {barred[0]}, which is excluded by now; start anew, without --resume"
        )


def _fitting(plan: Plan, options: Options, base: Base) -> Plan:
    """A named plan with what the options say beside it. UserError for one that the base cannot follow."""
    if plan.length >= base.n_positions:
        raise UserError(
            f"the plan {options.plan} has rows of {plan.length} tokens, the base model takes {base.n_positions - 1} at "
            f"most; name a smaller `length`"
        )
    if plan.length < MIN_LENGTH:
        raise UserError(f"the plan {options.plan} has rows of {plan.length} tokens; name a `length` from {MIN_LENGTH}")
    if options.seed is not None:
        plan = replace(plan, seed=options.seed)
    if options.learning_rate is not None:
        plan = replace(plan, learning_rate=options.learning_rate)
    return plan if options.rank is None else replace(plan, rank=options.rank, alpha=2 * options.rank)


def _planned(
    options: Options, display: Display, base: Base, parts: Split, named: Plan | None, seed: int, world: World
) -> tuple[Plan, Examples]:
    """The plan, and the rows that it trains on: of all text, or of the most novel where not all of it fits."""
    plan = named
    if plan is None:
        display.say("timing some steps")
        plan, n_rows, seconds = _timed(options, base, parts, ROW_LENGTH, seed, world)
        if is_hurried(plan, n_rows):
            plan, n_rows, seconds = _timed(options, base, parts, SHORT_ROW_LENGTH, seed, world)
        display.say(
            f"plan: {plan.steps} steps of {plan.batch_rows} rows and {plan.general_rows} of general code (weight "
            f"{plan.general_weight:g}), {plan.length} tokens each, rank {plan.rank}, {plan.threads} "
            f"thread{'s' * (plan.threads > 1)}, about {minutes(seconds)}"
        )
    n_learned = plan.steps * plan.batch_rows
    within = _within(parts, max(MAX_CHOICE * n_learned * plan.length, MIN_REACH), seed)
    examples = make_examples(within, base.tokenizer, plan.length, seed, knows_markers=base.knows_markers)
    if n_learned < len(examples.train):
        fresh = new_adapter(base, plan, examples.train, world.device)
        new = novelty(fresh, base.tokenizer, within.train, max(ASKED_FOR_A_ROW * n_learned, MIN_ASKED))
        examples = make_examples(
            within,
            base.tokenizer,
            plan.length,
            seed,
            max_rows=n_learned,
            novelty=new,
            knows_markers=base.knows_markers,
        )
    if not len(examples.validation):
        raise too_little(parts)
    examples = replace(examples, validation=examples.validation[: plan.validation_rows])
    share = examples.share_seen * _n_characters(within.train) / _n_characters(parts.train)
    if share < 1:
        percent = f"{100 * share:.{0 if share >= 0.01 else 2}f}"
        display.say(f"less than an epoch fits: the most novel {percent} % of the text is learned")
    return plan, replace(examples, share_seen=share)


def _timed(options: Options, base: Base, parts: Split, length: int, seed: int, world: World) -> tuple[Plan, int, float]:
    """The plan for rows of `length` tokens, as fast as they are learned here; how many there are, and the seconds."""
    length = min(length, base.n_positions - 1)
    some = _within(parts, MIN_REACH, seed)
    examples = make_examples(some, base.tokenizer, length, seed, knows_markers=base.knows_markers)
    n_rows = round(len(examples.train) * _n_characters(parts.train) / _n_characters(some.train))
    budget_s = options.time_budget_s or DEFAULT_BUDGET_S
    chosen = {"rank": options.rank, "learning_rate": options.learning_rate}
    given = {name: value for name, value in chosen.items() if value is not None}
    batch = max(BATCH_ROWS, world.size)  # a row for each process
    fixed = {**given, "length": length, "batch_rows": batch, "bf16": multiplies_bf16(world.device)}
    threads = max(default_threads() // world.n_here, 1)
    trial = plan_for(n_rows, Pace(1.0), budget_s, threads, seed, **fixed)
    measured = pace(base, examples, trial, world)
    n_all = len(examples.validation)
    fixed["validation_rows"] = n_validation_rows_for(n_all, measured.look, budget_s)
    measured = replace(measured, look=measured.look * fixed["validation_rows"] / max(n_all, 1))
    plan = plan_for(n_rows, measured, budget_s, threads, seed, **fixed)
    return plan, n_rows, expected_s(plan, measured, budget_s)


def drawn(files: Sequence[SourceText], n_characters: int, seed: int) -> tuple[SourceText, ...]:
    """All files, or where they are too long together, as many as are within `n_characters`, by hash; at least one."""
    if _n_characters(files) <= n_characters:
        return tuple(files)
    found: list[SourceText] = []
    shuffled = sorted(files, key=lambda each: hashlib.sha256(f"{seed}/{each.path}".encode("utf-8", "replace")).digest())
    for file in shuffled:
        if found and len(file.text) > n_characters:
            continue
        found.append(file)
        n_characters -= len(file.text)
    return tuple(sorted(found, key=lambda file: file.path))


def _within(parts: Split, n_characters: int, seed: int) -> Split:
    """The parts with no more text than is made into rows."""
    train, validation = drawn(parts.train, n_characters, seed), drawn(parts.validation, MAX_CHOOSING, seed)
    return replace(parts, train=train, validation=validation)


def _n_characters(files: Sequence[SourceText]) -> int:
    return sum(len(file.text) for file in files)


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
        by_kind: dict[str, Counter[str]] = {}
        for secret in collection.secrets:
            by_kind.setdefault(secret.kind, Counter())[secret.path] += 1
        for kind, paths in sorted(by_kind.items()):
            places = ", ".join(f"{path}{f' ({n} times)' * (n > 1)}" for path, n in sorted(paths.items()))
            yield f"cut, {kind}: {places}"


def commit_of(root: Path) -> str | None:
    """The commit that the folder is at; None where git knows none."""
    answer = git_says(root, ["rev-parse", "--verify", "HEAD"])
    return answer.strip() if answer else None


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
