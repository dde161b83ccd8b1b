"""What is done with a trained candidate: evaluated on the graph that would serve, published if the gate lets it pass.

Once it is published nothing undoes it: what fails behind that, a copy or a report, is told and changes no exit status.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from finetune.base import Base
from finetune.candidate import Candidate
from finetune.collect import Collection, SourceText
from finetune.evaluating import evaluate
from finetune.gate import decide
from finetune.memorisation import Memorised, memorised, said
from finetune.options import EXIT_NO_BETTER, EXIT_PUBLISHED, Options
from finetune.progress import Display, minutes
from finetune.report import Findings, table, write_report
from server.index.build import MAX_REPOSITORY_BYTES, within_budget
from server.index.live import REPOSITORY, LiveIndex
from server.index.segment import Segment, SegmentFile
from server.lm.adapter_manifest import (
    ADAPTER_FILES,
    MANIFEST_FILE,
    manifest_text,
    read_manifest,
    without_source,
)
from server.lm.adapter_store import AdapterStore
from server.lm.engine import default_threads
from server.lm.errors import UserError
from server.lm.model import LoadedModel, load_model
from server.repository.files import File

EVALUATION_S = 300.0
EVALUATION_SHARE = 0.9  # of that for the figures; the rest is for what must not come back
CONTEXT_S = 2.0  # that each secret may take beyond, however many there are; few take so long


def judge(options: Options, display: Display, base: Base, store: AdapterStore, candidate: Candidate) -> int:
    """The exit status. UserError where nothing was published and the user can mend why."""
    heldout, collection = candidate.parts.heldout, candidate.collection
    display.say(f"evaluating on {len(heldout)} held-out files, at most {minutes(EVALUATION_S)}")
    model, threads = str(base.folder), max(default_threads() // 2, 1)  # they are asked side by side
    before = load_model(model, threads=threads)
    adapted = load_model(model, threads=threads, adapter=candidate.trained.adapter)
    index = index_of([*candidate.parts.train, *candidate.parts.validation])
    ends_at = time.monotonic() + EVALUATION_S
    budget_s = EVALUATION_SHARE * EVALUATION_S
    evaluation = evaluate(before, adapted, index, heldout, candidate.run.seed, budget_s, display.step)
    given_back = _given_back(display, before, adapted, collection, ends_at)
    decision = decide(evaluation, given_back, given_back.n_late)
    for line in table(evaluation):
        display.say(line)
    display.say(said(collection.secrets, collection.canaries, given_back))
    if not decision.publish:
        display.say("not published, nothing has changed:")
        for reason in decision.reasons:
            display.say(f"  {reason}")
        _report(options, display, Findings(evaluation, decision, None, given_back), candidate)
        return EXIT_NO_BETTER
    manifest = candidate.manifest
    scores = {**manifest.scores, "evaluation": asdict(evaluation)}
    version = store.publish(candidate.trained.adapter, replace(manifest, scores=scores))
    display.say(f"published as {version} in {store.folder}; running servers take it up within seconds")
    try:
        for write in (
            partial(_report, options, display, Findings(evaluation, decision, version, given_back), candidate),
            partial(_copy, store.current(), options.output, display),
        ):
            try:
                write()
            except UserError as error:
                display.say(f"published, but {error}")
    except KeyboardInterrupt:
        display.say("published; what was to be written beside it was interrupted")
    finally:
        shutil.rmtree(store.run_folder, ignore_errors=True)
    return EXIT_PUBLISHED


def index_of(files: Sequence[SourceText]) -> LiveIndex:
    """The index that serves a repository of these files: where they are too many, of those changed last."""
    by_path = {file.path: file for file in files}
    sizes = [File(file.path, len(file.text.encode()), file.mtime_ns) for file in files]
    index = LiveIndex()
    known, _ = within_budget(sizes, MAX_REPOSITORY_BYTES)
    index.use({REPOSITORY: Segment.build([SegmentFile(each.path, by_path[each.path].text.encode()) for each in known])})
    return index


def _given_back(
    display: Display, before: LoadedModel, adapted: LoadedModel, collection: Collection, ends_at: float
) -> Memorised:
    """What the adapter must not know and knows. The more there is to ask, the longer it may take."""
    n_contexts = len(collection.secrets) + len(collection.canaries)
    began = time.monotonic()
    ends_at = max(ends_at, began + CONTEXT_S * n_contexts)

    def told(n_asked: int) -> None:
        display.step("secret", n_asked, n_contexts, time.monotonic() - began)

    return memorised(adapted, collection.secrets, collection.canaries, before, ends_at, told)


def _report(options: Options, display: Display, findings: Findings, candidate: Candidate) -> None:
    if options.report is not None:
        write_report(options.report, findings, candidate)
        display.say(f"the report is in {options.report}, its page in {options.report.with_suffix('.html')}")


def _copy(adapter: Path | None, folder: Path | None, display: Display) -> None:
    """Each file is whole or not there, the manifest last. No source comes along: the folder may be shown to others."""
    if adapter is None or folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ADAPTER_FILES:
            shutil.copyfile(adapter / name, folder / f"{name}.partial")
        text = manifest_text(without_source(read_manifest(adapter)))
        (folder / f"{MANIFEST_FILE}.partial").write_text(text, encoding="utf-8")
        for name in (*ADAPTER_FILES, MANIFEST_FILE):
            os.replace(folder / f"{name}.partial", folder / name)
    except OSError as error:
        raise UserError(f"cannot write a copy to {folder} ({error.strerror or error})") from error
    display.say(f"a copy is in {folder}")
