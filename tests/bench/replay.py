"""The typing replay: how long after a key its suggestion comes, and what the suggestions are good for.

Real files are typed key by key, as fast as somebody types, whether the server keeps up or not. At each key the editor
sends the change, cancels what it asked before and asks again. What arrives after the next key is superseded and shown
to nobody; it is counted, not timed. Suggestions that are what comes next are sometimes accepted. A part is typed once
more beside a busy process.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.busy import busy_neighbour
from tests.bench.client import Client, Pending, position_at
from tests.bench.heldout import SourceFile, generator
from tests.bench.options import Options
from tests.bench.page import Report, Section, table_of
from tests.bench.plots import distribution
from tests.bench.suggestion import Item, items_of
from tests.bench.table import BenchError, Row, percentile, share
from tests.bench.typist import Key, Typist

PART = "replay"

# Three Python files and one of TypeScript; a stretch in the middle of each is typed.
FILES = (
    "fabric/connection.py",
    "pychromecast/controllers/media.py",
    "tweepy/streaming.py",
    "rxjs/internal/ajax/ajax.ts",
)
STRETCH_LINES = 100
N_KEYS, N_QUICK_KEYS = 400, 60  # of each file
N_BUSY_KEYS, N_QUICK_BUSY_KEYS = 200, 30  # of the first one
# Between keys of somebody at work, seconds: a log-normal with long pauses for thought cut off. Fast for a programmer,
# so that the server has little time (Dhakal et al. 2018 report a mean of 239 ms over 168,000 people, 120 ms for fast).
MEDIAN_PAUSE_S, PAUSE_SIGMA, MAX_PAUSE_S = 0.13, 0.45, 1.0
START_PAUSE_S = 1.0  # after opening: nobody types before having read
ACCEPT_RATE, MIN_ACCEPTED_CHARACTERS = 0.5, 3

MAX_P50_MS, MAX_P95_MS, MIN_CACHED_PERCENT = 90.0, 200.0, 80.0


@dataclass(slots=True)
class Tally:
    """What happened at all keys."""

    n_keys: int = 0
    n_answers: Counter[str] = field(default_factory=Counter)  # by where they came from
    model_ms: list[float] = field(default_factory=list)  # key to answer, of the model's answers
    known_ms: list[float] = field(default_factory=list)  # and of those known from an earlier one
    n_shown: int = 0  # keys after which a suggestion was there before the next
    n_right: int = 0  # of these, what came next
    n_accepted: int = 0
    n_saved_keys: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0


def run(options: Options) -> Report:
    """Types all stretches, one server for all of them; then a part of the first beside a busy process."""
    by_path = {file.path: file for file in options.files}
    files = [by_path[path] for path in FILES if path in by_path]
    if not files:
        raise BenchError("none of the files to type was fetched")
    tally = typed(options, files, options.n(N_KEYS, N_QUICK_KEYS))
    with busy_neighbour():
        beside = typed(options, files[:1], options.n(N_BUSY_KEYS, N_QUICK_BUSY_KEYS))
    found = [*rows(tally), *busy_rows(beside)]
    plot = distribution(
        {
            "by the model": tally.model_ms,
            "typed along": tally.known_ms,
            "by the model, beside a busy process": beside.model_ms,
        },
        x_axis="ms from the key to the answer, debounce included",
        caption=f"Answers that came before the next key. {len(files)} files, {tally.n_keys} keys; "
        f"{tally.n_answers['late']} answers were superseded by the next key and are not in the plot.",
        marks={"p50 at most": MAX_P50_MS, "p95 at most": MAX_P95_MS},
    )
    details = {
        name: {"model_ms": each.model_ms, "known_ms": each.known_ms}
        for name, each in (("replay", tally), ("beside a busy process", beside))
    }
    return Report(found, [Section("Typing", [table_of(found), plot])], details)


def typed(options: Options, files: Sequence[SourceFile], n_keys: int) -> Tally:
    """What happens at so many keys in each of the files."""
    tally = Tally()
    with options.client() as client:
        client.initialize({**options.settings, "completion": dict(options.completion)})
        client.wait_for_model()
        for file in files:
            _Replay(client, file, tally).type(n_keys)
    return tally


def busy_rows(tally: Tally) -> list[Row]:
    """The figures of a replay beside a busy process."""
    note = f"of {len(tally.model_ms)}; {tally.n_answers['late']} of {tally.n_keys} keys superseded theirs"
    return [
        Row(
            PART,
            f"key to the model's answer beside a busy process, p{percent}",
            percentile(tally.model_ms, percent),
            "ms",
            note=note,
            is_timing=True,
        )
        for percent in (50, 95)
    ]


def rows(tally: Tally) -> list[Row]:
    """The figures of a replay."""
    n_current = sum(tally.n_answers.values()) - tally.n_answers["late"]

    def timing(what: str, values: Sequence[float], percent: float, at_most: float | None = None) -> Row:
        value = percentile(values, percent)
        note = f"of {len(values)}" if values else "the model gave no answer in time"
        return Row(PART, what, value, "ms", at_most=at_most, note=note, is_timing=True)

    def counted(what: str, name: str) -> Row:
        return Row(PART, what, tally.n_answers[name], "answers", note=f"of {tally.n_keys} keys")

    return [
        timing("key to the model's answer, debounce included, p50", tally.model_ms, 50, MAX_P50_MS),
        timing("key to the model's answer, debounce included, p95", tally.model_ms, 95, MAX_P95_MS),
        timing("key to an answer typed along, p50", tally.known_ms, 50),
        timing("key to an answer typed along, p95", tally.known_ms, 95),
        Row(
            PART,
            "prompt tokens found in the cache",
            share(tally.n_cached_tokens, tally.n_prompt_tokens),
            "%",
            at_least=MIN_CACHED_PERCENT,
            note=f"of {tally.n_prompt_tokens}",
        ),
        counted("by the model", "model"),
        counted("typed along an earlier suggestion", "known"),
        counted("gated: nothing was asked of the model", "gated"),
        counted("superseded: the next key came first", "late"),
        Row(PART, "keys with a suggestion", share(tally.n_shown, n_current), "%", note="of those answered in time"),
        Row(PART, "of the suggestions, what came next", share(tally.n_right, tally.n_shown), "%"),
        Row(
            PART,
            "keystrokes saved",
            share(tally.n_saved_keys, tally.n_saved_keys + tally.n_keys),
            "%",
            note=f"{tally.n_accepted} accepted, every other that was right and {MIN_ACCEPTED_CHARACTERS} or longer",
        ),
    ]


def stretch_of(file: SourceFile, n_lines: int = STRETCH_LINES) -> tuple[str, str, str]:
    """The text before, in and after the stretch that is typed: from the first definition in the second half."""
    lines = file.text.splitlines(keepends=True)
    words = ("def ", "async def ", "class ", "export ", "function ")
    middle = len(lines) // 2
    starts = (number for number in range(middle, len(lines)) if lines[number].lstrip().startswith(words))
    start = next(starts, middle)
    end = min(start + n_lines, len(lines) - 1)
    return "".join(lines[:start]), "".join(lines[start:end]), "".join(lines[end:])


def pause_s(rng: random.Random) -> float:
    """Seconds until the next key."""
    return min(math.exp(rng.gauss(math.log(MEDIAN_PAUSE_S), PAUSE_SIGMA)), MAX_PAUSE_S)


class _Replay:
    """One file on its way through the editor."""

    def __init__(self, client: Client, file: SourceFile, tally: Tally) -> None:
        self._client, self._uri, self._tally = client, file.uri, tally
        self._rng = generator(file.path, "replay")
        before, target, after = stretch_of(file)
        python = file.language_id == "python"
        indent = " " * (4 if python else 2)
        rng = generator(file.path, "keys")
        self._typist = Typist(before, target, after, indent=indent, brace_blocks=not python, rng=rng)
        client.open(self._uri, file.language_id, self._typist.text)
        self._asked: Pending | None = None
        self._counts = counts_of(client.status())
        self._statuses: list[tuple[Pending, float]] = []  # one asked for after each answer, and what that one took

    def type(self, n_keys: int) -> None:
        """Types so many keys, or to the end."""
        item: Item | None = None
        next_at = time.perf_counter() + START_PAUSE_S
        for _ in range(n_keys):
            if self._typist.is_done:
                break
            time.sleep(max(next_at - time.perf_counter(), 0.0))
            pressed_at = time.perf_counter()
            self._press(item)
            next_at = pressed_at + pause_s(self._rng)
            item = self._answer(pressed_at, next_at)
        self._tell_apart()

    def _press(self, item: Item | None) -> None:
        """One key: a Tab for the suggestion that is shown, if it is taken, or the next of the text."""
        text = self._typist.text
        taken = item is not None and self._typist.accepts(item) and len(item.text) >= MIN_ACCEPTED_CHARACTERS
        if item is not None and taken and self._rng.random() < ACCEPT_RATE:
            key = self._typist.accept(item)
            self._tally.n_accepted += 1
            self._tally.n_saved_keys += len(item.text) - 1
        else:
            key = self._typist.press()
        self._tally.n_keys += 1
        self._send(text, key, item)

    def _send(self, text: str, key: Key, item: Item | None) -> None:
        """What an editor sends at a key."""
        client = self._client
        if key.is_edit:
            client.edit(self._uri, text, key.start, key.end, key.inserted)
        if self._asked is not None and not self._asked.within(0):
            client.cancel(self._asked)
        if key.name == "Tab" and item is not None and item.command:
            command = {"command": item.command["command"], "arguments": item.command["arguments"]}
            client.send("workspace/executeCommand", command)
        self._asked = client.ask(self._uri, position_at(self._typist.text, key.cursor))

    def _answer(self, pressed_at: float, next_at: float) -> Item | None:
        """The suggestion that is shown when the next key is due."""
        assert self._asked is not None
        if not self._asked.within(next_at - time.perf_counter()):
            self._tally.n_answers["late"] += 1
            return None
        found = items_of(self._asked.result(), self._typist.text)
        # Asked at once, read when it is there: what is sent later is not in these counts, and the typist need not wait.
        self._statuses.append((self._client.ask_status(), 1000 * (self._asked.arrived_at - pressed_at)))
        if not found:
            return None
        self._tally.n_shown += 1
        self._tally.n_right += self._typist.accepts(found[0])
        return found[0]

    def _tell_apart(self) -> None:
        """Counts how each answer came about, as the server's counts before and after it say."""
        for pending, took_ms in self._statuses:
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
            else:
                self._tally.n_answers["gated"] += 1


COUNTS = ("typedThrough", "modelAnswers", "promptTokens", "cachedTokens")


def counts_of(status: Mapping[str, Any]) -> dict[str, int]:
    """What has to be known of `loracle.status` to tell answers apart."""
    missing = [name for name in COUNTS if name not in status]
    if missing:
        raise BenchError(f"loracle.status does not tell {', '.join(missing)}: a server of another version?")
    return {name: int(status[name]) for name in COUNTS}
