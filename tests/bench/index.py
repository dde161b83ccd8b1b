"""The repository index at a million tokens: build, memory, look-up, an update, and what drafts save.

The text is Python of the packages installed beside the project, cut at a million tokens of the shipped vocabulary.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from server.index.build import build
from server.index.build_process import Result, start_build
from server.index.live import REPOSITORY, LiveIndex
from server.index.lookup import Follower, Tier
from server.index.opinion import Opinion
from server.index.segment import Segment
from server.index.store import read_current
from server.index.texts import load_segments
from server.lm.context import Document, context_at
from server.lm.cursor import cursor_between
from server.lm.decode import Generation, generate
from server.lm.languages import language_for
from server.lm.model import LoadedModel, load_model
from server.lm.prompt import completion_prompt
from server.lm.reader import LogProbs
from server.lm.stopping import line_end
from tests.bench.heldout import generator
from tests.bench.options import Options
from tests.bench.table import BenchError, Row, percentile

PART = "index"
N_TOKENS, N_QUICK_TOKENS = 1_000_000, 100_000
N_LOOKUPS, N_RANKINGS, N_LINES = 2_000, 300, 40
MIN_LINE_TOKENS = 12
SAVED_LINES = 2_000
TIE = 1e-3  # difference of two log-probabilities that rounding may decide

T = TypeVar("T")


def run(options: Options) -> list[Row]:
    """Builds in this process, then in the child process as a server does, and asks in this one."""
    model = load_model(options.model)
    n_tokens = options.n(N_TOKENS, N_QUICK_TOKENS)
    with tempfile.TemporaryDirectory(prefix="loracle-index-") as folder:
        root, stored = Path(folder, "root"), Path(folder, "stored")
        n_copied = _copy(root, n_tokens, model)
        _, built_s = _timed(lambda: build(root, Path(folder, "built_here")))
        _, built_in_child_s = _timed(lambda: _build_in_child(root, stored))
        at_most = 10 * n_tokens / N_TOKENS
        began = time.perf_counter()
        generation = read_current(stored)
        segments = load_segments(generation) if generation is not None else None
        loaded_ms = 1000 * (time.perf_counter() - began)
        if generation is None or segments is None:
            raise BenchError("the index was not stored")
        segment = segments[0]
        on_disk = sum(path.stat().st_size for path in generation.repository.iterdir())
        lookups = [1000 * spent for spent in _lookups(segment)]
        rankings = [1000 * spent for spent in _rankings(segment)]
        resident = resident_bytes(generation.repository)
        update_ms, search_ms = _update_ms(segment)
        rows = [
            _row("build, in the server's child process", built_in_child_s, "s", at_most, "its start included, nice 10"),
            _row("build, the same work alone", built_s, "s", at_most, f"{n_copied:,} tokens"),
            _row("load what is stored", loaded_ms, "ms"),
            Row(PART, "on disk, mapped into memory", on_disk / n_copied, "bytes a token", at_most=30),
            Row(
                PART,
                "of that resident after look-ups and rankings",
                None if resident is None else resident / n_copied,
                "bytes a token",
                note="/proc does not tell" if resident is None else f"{resident / 1e6:.0f} MB",
            ),
            _row("look-up p95", percentile(lookups, 95), "ms", at_most=1),
            _row("whole lines ranked, p95", percentile(rankings, 95), "ms"),
            _row("update after a save of 2,000 lines, off the path of completions", update_ms, "ms", at_most=50),
            _row("  the next completion's way to what is searched", search_ms, "ms"),
        ]
        rows += _drafts(segment, model)
        del segment, segments  # unmap what is about to be deleted
    return rows


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and the seconds that it took."""
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def _build_in_child(root: Path, folder: Path) -> Result:
    """Builds as a server does."""
    process = start_build(root, folder)
    (result,) = [event for event in process.events() if isinstance(event, Result)]
    return result


