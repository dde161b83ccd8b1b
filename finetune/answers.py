"""What base and adapter write at the same points of held-out files, each alone and with the repository's index."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from finetune.points import Point, Source, draw
from server.index.line_weights import bar_for
from server.index.live import LiveIndex
from server.lm.context import Document, context_at
from server.lm.cursor import cursor_between
from server.lm.decode import generate
from server.lm.engine import PrefixCache
from server.lm.languages import language_for
from server.lm.model import LoadedModel
from server.lm.prompt import Prompt, completion_prompt
from server.lm.stopping import line_end

WAYS = ("base", "base + index", "adapter", "adapter + index")
MAX_NEW_TOKENS = 48
N_A_KIND = 120  # points; fewer only where the time is over before

Told = Callable[[str, int, int, float], None]


@dataclass(frozen=True, slots=True)
class Answers:
    """What was written at some points; a text and its milliseconds for each of them, by way."""

    points: tuple[Point, ...]
    n_drawn: int  # points that there were
    texts: Mapping[str, Sequence[str]]
    milliseconds: Mapping[str, Sequence[float]]  # while the other model answered beside


def answers(
    executor: Executor,
    base: LoadedModel,
    adapted: LoadedModel,
    index: LiveIndex,
    heldout: Sequence[Source],
    seed: int,
    ends_at: float,
    told: Told,
) -> Answers:
    """What each way writes at as many points as there is time for, the kinds in turn.

    Both models answer at once where `executor` has two threads. Of `index`, what was built is searched. `ends_at` is in
    seconds of `time.monotonic`.
    """
    by_kind: dict[str, list[Point]] = {}
    for point in draw(heldout, N_A_KIND, seed):
        by_kind.setdefault(point.kind, []).append(point)
    in_turn = [kind[n] for n in range(N_A_KIND) for kind in by_kind.values() if n < len(kind)]
    indexes = [index, LiveIndex()]  # an index remembers what was asked last: not for two threads
    indexes[1].use(index.built)
    texts: dict[str, list[str]] = {way: [] for way in WAYS}
    milliseconds: dict[str, list[float]] = {way: [] for way in WAYS}
    points: list[Point] = []
    first_at = time.monotonic()
    for point in in_turn:
        if time.monotonic() >= ends_at:
            break
        points.append(point)
        told("point", len(points), len(in_turn), time.monotonic() - first_at)
        written = executor.map(_answer, (base, adapted), [point] * 2, indexes)
        for ways, answered in zip((WAYS[:2], WAYS[2:]), written, strict=True):
            for way, (text, spent_ms) in zip(ways, answered, strict=True):
                texts[way].append(text)
                milliseconds[way].append(spent_ms)
    return Answers(tuple(points), len(in_turn), texts, milliseconds)


def _answer(model: LoadedModel, point: Point, index: LiveIndex) -> list[tuple[str, float]]:
    """The texts without and with the index, and their milliseconds; the prompt is read once, and counts for both."""
    cache = model.completion_cache
    cache.forget()  # nobody has read this prompt before
    began = time.perf_counter()
    cache.advance(_asked(model, point)[1].token_ids, n_keep=0)
    read_ms = 1000 * (time.perf_counter() - began)
    found = []
    for searched in (None, index):
        began = time.perf_counter()
        text = _completed(model, cache, point, searched)
        found.append((text, read_ms + 1000 * (time.perf_counter() - began)))
    return found


def _asked(model: LoadedModel, point: Point) -> tuple[Document, Prompt]:
    document = Document(
        f"file:///{point.path}", point.path, language_for(point.language_id), point.before + point.after
    )
    n_positions = model.engine.config.n_positions
    context = context_at(document, len(point.before))
    return document, completion_prompt(context, model.tokenizer, model.token_index, n_positions, MAX_NEW_TOKENS)


def _completed(model: LoadedModel, cache: PrefixCache, point: Point, index: LiveIndex | None) -> str:
    """The rest of the line: the model's or the index's, as a server chooses that withholds nothing.

    No filter looks at it: what they hold back is not the adapter's doing.
    """
    document, prompt = _asked(model, point)
    offset = len(point.before)
    opinion = None if index is None else index.opinion(document, offset, len(prompt.pending), model.tokenizer)
    ranked = None if index is None else index.ranked(document, offset)
    cursor = cursor_between(point.before, point.after, document.language)
    written = generate(
        cache,
        prompt,
        model.tokenizer,
        model.token_index,
        stop=lambda text: line_end(cursor, text),
        max_new_tokens=MAX_NEW_TOKENS,
        must_begin=cursor.is_blank_line,
        mixer=opinion,
        proposer=opinion,
    )
    lines = [] if ranked is None else ranked.result()
    probability = math.exp(sum(written.token_logprobs) + written.end_logprob) if written.text else 0.0
    text = written.text.split("\n")[0].rstrip()
    return lines[0].text if lines and lines[0].probability >= bar_for(probability) else text
