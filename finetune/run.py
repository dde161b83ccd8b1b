"""One adaptation from a folder to a published adapter, or to a refusal with its reasons.

collect -> split -> rows -> plan -> train -> candidate -> evaluate -> gate -> publish -> report. Until the last step but
one nothing that a server sees has changed.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from finetune.base import Base, open_base
from finetune.collect import Collection, check_enough, collect
from finetune.evaluating import Evaluation, evaluate
from finetune.gate import Decision, decide
from finetune.kept_run import KeptRun
from finetune.memorisation import memorised, said
from finetune.options import EXIT_INTERRUPTED, EXIT_NO_BETTER, EXIT_PUBLISHED, Options
from finetune.preparing import check_writable, found, prepared, unwritable
from finetune.progress import Display, minutes
from finetune.report import table, write_report
from finetune.split import Split, split
from finetune.strength import Strength, settle
from finetune.training import Progress, Trained, train
from finetune.world import World
from server.index.live import REPOSITORY, LiveIndex
from server.index.segment import Segment, SegmentFile
from server.lm.adapter_manifest import Manifest, file_hashes, write_manifest
from server.lm.adapter_store import AdapterStore
from server.lm.engine import default_threads
from server.lm.errors import UserError
from server.lm.model import load_model
from server.repository.listing import git_says
from server.version import version_of

EVALUATION_S = 300.0
EVALUATION_SHARE = 0.9  # of that for the figures; the rest is for what must not come back
LIBRARIES = ("torch", "transformers", "peft", "loracle")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    status: int
    version: str | None
    decision: Decision
    trained: Trained
    evaluation: Evaluation


def adapt(options: Options, display: Display) -> int:
    """Runs the whole adaptation; the exit status. UserError for what the user can mend."""
    with suppress(OSError, AttributeError):
        os.nice(10)
    torch.set_flush_denormal(True)  # numbers next to nought are slow
    warnings.filterwarnings("ignore", category=FutureWarning)  # transformers' plans are nothing to a user
    world = World.join()
    if not world.writes:
        display = Display(io.StringIO())
    base = open_base(options.base)
    store = AdapterStore(options.repository)
    if options.dry_run:
        return _dry_run(options, display)
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
    outcome = _judge(options, display, base, store, collection, parts, trained, manifest, run.seed)
    if outcome.status == EXIT_PUBLISHED:
        shutil.rmtree(store.run_folder, ignore_errors=True)
    return outcome.status


def _judge(
    options: Options,
    display: Display,
    base: Base,
    store: AdapterStore,
    collection: Collection,
    parts: Split,
    trained: Trained,
    manifest: Manifest,
    seed: int,
) -> Outcome:
    """Evaluates the candidate on the graph that would serve, and publishes it if the gate lets it pass."""
    display.say(f"evaluating on {len(parts.heldout)} held-out files, at most {minutes(EVALUATION_S)}")
    ends_at = time.monotonic() + EVALUATION_S
    model = str(base.folder)
    threads = max(default_threads() // 2, 1)  # they are asked side by side
    before = load_model(model, threads=threads)
    adapted = load_model(model, threads=threads, adapter=trained.adapter)
    index = LiveIndex()
    known = [SegmentFile(file.path, file.text.encode()) for file in (*parts.train, *parts.validation)]
    index.use({REPOSITORY: Segment.build(known)})
    evaluation = evaluate(before, adapted, index, parts.heldout, seed, EVALUATION_SHARE * EVALUATION_S, display.step)
    given_back = memorised(adapted, collection.secrets, collection.canaries, before, ends_at)
    decision = decide(evaluation, given_back)
    scores = asdict(evaluation)
    for line in table(evaluation):
        display.say(line)
    display.say(said(collection.secrets, collection.canaries, given_back))
    version = None
    if decision.publish:
        version = store.publish(trained.adapter, replace(manifest, scores={**manifest.scores, "evaluation": scores}))
        display.say(f"published as {version} in {store.folder}; running servers take it up within seconds")
        if options.output is not None:
            _copy(trained.adapter, options.output, display)
    else:
        display.say("not published, nothing has changed:")
        for reason in decision.reasons:
            display.say(f"  {reason}")
    if options.report is not None:
        write_report(options.report, evaluation, trained, decision, version, manifest, collection)
        display.say(f"the report is in {options.report}, its page in {options.report.with_suffix('.html')}")
    return Outcome(EXIT_PUBLISHED if version else EXIT_NO_BETTER, version, decision, trained, evaluation)


def _tell(display: Display, progress: Progress) -> None:
    best = "" if progress.validation is None else f"best validation {progress.validation:.3f}"
    display.step("step", progress.step, progress.steps, progress.seconds, best)


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
    return Manifest(
        base=base.identity,
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        repository=options.repository.name,
        commit=_commit(options.repository),
        files=file_hashes(trained.adapter),
        seed=run.seed,
        plan=asdict(run.plan),
        scores={"validation": {"before": trained.first, "after": kept.validation}, "strength": kept.value},
        versions={name: version_of(name) for name in LIBRARIES},
        trained_files=run.learned,
    )


def _commit(root: Path) -> str | None:
    answer = git_says(root, ["rev-parse", "--verify", "HEAD"])
    return answer.strip() if answer else None


def _copy(adapter: Path, folder: Path, display: Display) -> None:
    try:
        shutil.copytree(adapter, folder, dirs_exist_ok=True)
    except OSError as error:
        raise UserError(f"published, but cannot write a copy to {folder} ({error.strerror or error})") from error
    display.say(f"a copy is in {folder}")
