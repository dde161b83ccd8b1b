"""The serving process: how soon it answers, how much memory it takes, how soon a cancelled request frees the worker."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tests.bench.client import Client
from tests.bench.heldout import SourceFile, generator
from tests.bench.machine import cache_variables
from tests.bench.options import Options
from tests.bench.places import draw
from tests.bench.positions import position_at
from tests.bench.table import BenchError, Row, percentile

PART = "process"
N_STARTS, N_QUICK_STARTS = 3, 1
N_COMPLETIONS, N_QUICK_COMPLETIONS = 100, 10
N_CANCELS, N_QUICK_CANCELS = 20, 4
MAX_INITIALIZE_S, MAX_FIRST_S, MAX_VERY_FIRST_S = 1.0, 4.0, 10.0
MAX_MEMORY_MB, MAX_CANCEL_MS = 300.0, 50.0

# Long enough for a full window, and for more tokens than anybody waits for.
COLD_LINES = 400
ENDLESS = {"debounceMs": 0, "deadlineMs": 60_000, "maxNewTokens": 256, "multiline": "always", "minConfidence": 0}
AT_ONCE = {"debounceMs": 0, "deadlineMs": 20_000}


def run(options: Options) -> list[Row]:
    """Starts servers and watches them."""
    files = [file for file in options.files if file.language_id == "python"]
    if not files:
        raise BenchError("no held-out Python file was fetched")
    longest = max(files, key=lambda file: (len(file.text), file.path))
    return [*_start_rows(options, longest), *_memory_rows(options, files), *_cancel_rows(options, longest)]


def _start_rows(options: Options, file: SourceFile) -> list[Row]:
    """From the start of the process to its first answers, with an empty cache folder and then with a filled one."""
    with tempfile.TemporaryDirectory(prefix="loracle-bench-cache-") as folder:
        home = cache_variables(Path(folder))
        _, very_first_s = _start(options, file, home)
        starts = [_start(options, file, home) for _ in range(options.n(N_STARTS, N_QUICK_STARTS))]
    initialize_s = statistics.median(start[0] for start in starts)
    first_s = statistics.median(start[1] for start in starts)
    note = f"median of {len(starts)}"

    def timed(what: str, value: float, at_most: float, note: str) -> Row:
        return Row(PART, what, value, "s", at_most=at_most, note=note, is_timing=True)

    return [
        timed("start to the answer to initialize", initialize_s, MAX_INITIALIZE_S, note),
        timed("start to the first completion", first_s, MAX_FIRST_S, note),
        timed("the same, the first time on a machine", very_first_s, MAX_VERY_FIRST_S, "an empty cache folder"),
    ]


def _start(options: Options, file: SourceFile, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds from the start of a process to the answer to `initialize`, and to a completion by the model."""
    with options.client(environment) as client:
        initialize_s = client.initialize({"completion": AT_ONCE})
        client.open(file.uri, file.language_id, file.text)
        client.wait_for_model()
        pending = client.ask(file.uri, position_at(file.text, _line_end(file)), invoked=True)
        pending.result()
        return initialize_s, pending.arrived_at - client.started_at


def _line_end(file: SourceFile) -> int:
    """The end of the line in the middle of the file: something can be asked of the model there."""
    middle = len(file.text) // 2
    end = file.text.find("\n", middle)
    return len(file.text) if end < 0 else end


def _memory_rows(options: Options, files: list[SourceFile]) -> list[Row]:
    """The memory of a process that has worked."""
    n_completions = N_QUICK_COMPLETIONS if options.quick else N_COMPLETIONS
    with options.client() as client:
        client.initialize({"completion": AT_ONCE})
        client.wait_for_model()
        for place in draw(files, n_completions, PART):
            uri = place.file.uri
            client.open(uri, place.file.language_id, place.document)
            client.ask(uri, position_at(place.document, len(place.before))).result()
        # The definition's name has no docstring of its own to be shown: everything that a hover can do is done.
        text = "def add_totals(first, second):\n    return first + second\n\n\nadd_totals(1, 2)\n"
        client.open("file:///held-out/hovered.py", "python", text)
        where = {"textDocument": {"uri": "file:///held-out/hovered.py"}, "position": position_at(text, len(text) - 8)}
        client.call("textDocument/hover", where)
        peak, others = peak_mb(client), children_mb(client.process.pid)
        shown = client.status()["memoryMb"]
    note = f"after {n_completions} completions and a hover"
    return [
        Row(PART, "peak memory", peak if peak is not None else shown, "MB", at_most=MAX_MEMORY_MB, note=note),
        Row(PART, "its child processes", others, "MB", note="static analysis, started by a hover"),
    ]


def peak_mb(client: Client) -> float | None:
    """The most memory that the process has had, in megabytes; None where /proc does not tell."""
    return _status_mb(client.process.pid, "VmHWM:")


def children_mb(pid: int) -> float | None:
    """The memory of all processes below one, in megabytes; None where /proc does not tell."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (OSError, ValueError):
        return None
    return sum((_status_mb(child, "VmRSS:") or 0.0) + (children_mb(child) or 0.0) for child in children)


def _status_mb(pid: int, name: str) -> float | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").split("\n")
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), None)


def _cancel_rows(options: Options, file: SourceFile) -> list[Row]:
    """From a cancellation to the answer of the next request that needs the worker, in the worst places for it."""
    rng = generator(PART, "cancel")
    lines = file.text.split("\n")
    free_ms, idle_ms = [], []
    n_missed = 0
    with options.client() as client:
        client.initialize({"completion": ENDLESS})
        client.wait_for_model()
        # Inside a word nothing is asked of the model: the answer comes as soon as the worker is free.
        gated = "value = other\n"
        client.open("file:///held-out/gated.py", "python", gated)
        for number in range(options.n(N_CANCELS, N_QUICK_CANCELS)):
            idle_ms.append(_gated_ms(client))
            # Other text in front makes the whole prompt new.
            start = rng.randrange(max(len(lines) - COLD_LINES, 1))
            cold = "\n".join([f"# {number}", *lines[start : start + COLD_LINES], ""])
            uri = f"file:///held-out/cold_{number}.py"
            client.open(uri, "python", cold)
            pending = client.ask(uri, position_at(cold, len(cold)))
            if pending.within(rng.uniform(0.02, 0.2)):
                n_missed += 1
                continue
            cancelled_at = time.perf_counter()
            client.cancel(pending)
            _gated_ms(client)
            free_ms.append(1000 * (time.perf_counter() - cancelled_at))
    worst = max(free_ms, default=None)
    note = f"worst of {len(free_ms)}, the way there and back included"
    if n_missed:
        note += f"; {n_missed} had been answered before"
    return [
        Row(PART, "cancel to a free worker", worst, "ms", MAX_CANCEL_MS, note=note, is_timing=True),
        Row(PART, "the same, idle", percentile(idle_ms, 50), "ms", note="median", is_timing=True),
    ]


def _gated_ms(client: Client) -> float:
    """Milliseconds until the worker has seen to a request that needs nothing of the model."""
    pending = client.ask("file:///held-out/gated.py", {"line": 0, "character": 2})
    pending.result()
    return 1000 * (pending.arrived_at - pending.sent_at)
