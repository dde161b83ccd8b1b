"""Measures this machine and the model: `python -P -m tests.bench [PART ...]`, all parts without one.

Prints one table, a mark in front of each figure that breaks its bound, and writes the same as JSON, as an HTML page
with plots, and as Markdown. Ends with 1 when a bound is broken, a part fails or a package cannot be fetched. QUICK=1
takes small samples, to see that all works.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from server.lm.errors import UserError
from tests.bench import machine
from tests.bench.heldout import files_of
from tests.bench.options import Options
from tests.bench.page import Report, Section, markdown, page, table_of
from tests.bench.repositories import HELD_OUT, QUALITY, TUNING, TYPESCRIPT, Package, cache_folder, fetch_all
from tests.bench.table import BenchError, Row, as_json, as_text

# The parts that time something come first: the others would warm the machine.
PARTS = ("process", "replay", "engines", "index", "quality", "cursors", "healing", "fidelity")
# Seconds that the parts of a command may take together, on two cores: those of `make bench`, and of `make quality`.
MAX_SECONDS = {("process", "replay", "engines", "index"): 900, ("quality",): 1_500}
MAX_QUICK_SECONDS = {("quality",): 240}
# What an undotted name may mean beside a setting of `completion`.
_TOP_SETTINGS = ("adapter", "engine", "exclude", "threads")


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    command = parser()
    parsed = command.parse_args(arguments)
    try:
        wanted = repositories_of(parsed.tuning, parsed.only)
    except BenchError as error:
        command.error(str(error))
    where = machine.look()
    if where.warning:
        print(f"warning: {where.warning}")
    parts = parsed.parts or PARTS
    sources, problems = fetch_all(HELD_OUT) if set(parts) - {"quality"} else ({}, [])
    repositories, missing = fetch_all(wanted) if "quality" in parts else ({}, [])
    problems += [problem for problem in missing if problem not in problems]
    settings = sections(parsed.set)
    options = Options(
        files=tuple(files_of(sources)),
        sources=sources,
        model=parsed.model,
        quick=parsed.quick or os.environ.get("QUICK", "0") not in ("", "0"),
        count=parsed.count,
        completion=settings.pop("completion", {}),
        settings=settings,
        repositories=repositories,
        tuning=parsed.tuning,
        against=parsed.against,
        adapters=parsed.adapters,
    )
    fetched = dict.fromkeys([*sources, *repositories])
    print(f"model: {options.model}; held-out: {', '.join(map(str, fetched)) or 'nothing'}", end="\n\n", flush=True)
    reports: dict[str, Report] = {}
    seconds: dict[str, float] = {}
    for part in dict.fromkeys(parts):
        began = time.monotonic()
        report, failed = measured(part, import_module(f"tests.bench.{part}").run, options)
        seconds[part] = time.monotonic() - began
        print(f"{part}: {seconds[part]:.0f} s", flush=True)
        problems += failed
        if report is not None:
            reports[part] = report
    reports["time"] = Report(time_rows(seconds, options))
    rows = [row for report in reports.values() for row in report.rows]
    tell(rows, problems, where)
    path = parsed.json or cache_folder() / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    write(path, reports, problems, where, options)
    return 1 if problems or any(row.is_missed for row in rows) else 0


def tell(rows: Sequence[Row], problems: Sequence[str], where: machine.Machine) -> None:
    """Prints the table, and below it what is wrong."""
    print(f"\nmachine: {where}")
    if rows:
        print(f"\n{as_text(rows)}\n")
    for row in rows:
        if row.is_missed:
            print(f"not kept: {row.part}, {row.what} {row.bound} {row.unit}")
    for problem in problems:
        print(f"failed: {problem}")
    if where.warning and any(row.is_timing for row in rows):
        print(f"warning: {where.warning}")


def write(
    path: Path, reports: Mapping[str, Report], problems: Sequence[str], where: machine.Machine, options: Options
) -> None:
    """Writes what was found as JSON, and beside it the page and its tables as Markdown."""
    now = datetime.now(UTC)
    result = {
        "time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "machine": str(where),
        "is_calm": where.is_calm,
        "model": options.model,
        "quick": options.quick,
        "rows": as_json([row for report in reports.values() for row in report.rows]),
        "details": {part: dict(report.details) for part, report in reports.items() if report.details},
        "problems": list(problems),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    title, about = "Loracle, measured", f"{now:%Y-%m-%d %H:%M} UTC; model {options.model}; {where}."
    about += f" {where.warning}" if where.warning else ""
    about += " Small samples." if options.quick else ""
    sections = [section for part, report in reports.items() for section in sections_of(part, report)]
    if problems:
        sections.insert(0, Section("Failed", (), " ".join(f"{problem}." for problem in problems)))
    path.with_suffix(".html").write_text(page(title, about, sections), encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(title, about, sections), encoding="utf-8")
    print(f"written to {path}, the page to {path.with_suffix('.html')}, its tables to {path.with_suffix('.md')}")


def sections_of(part: str, report: Report) -> Sequence[Section]:
    """What a part says for the page, or its rows."""
    return report.sections or [Section(part.capitalize(), [table_of(report.rows)])]


def measured(
    part: str, run: Callable[[Options], Report | Sequence[Row]], options: Options
) -> tuple[Report | None, list[str]]:
    """What a part found; where it fails, None and one sentence on why."""
    print(f"{part} ...", flush=True)
    try:
        found = run(options)
    except (BenchError, UserError) as error:
        return None, [f"{part}: {error}"]
    except Exception as error:  # what the other parts have found is not lost with it
        traceback.print_exc()
        return None, [f"{part}: {type(error).__name__}: {error}"]
    return (found if isinstance(found, Report) else Report(tuple(found))), []


def time_rows(seconds: Mapping[str, float], options: Options) -> list[Row]:
    """How long each part took, and those together that have a bound together."""
    rows = [Row("time", part, spent, "s", is_timing=True) for part, spent in seconds.items()]
    if options.count is not None:  # as much was wanted
        return rows
    for parts, at_most in (MAX_QUICK_SECONDS if options.quick else MAX_SECONDS).items():
        if set(parts) <= set(seconds):
            spent = sum(seconds[part] for part in parts)
            rows.append(Row("time", f"in all: {', '.join(parts)}", spent, "s", at_most=at_most, is_timing=True))
    return rows


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -P -m tests.bench", description="Measures this machine and the model."
    )
    result.add_argument("parts", nargs="*", type=part_named, metavar="PART", help=f"of {', '.join(PARTS)}; all")
    result.add_argument(
        "--model", type=model, default="default", help="as for the server (default: the one that comes along)"
    )
    result.add_argument("--quick", action="store_true", help="small samples, as with QUICK=1")
    result.add_argument("--count", type=int, help="cases in place of the part's own number")
    result.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of `completion`, or of another section with its name in front: hover.deadlineMs=500",
    )
    result.add_argument("--tuning", action="store_true", help="quality: on the packages that settings are fitted on")
    result.add_argument(
        "--only", type=packages_named, metavar="NAME[,NAME]", help="quality: on these packages alone (default: all)"
    )
    result.add_argument(
        "--adapters",
        type=folder,
        metavar="FOLDER",
        help="quality: FOLDER/NAME is the adapter of the package NAME; one without is answered by the base model",
    )
    result.add_argument("--against", type=Path, metavar="FILE", help="quality: the JSON of a run to compare with")
    result.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    return result


def repositories_of(tuning: bool, only: frozenset[str] | None = None) -> tuple[Package, ...]:
    """The packages that quality is measured on, `only` of them, and what is needed to draw cases in them.

    BenchError for a name that none of them has.
    """
    packages = TUNING if tuning else QUALITY
    if only is not None:
        if unknown := sorted(only - {package.name for package in packages}):
            names = ", ".join(package.name for package in packages)
            raise BenchError(f"--only: {', '.join(unknown)} is none of {names}")
        packages = tuple(package for package in packages if package.name in only)
    return (*packages, TYPESCRIPT) if any(package.registry == "npm" for package in packages) else packages


def sections(settings: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """Settings by section, as a client sends them; a name without a section is one of `completion`."""
    found: dict[str, Any] = {}
    for name, value in settings:
        section, dot, inner = name.partition(".")
        if not dot and name in _TOP_SETTINGS:
            found[name] = value
        else:
            found.setdefault(section if dot else "completion", {})[inner if dot else name] = value
    return found


def part_named(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(PARTS)}")
    return text


def packages_named(text: str) -> frozenset[str]:
    """NAME[,NAME]"""
    return frozenset(filter(None, text.split(",")))


def folder(text: str) -> Path:
    """A folder in full, as the server is started elsewhere."""
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path


def model(text: str) -> str:
    """The name of a model; a folder in full, as the server is started elsewhere."""
    return str(Path(text).resolve()) if Path(text).is_dir() else text


def setting(text: str) -> tuple[str, object]:
    """NAME=VALUE of a setting, the value as JSON: minConfidence=0."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
