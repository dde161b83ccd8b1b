"""What a run found: a table for people, JSON for machines, and a page with plots."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune.candidate import Candidate
from finetune.evaluating import Evaluation
from finetune.gate import Decision
from finetune.memorisation import Memorised, said
from finetune.report_page import page
from finetune.scoring import Interval
from server.lm.adapter_manifest import finite
from server.lm.errors import UserError


def table(evaluation: Evaluation) -> list[str]:
    """The lines that are printed at the end of a run."""
    measured = f"held-out files: {evaluation.n_files}"
    if evaluation.n_files < evaluation.n_heldout:
        measured += f" of {evaluation.n_heldout}"
    elif evaluation.share_measured < 0.995:
        measured = f"{100 * evaluation.share_measured:.0f} % of {evaluation.n_files} held-out files"
    lines = [
        "",
        f"{measured:<28}{'before':>10}{'after':>10}   change",
        f"{'bits per byte':<28}{evaluation.bits_before:>10.3f}{evaluation.bits_after:>10.3f}   "
        f"{shown(evaluation.bits_change)}",
        f"{'general code, bits per byte':<28}{evaluation.general_before:>10.3f}{evaluation.general_after:>10.3f}   "
        f"{_general(evaluation)} %",
        f"{f'sentences on {evaluation.n_functions} functions':<28}{100 * evaluation.chrf_before:>10.1f}"
        f"{100 * evaluation.chrf_after:>10.1f}   {shown(evaluation.chrf_change, 100)} chrF",
        "",
        f"{f'lines at {evaluation.n_points} points':<28}{'exact':>10}{'similar':>10}{'saved':>10}{'ms':>8}",
    ]
    lines += [
        f"{way.name:<28}{100 * way.exact:>8.1f} %{100 * way.similarity:>8.1f} %{100 * way.saved:>8.1f} %"
        f"{way.milliseconds:>8.0f}"
        for way in evaluation.ways
    ]
    lines += ["", f"{'adapter less base, points':<28}{'exact':<22}{'similar':<22}{'saved':<22}".rstrip()]
    for name, gained in (("alone", evaluation.alone), ("both with the index", evaluation.with_index)):
        parts = (gained.exact, gained.similarity, gained.saved)
        lines.append(f"{name:<28}{''.join(f'{shown(part, 100):<22}' for part in parts)}".rstrip())
    return [*lines, ""]


def _general(evaluation: Evaluation) -> str:
    """How much harder general code has become, in % of the base's bits."""
    change, before = evaluation.general_change, evaluation.general_before
    return shown(change, 100 / before) if before > 0 else "not measured, 0"


def shown(change: Interval | None, factor: float = 1.0) -> str:
    """A difference with its interval over files."""
    if change is None:
        return "not measured"
    digits = 3 if factor == 1 else 1
    mean, low, high = (f"{factor * value:+.{digits}f}" for value in (change.mean, change.low, change.high))
    return f"{mean} [{low}, {high}]"


@dataclass(frozen=True, slots=True)
class Findings:
    """How a candidate was judged."""

    evaluation: Evaluation
    decision: Decision
    version: str | None  # under which it was published
    memorised: Memorised


def write_report(file: Path, findings: Findings, candidate: Candidate) -> None:
    """Writes the JSON file, and a page of the same name beside it. UserError when it cannot."""
    run, collection, trained, manifest = candidate.run, candidate.collection, candidate.trained, candidate.manifest
    evaluation, decision = findings.evaluation, findings.decision
    cut: dict[str, Counter[str]] = {}
    for each in collection.secrets:
        cut.setdefault(each.path, Counter())[each.kind] += 1
    values: dict[str, Any] = {
        "published": findings.version,
        "reasons": list(decision.reasons),
        "evaluation": asdict(evaluation),
        "training": {
            "before": trained.first,
            "best": trained.best,
            "bestStep": trained.best_step,
            "history": [list(each) for each in trained.history],
            "ended": trained.why_ended,
            "steps": trained.steps,
            "seconds": round(trained.seconds, 1),
            "tokens": trained.tokens,
        },
        "manifest": asdict(manifest),
        "files": [each.path for each in collection.files],
        "leftOut": [{"path": each.path, "reason": each.reason} for each in collection.left_out],
        "secretsCut": dict(cut),  # how many, by file and kind
        "memorisation": {
            "secrets": len(collection.secrets),
            "canaries": len(collection.canaries),
            "canariesNotCut": sum(not each.was_cut for each in collection.canaries),
            "prompted": findings.memorised.n_prompted,
            "cannotTell": findings.memorised.n_unasked,
            "noTimeFor": findings.memorised.n_late,
            "givenBack": len(findings.memorised),
        },
        "options": {"include": list(run.include), "exclude": list(run.exclude), "holdout": run.holdout},
    }
    _write(file, json.dumps(finite(values), indent=1, default=str, allow_nan=False) + "\n")
    lines = [*table(evaluation), said(collection.secrets, collection.canaries, findings.memorised)]
    _write(file.with_suffix(".html"), page(evaluation, trained, decision, manifest, lines))


def _write(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        raise UserError(f"cannot write the report {file} ({error.strerror or error}); name another file") from error
