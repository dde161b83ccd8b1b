"""The typing replay: how long after a key its suggestion comes, and what the suggestions are good for.

Real files are typed key by key, as fast as somebody types, whether the server keeps up or not. At each key the editor
sends the change, cancels what it asked before and asks again. What arrives after the next key is superseded and shown
to nobody; it is counted, not timed. Suggestions that are what comes next are sometimes accepted. Each file is typed in
its repository, which the server has indexed. A second server, without an index, takes turns with the first at the same
keys, so that a machine that slows down slows both. At last some are typed beside a busy process.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.busy import busy_neighbour
from tests.bench.client import Client, Pending, ServerFailure
from tests.bench.heldout import SourceFile, generator
from tests.bench.machine import cache_variables
from tests.bench.options import Options
from tests.bench.page import Report, Section, table_of
from tests.bench.plots import distribution
from tests.bench.positions import position_at
from tests.bench.quality.repository import own_files, write
from tests.bench.replay_rows import MAX_P50_MS, MAX_P95_MS, Tally, busy_rows, index_rows, rows
from tests.bench.repositories import FABRIC, PYCHROMECAST, RXJS, TWEEPY, Package, servers_folder
from tests.bench.suggestion import Item, items_of
from tests.bench.table import BenchError
from tests.bench.typist import Key, Typist

# Three Python files and one of TypeScript; a stretch in the middle of each is typed.
FILES = (
    (FABRIC, "fabric/connection.py"),
    (PYCHROMECAST, "pychromecast/controllers/media.py"),
    (TWEEPY, "tweepy/streaming.py"),
    (RXJS, "src/internal/ajax/ajax.ts"),
)
STRETCH_LINES = 100
N_KEYS, N_QUICK_KEYS = 140, 30  # of each file, with an index and without
TURN_KEYS = 35  # that one server gets before the other
N_BUSY_KEYS, N_QUICK_BUSY_KEYS = 100, 30  # of the first one
# Between keys of somebody at work, seconds: a log-normal with long pauses for thought cut off. Fast for a programmer,
# so that the server has little time (Dhakal et al. 2018 report a mean of 239 ms over 168,000 people, 120 ms for fast).
MEDIAN_PAUSE_S, PAUSE_SIGMA, MAX_PAUSE_S = 0.13, 0.45, 1.0
START_PAUSE_S = 1.0  # at the start of a turn: nobody types before having read
ACCEPT_RATE, MIN_ACCEPTED_CHARACTERS = 0.5, 3


@dataclass(frozen=True, slots=True)
class Stretch:
    """A file that is typed, in a folder with the rest of its repository."""

    file: SourceFile
    root: Path

    @property
    def uri(self) -> str:
        return (self.root / self.file.path).as_uri()


def run(options: Options) -> Report:
    """Types all stretches with an index and without, in turns, then a part of the first beside a busy process."""
    tally, alone, beside = Tally(), Tally(), Tally()
    n_keys = options.n(N_KEYS, N_QUICK_KEYS)
    with tempfile.TemporaryDirectory(prefix="loracle-replay-") as folder:
        stretches = laid_out(options.sources, Path(folder))
        for stretch in stretches:
            with served(options, stretch) as ours, served(options, stretch, with_index=False) as theirs:
                type_in_turns(stretch, n_keys, (ours, tally), (theirs, alone))
        with busy_neighbour(), served(options, stretches[0]) as client:
            Replay(client, stretches[0], beside).type(options.n(N_BUSY_KEYS, N_QUICK_BUSY_KEYS))
    found = [*rows(tally), *index_rows(tally, alone), *busy_rows(beside)]
    plot = distribution(
        {
            "by the model": tally.model_ms,
            "by the index": tally.index_ms,
            "typed along": tally.known_ms,
            "without an index": alone.model_ms,
            "beside a busy process": beside.new_ms,
        },
        x_axis="ms from the key to the answer, debounce included",
        caption=f"Answers that came before the next key. {len(stretches)} files, {tally.n_keys} keys; "
        f"{tally.n_answers['late']} answers were superseded by the next key and are not in the plot.",
        marks={"p50 at most": MAX_P50_MS, "p95 at most": MAX_P95_MS},
    )
    tallies = {"replay": tally, "without an index": alone, "beside a busy process": beside}
    details = {
        name: {"model_ms": each.model_ms, "index_ms": each.index_ms, "known_ms": each.known_ms}
        for name, each in tallies.items()
    }
    return Report(found, [Section("Typing", [table_of(found), plot])], details)


def laid_out(sources: Mapping[Package, Path], folder: Path) -> list[Stretch]:
    """The files to type, each in a folder with its package's other files: the rest is known, what is typed is not.

    BenchError where there is none of them.
    """
    stretches = []
    for package, path in FILES:
        files = own_files(package, sources[package]) if package in sources else []
        for file in files:
            if file.path == path:
                write((other for other in files if other is not file), folder / package.name)
                stretches.append(Stretch(file, folder / package.name))
    if not stretches:
        raise BenchError("none of the files to type was fetched")
    return stretches


@contextmanager
def served(options: Options, stretch: Stretch, *, with_index: bool = True) -> Iterator[Client]:
    """A server that is ready for the stretch's repository. ServerFailure where that cannot be indexed."""
    index = {**options.settings.get("index", {}), **({} if with_index else {"enabled": False})}
    settings = {**options.settings, "index": index, "completion": dict(options.completion)}
    with options.client(cache_variables(servers_folder())) as client:
        client.initialize(settings, stretch.root)
        client.wait_for_model()
        if index.get("enabled", True) and (problem := client.wait_for_index()) is not None:
            raise ServerFailure(f"{stretch.file.path} was to be typed with an index: {problem}")
        yield client


