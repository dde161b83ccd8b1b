"""One adaptation from a folder to a published adapter, or to a refusal with its reasons.

collect -> split -> rows -> plan -> train -> candidate -> evaluate -> gate -> publish -> report. Until the last step but
one nothing that a server sees has changed.
"""

from __future__ import annotations

import io
import math
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from typing import Any

import torch

from finetune.base import Base, open_base
from finetune.candidate import Candidate
from finetune.collect import Collection, check_enough, collect
from finetune.judging import judge
from finetune.kept_run import KeptRun
from finetune.options import EXIT_INTERRUPTED, EXIT_PUBLISHED, Options
from finetune.preparing import check_writable, found, prepared, unwritable
from finetune.progress import Display, minutes
from finetune.split import Split, split
from finetune.strength import Strength, settle
from finetune.training import Progress, Trained, train
from finetune.world import World
from server.lm.adapter_manifest import Manifest, file_hashes, write_manifest
from server.lm.adapter_store import AdapterStore
from server.version import version_of

LIBRARIES = ("torch", "transformers", "peft", "loracle")


def adapt(options: Options, display: Display) -> int:
    """Runs the whole adaptation; the exit status. UserError for what the user can mend."""
    if options.dry_run:
        return _dry_run(options, display)
    with suppress(OSError, AttributeError):
        os.nice(10)
    torch.set_flush_denormal(True)  # numbers next to nought are slow
    warnings.filterwarnings("ignore", category=FutureWarning)  # transformers' plans are nothing to a user
    world = World.join()
    if not world.writes:
        display = Display(io.StringIO())
    base = open_base(options.base)
    store = AdapterStore(options.repository)
    check_writable(store.folder, "the adapter in force is as it was")
    for wanted in (options.report.parent if options.report else None, options.output):
        if wanted is not None:
            check_writable(wanted, "nothing has been done yet")
    with store.lock() if world.writes else nullcontext():
        run, collection, parts = prepared(options, display, base, store.run_folder, world)
        return _learn(options, display, base, store, run, collection, parts, world)


def _dry_run(options: Options, display: Display) -> int:
    collection = collect(options.repository, options.include, options.exclude)
    check_enough(collection)
    parts = split(options.repository, collection.files, options.holdout, options.seed or 0)
    for line in found(collection, parts):
        display.say(line)
    for each in collection.left_out:
        display.say(f"  left out: {each.path}: {each.reason}")
    return EXIT_PUBLISHED


def _learn(
    options: Options,
    display: Display,
    base: Base,
    store: AdapterStore,
    run: KeptRun,
    collection: Collection,
    parts: Split,
    world: World,
) -> int:
    """Trains, and where that ends, judges."""
    began = time.monotonic()
    budget_s = max(run.time_budget_s, options.time_budget_s or 0.0) if run.is_timed else math.inf
    with _interruptible() as stopped:
        trained = train(
            base,
            run.examples,
            run.plan,
            store.run_folder / "train",
            budget_s=budget_s,
            told=lambda progress: _tell(display, progress),
            stopped=stopped,
            world=world,
        )
    if trained.why_ended == "interrupted":
        display.say(f"interrupted after {minutes(time.monotonic() - began)}; `--resume` goes on, nothing has changed")
        return EXIT_INTERRUPTED
    if not world.writes:
        return EXIT_PUBLISHED
    display.say(
        f"trained for {minutes(trained.seconds)}: validation {trained.first:.3f} -> {trained.best:.3f} nats a token, "
        f"the best at step {trained.best_step} ({trained.why_ended})"
    )
    display.say("looking how much of it general code bears")
    candidate = store.run_folder / "candidate"
    rows, validation = run.examples.train, run.examples.validation
    try:
        kept = settle(base, run.plan, rows, validation, trained.adapter, candidate, world.device)
    except OSError as error:
        raise unwritable(candidate, error, "the adapter in force is as it was") from error
    trained = replace(trained, adapter=candidate)
    display.say(
        f"kept at {100 * kept.value:.0f} % of its strength: validation {kept.validation:.3f} nats a token, "
        f"general code {100 * kept.general_rise:+.1f} %"
    )
    manifest = _manifest(options, base, run, trained, kept)
    try:
        write_manifest(trained.adapter, manifest)
    except OSError as error:
        raise unwritable(trained.adapter, error, "the adapter in force is as it was") from error
    return judge(options, display, base, store, Candidate(run, collection, parts, trained, manifest))


def _tell(display: Display, progress: Progress) -> None:
    best = "" if progress.validation is None else f"best validation {progress.validation:.3f}"
    display.step("step", progress.step, progress.steps, progress.seconds, best, progress.left_s)


@contextmanager
def _interruptible() -> Iterator[Any]:
    """Whether Ctrl-C was pressed; pressed again, it ends the process as it does elsewhere."""
    pressed = False

    def press(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    try:
        former = signal.signal(signal.SIGINT, press)
    except ValueError:  # not the main thread
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, former)


def _manifest(options: Options, base: Base, run: KeptRun, trained: Trained, kept: Strength) -> Manifest:
    plan = replace(run.plan, stop_after=0 if trained.steps >= run.plan.steps else trained.steps)
    return Manifest(
        base=base.identity,
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        repository=options.repository.name,
        commit=run.commit,
        files=file_hashes(trained.adapter),
        seed=run.seed,
        plan=asdict(plan),
        scores={"validation": {"before": trained.first, "after": kept.validation}, "strength": kept.value},
        versions={name: version_of(name) for name in LIBRARIES},
        trained_files=run.learned,
    )
