"""What an interrupted run goes on with: its plan, its rows and its split, whatever has changed in the files since."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune.base import Base
from finetune.collect import SourceText
from finetune.examples import Examples
from finetune.planning import Plan
from finetune.split import Split
from server.lm.errors import UserError

KEPT_FILE, ROWS_FILE = "run.json", "rows.npz"


@dataclass(frozen=True, slots=True)
class KeptRun:
    """One run, before its first step."""

    plan: Plan
    examples: Examples
    base: str  # fingerprint
    seed: int
    time_budget_s: float
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    holdout: str
    is_timed: bool  # whether the budget ends it; a named plan alone decides how long it takes
    learned: dict[str, str]  # path -> sha256 of the text
    validation: tuple[str, ...]  # paths
    heldout: tuple[str, ...]
    commit: str | None = None  # of git, when the text was read

    def split_of(self, files: Sequence[SourceText]) -> Split:
        """The files as they are now, in the parts that they had; those that came later are in none."""
        parts: dict[str, list[SourceText]] = {"train": [], "validation": [], "heldout": []}
        for file in files:
            if file.path in self.heldout:
                parts["heldout"].append(file)
            elif file.path in self.validation:
                parts["validation"].append(file)
            elif file.path in self.learned:
                parts["train"].append(file)
        if not parts["heldout"]:
            raise UserError(
                "none of the files that were to judge the interrupted run is there any more; start anew, without "
                "--resume"
            )
        return Split(*(tuple(parts[name]) for name in ("train", "validation", "heldout")))


def keep_run(folder: Path, run: KeptRun) -> None:
    """Writes a run in the place of what lies there, to be read by the user alone. OSError when the disk refuses."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    examples = run.examples
    np.savez(folder / ROWS_FILE, train=examples.train, validation=examples.validation, general=examples.general)
    values = {name: value for name, value in _fields(run).items() if name != "examples"}
    values |= {"plan": asdict(run.plan), "share_seen": examples.share_seen}
    (folder / KEPT_FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def is_kept(folder: Path) -> bool:
    """Whether there is a run to go on with."""
    return (folder / KEPT_FILE).is_file()


def read_run(folder: Path, repository: Path, base: Base) -> KeptRun:
    """The run that was kept. UserError where there is none, it cannot be read, or it was of another base."""
    if not is_kept(folder):
        raise UserError(f"no interrupted run of {repository} to go on with; leave --resume out")
    try:
        values: dict[str, Any] = json.loads((folder / KEPT_FILE).read_text(encoding="utf-8"))
        with np.load(folder / ROWS_FILE) as tables:
            rows = {name: tables[name] for name in ("train", "validation", "general")}
        examples = Examples(**rows, share_seen=values.pop("share_seen"))
        for name in ("include", "exclude", "validation", "heldout"):
            values[name] = tuple(values[name])
        run = KeptRun(plan=Plan(**values.pop("plan")), examples=examples, **values)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(
            f"the interrupted run in {folder} is damaged ({error}); start anew, without --resume"
        ) from error
    if run.base != base.identity.fingerprint:
        raise UserError(
            f"the interrupted run in {folder} was of the base {run.base[:12]}, --base is "
            f"{base.identity.fingerprint[:12]}; name that base, or start anew without --resume"
        )
    return run


def _fields(run: KeptRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__slots__}
