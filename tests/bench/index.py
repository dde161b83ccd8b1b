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
from collections.abc import Iterator
from pathlib import Path

from server.index.build import build
from server.index.live import REPOSITORY, LiveIndex
from server.index.lookup import Follower, Tier
from server.index.opinion import Opinion
from server.index.segment import Segment
from server.index.store import read_current
from server.index.texts import load_segments
from server.lm.context import Document, context_at
from server.lm.cursor import cursor_between
from server.lm.decode import generate
from server.lm.languages import language_for
from server.lm.model import LoadedModel, load_model
from server.lm.prompt import completion_prompt
from server.lm.stopping import line_end
from tests.bench.heldout import generator
from tests.bench.options import Options
from tests.bench.table import BenchError, Row, percentile

PART = "index"
N_TOKENS, N_QUICK_TOKENS = 1_000_000, 100_000
N_LOOKUPS, N_RANKINGS, N_LINES = 2_000, 300, 40
MIN_LINE_TOKENS = 12
SAVED_LINES = 2_000


def run(options: Options) -> list[Row]:
    """Builds in this process, as the child does, and asks in it."""
    model = load_model(options.model)
    n_tokens = options.n(N_TOKENS, N_QUICK_TOKENS)
    with tempfile.TemporaryDirectory(prefix="loracle-index-") as folder:
        root, stored = Path(folder, "root"), Path(folder, "stored")
        n_copied = _copy(root, n_tokens, model)
        began = time.perf_counter()
        build(root, stored)
        built_s = time.perf_counter() - began
        began = time.perf_counter()
        generation = read_current(stored)
        segments = load_segments(generation) if generation is not None else None
        loaded_ms = 1000 * (time.perf_counter() - began)
        if generation is None or segments is None:
            raise BenchError("the index was not stored")
        segment = segments[0]
        on_disk = sum(path.stat().st_size for path in generation.repository.iterdir())
        lookups = [1000 * spent for spent in _lookups(segment)]
        rows = [
            _row("build", built_s, "s", at_most=10 * n_tokens / N_TOKENS, note=f"{n_copied:,} tokens"),
            _row("load what is stored", loaded_ms, "ms"),
            Row(PART, "memory", on_disk / n_copied, "bytes a token", at_most=30),
            _row("look-up p95", percentile(lookups, 95), "ms", at_most=1),
            _row("whole lines ranked, p95", percentile([1000 * spent for spent in _rankings(segment)], 95), "ms"),
            _row("update after a save of 2,000 lines", _update_ms(segment), "ms", at_most=50),
        ]
        rows += _drafts(segment, model)
        del segment, segments  # unmap what is about to be deleted
    return rows


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


def _update_ms(segment: Segment) -> float:
    """Milliseconds until a saved file of 2,000 lines answers, median of five."""
    texts = (file.text.decode() for file in segment.files())
    text = "\n".join("".join(texts).split("\n")[:SAVED_LINES])
    spent = []
    for number in range(5):
        index = LiveIndex()
        index.use({REPOSITORY: segment})
        began = time.perf_counter()
        index.change("new.py", f"{text}\nlast_{number} = 1\n", is_open=False)
        index.tiers(Document("", "other.py", language_for("python"), "x = 1\n"), 0)
        spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent)


def _drafts(segment: Segment, model: LoadedModel) -> list[Row]:
    """Decoding of lines that stand verbatim in the index, with drafts and without, in turns."""
    rng = generator(PART, "drafts")
    files = list(segment.files())
    ratios, n_drafted, n_accepted, same = [], 0, 0, 0
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
        written = [_decoded(index, document, model, drafts) for drafts in (True, False)]
        if len(model.tokenizer.encode(written[1][0])) < MIN_LINE_TOKENS:
            continue  # the index was not followed to the end of the line
        ratios.append(written[1][1] / written[0][1])
        same += written[0][0] == written[1][0]
        n_drafted += written[0][2].n_drafted
        n_accepted += written[0][2].n_accepted
    return [
        Row(PART, "decode without drafts / with", statistics.median(ratios), "times", at_least=1.5, is_timing=True),
        Row(PART, "same text with drafts and without", same, "lines", note=f"of {len(ratios)}"),
        Row(PART, "drafted tokens confirmed", 100 * n_accepted / max(n_drafted, 1), "%", note=f"of {n_drafted}"),
    ]


def _decoded(index: LiveIndex, document: Document, model: LoadedModel, drafts: bool) -> tuple[str, float, Opinion]:
    """The line written at the end of a document, its decoding in milliseconds, and the index's opinion."""
    offset = len(document.text)
    n_positions = model.engine.config.n_positions
    prompt = completion_prompt(context_at(document, offset), model.tokenizer, model.token_index, n_positions, 64)
    opinion = index.opinion(document, offset, len(prompt.pending), model.tokenizer)
    cursor = cursor_between(document.text, "", document.language)
    generation = generate(
        model.completion_cache,
        prompt,
        model.tokenizer,
        model.token_index,
        stop=lambda text: line_end(cursor, text),
        max_new_tokens=64,
        must_begin=True,
        mixer=opinion,
        proposer=opinion if drafts else None,
    )
    return generation.text, generation.decode_ms, opinion
