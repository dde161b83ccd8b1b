"""One adaptation from a folder to a published adapter, or to a refusal with its reasons.

collect -> split -> rows -> plan -> train -> candidate -> evaluate -> gate -> publish -> report. Until the last step but
one nothing that a server sees has changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from finetune.collect import Collection, check_enough, collect
from finetune.evaluating import Evaluation, evaluate
from finetune.examples import make_examples
from finetune.gate import Decision, decide
from finetune.lora import LoraModel, LoraShape, multiplies_bf16
from finetune.memorisation import memorised, said
from finetune.novelty import novelty
from finetune.options import EXIT_INTERRUPTED, EXIT_NO_BETTER, EXIT_PUBLISHED, Options
from finetune.planning import ROW_LENGTH, Plan, plan_for, read_plan, write_plan
from finetune.progress import Display, minutes
from finetune.report import table, write_report
from finetune.split import Split, split
from finetune.training import Progress, Trained, seconds_per_step, train
from server.index.live import REPOSITORY, LiveIndex
from server.index.segment import Segment, SegmentFile
from server.lm.adapter_manifest import Manifest, file_hashes, write_manifest
from server.lm.adapter_store import AdapterStore
from server.lm.checkpoint import Checkpoint, open_checkpoint, resolve_model
from server.lm.errors import UserError
from server.lm.model import base_identity, load_model
from server.lm.tokenizer import BytePairTokenizer, load_tokenizer

EVALUATION_S = 300.0
PLAN_FILE = "plan.json"
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
    checkpoint = open_checkpoint(resolve_model(options.base))
    tokenizer = _tokenizer(checkpoint)
    store = AdapterStore(options.repository)
    canary_seed = None if options.dry_run else options.seed
    collection = collect(options.repository, options.include, options.exclude, canary_seed)
    check_enough(collection)
    parts = split(options.repository, collection.files, options.holdout, options.seed)
    for line in _found(collection, parts):
        display.say(line)
    if options.dry_run:
        for each in collection.left_out:
            display.say(f"  left out: {each.path}: {each.reason}")
        return EXIT_PUBLISHED
    _check_writable(store)
    return _learn(options, display, checkpoint, tokenizer, store, collection, parts)


def _learn(
    options: Options,
    display: Display,
    checkpoint: Checkpoint,
    tokenizer: BytePairTokenizer,
    store: AdapterStore,
    collection: Collection,
    parts: Split,
) -> int:
    state = store.run_folder / "train"
    plan = _kept_plan(options, store)
    if not options.resume:
        shutil.rmtree(store.run_folder, ignore_errors=True)
    examples = make_examples(parts, tokenizer, plan.length if plan else ROW_LENGTH, options.seed)
    if plan is None:
        threads = max((os.cpu_count() or 2) - 1, 1)
        chosen = {"rank": options.rank, "learning_rate": options.learning_rate, "bf16": multiplies_bf16()}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        trial = plan_for(len(examples.train), 1.0, options.time_budget_s, threads, options.seed, **chosen)
        step_s = seconds_per_step(checkpoint.folder, examples.train, trial)
        plan = plan_for(len(examples.train), step_s, options.time_budget_s, threads, options.seed, **chosen)
        display.say(
            f"plan: {plan.steps} steps of {plan.batch_rows} x {plan.length} tokens, rank {plan.rank}, {plan.threads} "
            f"threads, about {minutes(plan.steps * step_s)}"
        )
    n_wanted = plan.steps * plan.batch_rows
    if n_wanted < len(examples.train):
        base = LoraModel(checkpoint.folder, LoraShape(plan.rank, plan.alpha, bf16=plan.bf16), plan.seed)
        new = novelty(base, tokenizer, parts.train)
        examples = make_examples(parts, tokenizer, plan.length, options.seed, max_rows=n_wanted, novelty=new)
        display.say(f"less than an epoch fits: the most novel {100 * examples.share_seen:.0f} % of the text is learned")
    _keep(store, plan)
    began = time.monotonic()
    with _interruptible() as stopped:
        trained = train(
            checkpoint.folder,
            examples.train,
            examples.validation,
            plan,
            state,
            budget_s=options.time_budget_s,
            told=lambda progress: _tell(display, progress),
            stopped=stopped,
        )
    if trained.why_ended == "interrupted":
        display.say(f"interrupted after {minutes(time.monotonic() - began)}; `--resume` goes on, nothing has changed")
        return EXIT_INTERRUPTED
    display.say(
        f"trained for {minutes(trained.seconds)}: validation {trained.first:.3f} -> {trained.best:.3f} nats a token, "
        f"the best at step {trained.best_step} ({trained.why_ended})"
    )
    manifest = _manifest(options, checkpoint, tokenizer, plan, trained, parts)
    try:
        write_manifest(trained.adapter, manifest)
    except OSError as error:
        raise UserError(f"cannot write to {trained.adapter} ({error.strerror}); free some space") from error
    outcome = _judge(options, display, checkpoint, store, collection, parts, trained, manifest)
    if outcome.status == EXIT_PUBLISHED:
        shutil.rmtree(store.run_folder, ignore_errors=True)
    return outcome.status


def _judge(
    options: Options,
    display: Display,
    checkpoint: Checkpoint,
    store: AdapterStore,
    collection: Collection,
    parts: Split,
    trained: Trained,
    manifest: Manifest,
) -> Outcome:
    """Evaluates the candidate on the graph that would serve, and publishes it if the gate lets it pass."""
    display.say(f"evaluating on {len(parts.heldout)} held-out files, at most {minutes(EVALUATION_S)}")
    model = str(checkpoint.folder)
    base, adapted = load_model(model), load_model(model, adapter=trained.adapter)
    index = LiveIndex()
    known = [SegmentFile(file.path, file.text.encode()) for file in (*parts.train, *parts.validation)]
    index.use({REPOSITORY: Segment.build(known)})
    evaluation = evaluate(base, adapted, index, parts.heldout, options.seed, EVALUATION_S)
    given_back = memorised(adapted, collection.secrets, collection.canaries)
    decision = decide(evaluation, given_back)
    scores = asdict(evaluation)
    for line in table(evaluation):
        display.say(line)
    display.say(said(collection.secrets, collection.canaries))
    version = None
    if decision.publish:
        version = store.publish(trained.adapter, replace(manifest, scores={"evaluation": scores}))
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


def _tokenizer(checkpoint: Checkpoint) -> BytePairTokenizer:
    tokenizer = load_tokenizer(checkpoint.folder)
    if not isinstance(tokenizer, BytePairTokenizer) or tokenizer.special is None:
        raise UserError(
            f"the model in {checkpoint.folder} has no prompt markers, which adapting needs in this release; "
            f"use --base default, or a model that `python -P -m finetune.pretrain` made"
        )
    return tokenizer


def _found(collection: Collection, parts: Split) -> Iterator[str]:
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


def _kept_plan(options: Options, store: AdapterStore) -> Plan | None:
    """The plan that is to be followed: a named one, or that of the run to be resumed."""
    if options.plan is not None:
        return read_plan(options.plan)
    if not options.resume:
        return None
    kept = store.run_folder / PLAN_FILE
    if not kept.is_file():
        raise UserError(f"no interrupted run of {options.repository} to go on with; leave --resume out")
    return read_plan(kept)


def _keep(store: AdapterStore, plan: Plan) -> None:
    try:
        store.run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(store, error) from error
    write_plan(plan, store.run_folder / PLAN_FILE)


def _check_writable(store: AdapterStore) -> None:
    """A folder that cannot be written is told before minutes are spent."""
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        probe = store.folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(store, error) from error


def _unwritable(store: AdapterStore, error: OSError) -> UserError:
    return UserError(
        f"cannot write to {store.folder} ({error.strerror or error}); free some space, or make the folder writable; "
        f"the adapter in force is as it was"
    )


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


def _manifest(
    options: Options,
    checkpoint: Checkpoint,
    tokenizer: BytePairTokenizer,
    plan: Plan,
    trained: Trained,
    parts: Split,
) -> Manifest:
    learned = {file.path: hashlib.sha256(file.text.encode()).hexdigest() for file in parts.train}
    return Manifest(
        base=base_identity(checkpoint, tokenizer),
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        repository=options.repository.name,
        commit=_commit(options.repository),
        files=file_hashes(trained.adapter),
        seed=options.seed,
        plan=asdict(plan),
        scores={"validation": {"before": trained.first, "after": trained.best}},
        versions={name: importlib.metadata.version(name) for name in LIBRARIES},
        trained_files=learned,
    )


def _commit(root: Path) -> str | None:
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _copy(adapter: Path, folder: Path, display: Display) -> None:
    try:
        shutil.copytree(adapter, folder, dirs_exist_ok=True)
    except OSError as error:
        raise UserError(f"published, but cannot write a copy to {folder} ({error.strerror or error})") from error
    display.say(f"a copy is in {folder}")