def type_in_turns(stretch: Stretch, n_keys: int, *servers: tuple[Client, Tally]) -> None:
    """Types so many keys with each of the servers, `TURN_KEYS` at a time, and adds to their tallies what happens.

    What is accepted of the first one's suggestions is typed with the others too, whatever they suggest.
    """
    first, *others = servers
    leading = Replay(first[0], stretch, first[1])
    following = [Replay(client, stretch, tally, leading.accepted) for client, tally in others]
    for n_typed in range(0, n_keys, TURN_KEYS):
        for replay in (leading, *following):
            replay.type(min(TURN_KEYS, n_keys - n_typed))


def stretch_of(file: SourceFile, n_lines: int = STRETCH_LINES) -> tuple[str, str, str]:
    """The text before, in and after the stretch that is typed: from the first definition in the second half.

    It ends before another one beside it, where there is one after so many lines: without it the file is whole. The line
    break at its end is there before it is typed: who writes in the middle of a file opens a line first.
    """
    lines = file.text.splitlines(keepends=True)
    words = ("def ", "async def ", "class ", "export ", "function ")

    def definition(numbers: range, widest: int) -> int | None:
        """The first of some lines that starts a definition and is indented by so much at most."""
        codes = ((number, lines[number].lstrip()) for number in numbers)
        found = (n for n, code in codes if code.startswith(words) and len(lines[n]) - len(code) <= widest)
        return next(found, None)

    middle = len(lines) // 2
    start = definition(range(middle, len(lines)), len(file.text)) or middle
    blanks = len(lines[start]) - len(lines[start].lstrip())
    end = definition(range(start + n_lines, len(lines)), blanks) or min(start + n_lines, len(lines))
    target = "".join(lines[start:end])
    line_break = target[len(target.rstrip("\r\n")) :]
    return "".join(lines[:start]), target.removesuffix(line_break), line_break + "".join(lines[end:])


def pause_s(rng: random.Random) -> float:
    """Seconds until the next key."""
    return min(math.exp(rng.gauss(math.log(MEDIAN_PAUSE_S), PAUSE_SIGMA)), MAX_PAUSE_S)