def resident_bytes(folder: Path) -> int | None:
    """How much of the mapped files in a folder is in this process's memory; None where /proc does not tell."""
    n_kb, is_inside, is_told = 0, False, False
    with suppress(OSError):
        for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").split("\n"):
            words = line.split(maxsplit=5)
            if words and "-" in words[0] and not words[0].endswith(":"):  # a mapping: addresses, rights, ..., its file
                is_inside = len(words) == 6 and Path(words[5]).is_relative_to(folder.resolve())
            elif is_inside and words and words[0] == "Rss:":
                n_kb, is_told = n_kb + int(words[1]), True
    return 1024 * n_kb if is_told else None


def _row(what: str, value: float | None, unit: str, at_most: float | None = None, note: str = "") -> Row:
    return Row(PART, what, value, unit, at_most=at_most, note=note, is_timing=True)


def _copy(root: Path, n_tokens: int, model: LoadedModel) -> int:
    """Files of installed packages below `root`, `n_tokens` in all; how many tokens they have."""
    above = Path(sysconfig.get_paths()["purelib"])
    n_copied = 0
    for name in ("sympy", "networkx", "jedi", "pygments"):
        for path in sorted((above / name).rglob("*.py")):
            if n_copied >= n_tokens:
                return n_copied
            text = path.read_text(encoding="utf-8", errors="replace")
            if not 1_000 < len(text) < 100_000:
                continue
            target = root / path.relative_to(above)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            os.utime(target)
            n_copied += len(model.tokenizer.encode(text))
    if n_copied < n_tokens:
        raise BenchError(f"only {n_copied} tokens of installed Python found, {n_tokens} are needed; run `make setup`")
    return n_copied


def _lookups(segment: Segment) -> Iterator[float]:
    """Seconds of looking up places of files, each with its first 60 % changed, so that nothing agrees for ever."""
    rng = generator(PART, "lookups")
    files = list(segment.files())
    for _ in range(N_LOOKUPS):
        text = rng.choice(files).text
        at = rng.randrange(len(text)) if text else 0
        past = text[max(at - 300, 0) : max(at - 24, 0)] + b" changed " + text[max(at - 24, 0) : at]
        follower = Follower(Tier("", "repository", segment))
        began = time.perf_counter()
        follower.after(past)
        yield time.perf_counter() - began


def _rankings(segment: Segment) -> Iterator[float]:
    """Seconds of ranking how a line may end, at places of a file that is changed a line above the cursor."""
    rng = generator(PART, "rankings")
    files = list(segment.files())
    index = LiveIndex()
    index.use({REPOSITORY: segment})
    for _ in range(N_RANKINGS):
        lines = rng.choice(files).text.decode().split("\n")
        at = rng.randrange(len(lines))
        before = "\n".join([*lines[:at], "# changed", lines[at][: rng.randrange(len(lines[at]) + 1)]])
        document = Document("", "new_file.py", language_for("python"), "\n".join([before, *lines[at + 1 :]]))
        index.tiers(document, len(before))  # the file itself is searched for every key of a line
        began = time.perf_counter()
        index.lines(document, len(before))
        yield time.perf_counter() - began


def _update_ms(segment: Segment) -> tuple[float, float]:
    """What a saved file of 2,000 lines costs until it answers, in milliseconds, medians of five.

    In the thread that nobody waits for, and then at the next completion in another file.
    """
    texts = (file.text.decode() for file in segment.files())
    text = "\n".join("".join(texts).split("\n")[:SAVED_LINES])
    updates, searches = [], []
    for number in range(5):
        index = LiveIndex()
        index.use({REPOSITORY: segment})
        began = time.perf_counter()
        index.change("new.py", f"{text}\nlast_{number} = 1\n", is_open=False)
        index.prepare()
        prepared = time.perf_counter()
        index.tiers(Document("", "other.py", language_for("python"), "x = 1\n"), 0)
        searches.append(1000 * (time.perf_counter() - prepared))
        updates.append(1000 * (prepared - began))
    return statistics.median(updates), statistics.median(searches)


