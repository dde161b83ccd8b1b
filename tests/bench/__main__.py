"""Measures this machine and the model: `python -P -m tests.bench [PART ...]`, all parts without one.

Prints one table, a mark in front of each figure that breaks its bound, and writes the same as JSON. Ends with 1 when a
bound is broken, a part fails or a package cannot be fetched. QUICK=1 takes small samples, to see that all works.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from server.lm.errors import UserError
from tests.bench import machine
from tests.bench.heldout import files_of
from tests.bench.options import Options
from tests.bench.repositories import cache_folder, fetch_all
from tests.bench.table import BenchError, Row, as_json, as_text

# The parts that time something come first: the others would warm the machine.
PARTS = ("process", "replay", "cursors", "healing", "fidelity")


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parsed = parser().parse_args(arguments)
    where = machine.look()
    if where.warning:
        print(f"warning: {where.warning}")
    sources, problems = fetch_all()
    options = Options(
        files=tuple(files_of(sources)),
        model=parsed.model,
        quick=parsed.quick or os.environ.get("QUICK", "0") not in ("", "0"),
        count=parsed.count,
        completion=dict(parsed.set),
    )
    print(f"model: {options.model}; held-out: {', '.join(map(str, sources)) or 'nothing'}", end="\n\n", flush=True)
    rows: list[Row] = []
    for part in parsed.parts or PARTS:
        found, failed = measured(part, import_module(f"tests.bench.{part}").run, options)
        rows += found
        problems += failed
    tell(rows, problems, where)
    path = parsed.json or cache_folder() / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    write(path, rows, problems, where, options)
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


def write(path: Path, rows: Sequence[Row], problems: Sequence[str], where: machine.Machine, options: Options) -> None:
    """Writes what was found as JSON."""
    result = {
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "machine": str(where),
        "is_calm": where.is_calm,
        "model": options.model,
        "quick": options.quick,
        "rows": as_json(rows),
        "problems": list(problems),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written to {path}")


def measured(part: str, run: Callable[[Options], Sequence[Row]], options: Options) -> tuple[list[Row], list[str]]:
    """The rows of a part; where it fails, none and one sentence on why."""
    print(f"{part} ...", flush=True)
    began = time.monotonic()
    try:
        rows = list(run(options))
    except (BenchError, UserError) as error:
        return [], [f"{part}: {error}"]
    print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
    return rows, []


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
        "--set", type=setting, action="append", default=[], metavar="NAME=VALUE", help="a setting of `completion`"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    return result


def part_named(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(PARTS)}")
    return text


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