class Replay:
    """One file on its way through an editor whose server is `client`.

    With those suggestions that another replay `accepted`, `follow`, the same keys are typed as there.
    """

    def __init__(
        self, client: Client, stretch: Stretch, tally: Tally, follow: Mapping[int, Item] | None = None
    ) -> None:
        self.accepted: dict[int, Item] = {}  # by the number of the key
        file = stretch.file
        self._client, self._uri, self._tally = client, stretch.uri, tally
        self._follow = follow
        # Drawn apart, so that the pauses are the same whatever is suggested.
        self._pauses, self._choices = generator(file.path, "replay"), generator(file.path, "accepted")
        before, target, after = stretch_of(file)
        python = file.language_id == "python"
        indent = " " * (4 if python else 2)
        rng = generator(file.path, "keys")
        self._typist = Typist(before, target, after, indent=indent, brace_blocks=not python, rng=rng)
        client.open(self._uri, file.language_id, self._typist.text)
        self._n_pressed = 0
        self._asked: Pending | None = None
        self._counts = counts_of(client.status())
        # One asked for after each answer, the number of its key, what it took, and whether it held something.
        self._statuses: list[tuple[Pending, int, float, bool]] = []

    def type(self, n_keys: int) -> None:
        """Types so many keys more, or to the end."""
        item: Item | None = None
        next_at = time.perf_counter() + START_PAUSE_S
        for number in range(self._n_pressed, self._n_pressed + n_keys):
            if self._typist.is_done:
                break
            time.sleep(max(next_at - time.perf_counter(), 0.0))
            pressed_at = time.perf_counter()
            if (chosen := self._chosen(number, item)) is not None:
                self.accepted[number] = chosen
            self._press(chosen)
            self._n_pressed += 1
            next_at = pressed_at + pause_s(self._pauses)
            item = self._answer(number, pressed_at, next_at)
        self._tell_apart()

    def _chosen(self, number: int, item: Item | None) -> Item | None:
        """What is accepted at this key: the suggestion that is shown, now and then, or what another run accepted."""
        if self._follow is not None:
            return self._follow.get(number)
        if item is None or len(item.text) < MIN_ACCEPTED_CHARACTERS or not self._typist.accepts(item):
            return None
        return item if self._choices.random() < ACCEPT_RATE else None

    def _press(self, accepted: Item | None) -> None:
        """One key: a Tab for what is accepted, or the next of the text."""
        text = self._typist.text
        if accepted is not None:
            key = self._typist.accept(accepted)
            self._tally.n_accepted += 1
            self._tally.n_saved_keys += len(accepted.text) - 1
        else:
            key = self._typist.press()
        self._tally.n_keys += 1
        self._send(text, key, accepted)

    def _send(self, text: str, key: Key, accepted: Item | None) -> None:
        """What an editor sends at a key."""
        client = self._client
        if key.is_edit:
            client.edit(self._uri, text, key.start, key.end, key.inserted)
        if self._asked is not None and not self._asked.within(0):
            client.cancel(self._asked)
        if accepted is not None and accepted.command and self._follow is None:
            command = {"command": accepted.command["command"], "arguments": accepted.command["arguments"]}
            client.send("workspace/executeCommand", command)
        self._asked = client.ask(self._uri, position_at(self._typist.text, key.cursor))

    def _answer(self, number: int, pressed_at: float, next_at: float) -> Item | None:
        """The suggestion that is shown when the next key is due."""
        assert self._asked is not None
        if not self._asked.within(next_at - time.perf_counter()):
            self._tally.n_answers["late"] += 1
            self._tally.new_ms_at[self._uri, number] = math.inf
            return None
        found = items_of(self._asked.result(), self._typist.text)
        # Asked at once, read when it is there: what is sent later is not in these counts, and the typist need not wait.
        took_ms = 1000 * (self._asked.arrived_at - pressed_at)
        self._statuses.append((self._client.ask_status(), number, took_ms, bool(found)))
        if not found:
            return None
        self._tally.n_shown += 1
        self._tally.n_right += self._typist.accepts(found[0])
        return found[0]

    def _tell_apart(self) -> None:
        """Counts how each answer came about, as the server's counts before and after it say."""
        for pending, number, took_ms, is_offered in self._statuses:
            before, self._counts = self._counts, counts_of(pending.result())
            since = {name: self._counts[name] - before[name] for name in COUNTS}
            self._tally.n_prompt_tokens += since["promptTokens"]
            self._tally.n_cached_tokens += since["cachedTokens"]
            if since["typedThrough"]:
                self._tally.n_answers["known"] += 1
                self._tally.known_ms.append(took_ms)
            elif since["modelAnswers"]:
                self._tally.n_answers["model"] += 1
                self._tally.model_ms.append(took_ms)
                self._tally.new_ms_at[self._uri, number] = took_ms
            elif is_offered:  # neither known nor the model's
                self._tally.n_answers["index"] += 1
                self._tally.index_ms.append(took_ms)
                self._tally.new_ms_at[self._uri, number] = took_ms
            else:
                self._tally.n_answers["gated"] += 1
        self._statuses.clear()


COUNTS = ("typedThrough", "modelAnswers", "promptTokens", "cachedTokens")


def counts_of(status: Mapping[str, Any]) -> dict[str, int]:
    """What has to be known of `loracle.status` to tell answers apart."""
    missing = [name for name in COUNTS if name not in status]
    if missing:
        raise BenchError(f"loracle.status does not tell {', '.join(missing)}: a server of another version?")
    return {name: int(status[name]) for name in COUNTS}