def _drafts(segment: Segment, model: LoadedModel) -> list[Row]:
    """Decoding of lines that stand verbatim in the index, with drafts and without, in turns."""
    rng = generator(PART, "drafts")
    files = list(segment.files())
    ratios, n_drafted, n_accepted, n_same, n_ties = [], 0, 0, 0, 0
    index = LiveIndex()
    index.use({REPOSITORY: segment})
    while len(ratios) < N_LINES:
        lines = rng.choice(files).text.decode().split("\n")
        at = rng.randrange(len(lines))
        line = lines[at].strip()
        if len(model.tokenizer.encode(line)) < MIN_LINE_TOKENS:
            continue
        indentation = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        text = "\n".join([*lines[max(at - 20, 0) : at], indentation])
        document = Document("", "new_file.py", language_for("python"), text)
        _decoded(index, document, model, drafts=True)  # whoever comes first pays for what both look up
        (with_drafts, opinion, heard), (without, _, heard_without) = (
            _decoded(index, document, model, drafts) for drafts in (True, False)
        )
        if len(model.tokenizer.encode(without.text)) < MIN_LINE_TOKENS:
            continue  # the index was not followed to the end of the line
        ratios.append(without.decode_ms / with_drafts.decode_ms)
        n_same += with_drafts.text == without.text
        n_ties += with_drafts.text != without.text and is_tie(heard.by_text, heard_without.by_text)
        n_drafted += opinion.n_drafted
        n_accepted += opinion.n_accepted
    return [
        Row(PART, "decode without drafts / with", statistics.median(ratios), "times", at_least=1.5, is_timing=True),
        Row(
            PART,
            "same text with drafts and without, but for ties",
            100 * (n_same + n_ties) / len(ratios),
            "%",
            at_least=100,
            note=f"of {len(ratios)} lines; {n_ties} part where two tokens are within {TIE} of each other",
        ),
        Row(PART, "drafted tokens confirmed", 100 * n_accepted / max(n_drafted, 1), "%", note=f"of {n_drafted}"),
    ]


class Heard:
    """An opinion whose distributions are remembered, by the text before the token."""

    def __init__(self, opinion: Opinion) -> None:
        self.by_text: dict[bytes, LogProbs] = {}
        self._opinion = opinion

    def prepare(self, texts: Sequence[bytes]) -> None:
        """As the opinion does."""
        self._opinion.prepare(texts)

    def mix(self, log_probs: LogProbs, text_so_far: bytes) -> LogProbs:
        """As the opinion does."""
        self.by_text[text_so_far] = self._opinion.mix(log_probs, text_so_far)
        return self.by_text[text_so_far]


def is_tie(with_drafts: Mapping[bytes, LogProbs], without: Mapping[bytes, LogProbs]) -> bool:
    """Whether two texts part at a token that was as likely, without drafts, as the one that was written with them.

    Both are told as the distributions by the text before the token, in the order of the text.
    """
    for text_so_far, log_probs in with_drafts.items():
        if text_so_far in without and (token_id := int(log_probs.argmax())) != int(without[text_so_far].argmax()):
            return bool(without[text_so_far].max() - without[text_so_far][token_id] < TIE)
    return False


def _decoded(
    index: LiveIndex, document: Document, model: LoadedModel, drafts: bool
) -> tuple[Generation, Opinion, Heard]:
    """The line written at the end of a document, the index's opinion, and the distributions with it."""
    offset = len(document.text)
    n_positions = model.engine.config.n_positions
    prompt = completion_prompt(context_at(document, offset), model.tokenizer, model.token_index, n_positions, 64)
    opinion = index.opinion(document, offset, len(prompt.pending), model.tokenizer)
    cursor = cursor_between(document.text, "", document.language)
    heard = Heard(opinion)
    generation = generate(
        model.completion_cache,
        prompt,
        model.tokenizer,
        model.token_index,
        stop=lambda text: line_end(cursor, text),
        max_new_tokens=64,
        must_begin=True,
        mixer=heard,
        proposer=opinion if drafts else None,
    )
    return generation, opinion, heard
