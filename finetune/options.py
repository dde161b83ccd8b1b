"""The command line of `loracle-finetune`. Imports nothing heavy, so that mistakes are told at once."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EXIT_PUBLISHED, EXIT_ERROR, EXIT_USAGE, EXIT_NO_BETTER, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
DEFAULT_BUDGET_S = 600.0
MIN_BUDGET_S = 5.0
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Options:
    """What one call asks for."""

    repository: Path
    time_budget_s: float | None = None  # of training alone; None: the default, or that of the run to be resumed
    dry_run: bool = False
    resume: bool = False
    seed: int | None = None  # None: that of the plan, else 0
    rank: int | None = None  # None: chosen for the data
    learning_rate: float | None = None
    include: tuple[str, ...] = ()  # globs
    exclude: tuple[str, ...] = ()
    holdout: Literal["hash", "newest"] = "hash"
    plan: Path | None = None
    base: str = "default"
    output: Path | None = None  # a folder that gets a copy of the adapter
    report: Path | None = None
    action: Literal["train", "list", "rollback", "export", "import"] = "train"
    file: Path | None = None  # of an export or import


def read_options(arguments: list[str] | None = None) -> Options:
    """The options; leaves with status 2 and a sentence for what is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    repository: Path = given.repository
    if not repository.is_dir():
        parser.error(f"no folder {repository}; name the repository to adapt to")
    actions = [
        name
        for name in ("list", "rollback", "export", "import")
        if getattr(given, name if name != "import" else "import_")
    ]
    if given.resume:
        _check_resume(parser, given)
    for name, wanted in (("report", given.report), ("export", given.export)):
        if wanted is not None and wanted.is_dir():
            parser.error(f"--{name} {wanted} is a folder; name a file in it")
    if given.plan is not None and given.time_budget is not None:
        parser.error("--plan says how many steps there are, however long they take; leave --time-budget out, or --plan")
    if given.report is not None and given.report.suffix == ".html":
        parser.error(f"--report {given.report} is the name of the page that lies beside the report; end it in .json")
    if len(actions) > 1:
        parser.error(f"--{actions[0]} and --{actions[1]} are two things; give one")
    action = actions[0] if actions else "train"
    return Options(
        repository=repository.resolve(),
        time_budget_s=given.time_budget,
        dry_run=given.dry_run,
        resume=given.resume,
        seed=given.seed,
        rank=given.rank,
        learning_rate=given.learning_rate,
        include=tuple(given.include),
        exclude=tuple(given.exclude),
        holdout=given.holdout or "hash",
        plan=given.plan,
        base=given.base,
        output=given.output,
        report=given.report,
        action=action,  # type: ignore[arg-type]
        file=given.export or given.import_,
    )


def _check_resume(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """A run goes on with the text, the plan and the split that it was started with."""
    fixed = ("seed", "rank", "learning_rate", "include", "holdout", "plan")  # what is excluded by now is checked
    for name in fixed:
        if getattr(given, name) not in (None, []):
            option = name.replace("_", "-")
            parser.error(f"--resume goes on with the run as it was started; leave --{option} out, or --resume")


def duration(text: str) -> float:
    """Seconds of `600`, `90s`, `10m`, `1h` or `1h30m`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([a-z]*)", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 10m or 1h30m")
    if any(unit not in _UNITS for _, unit in parts):
        raise argparse.ArgumentTypeError(f"{text!r} has a unit other than s, m and h")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not MIN_BUDGET_S <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not between {MIN_BUDGET_S:.0f}s and 24h")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loracle-finetune",
        description="Teaches the model the code of a repository, shows on held-out files whether it got better, and "
        "publishes the adapter if it did; running servers take it up.",
        epilog="exit status: 0 published, 1 error, 2 usage, 3 no better than before (nothing changed), 130 interrupted "
        "(what was learned is kept, --resume goes on)",
    )
    add = parser.add_argument
    add("repository", type=Path, metavar="REPO", help="the folder to adapt to")
    add("--time-budget", type=duration, metavar="10m", help="for training alone (default 10m)")
    add("--dry-run", action="store_true", help="show what would be learned, and train nothing")
    add("--resume", action="store_true", help="go on with a run that was interrupted")
    add("--seed", type=_whole, metavar="N", help="default 0, or that of the plan")
    add("--rank", type=_positive, metavar="N", help="of the adapter (default: chosen for the data)")
    add("--learning-rate", type=_rate, metavar="X")
    add("--include", action="append", default=[], metavar="GLOB", help="learn from these paths alone; may be repeated")
    add("--exclude", action="append", default=[], metavar="GLOB", help="do not learn from these; may be repeated")
    add("--holdout", choices=("hash", "newest"), help="which files judge: by path (hash, the default), or changed last")
    add(
        "--plan", type=Path, metavar="FILE", help="take steps, length, rank and threads from a report of an earlier run"
    )
    add("--base", default="default", metavar="MODEL", help="`default`, a checkpoint folder, or a hub name")
    add("--output", type=Path, metavar="DIR", help="also write the adapter there")
    add("--report", type=Path, metavar="FILE.json", help="also write the report there, and a page beside it")
    add("--list", action="store_true", help="show the adapters of this repository")
    add("--rollback", action="store_true", help="go back to the adapter before")
    add("--export", type=Path, metavar="FILE", help="write the adapter in force into a zip file")
    add("--import", type=Path, metavar="FILE", dest="import_", help="put an exported adapter in force")
    return parser


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 256")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate above 0 and at most 1, such as 5e-4")
    return value
