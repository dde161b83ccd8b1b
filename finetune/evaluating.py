"""How much better an adapter is than its base, on files that chose nothing, with the graphs that serve.

Bits per byte and lines at real typing points, by the base and by the adapter, each alone and with the repository's
index; the same cases for all, and intervals over whole files. Sentences on functions against their docstrings. General
code tells what was forgotten. A budget of time bounds it all: what comes first is drawn by hash. Base and adapter are
asked side by side, each in a thread of its own.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from finetune.answers import WAYS, Answers, Told, answers
from finetune.collect import SourceText
from finetune.general import judging_files
from finetune.pretrain.chrf import chrf
from finetune.pretrain.passages import Explained, explained_passages
from finetune.pretrain.trials import write_sentences
from finetune.scoring import Interval, Score, chance_of_loss, interval, score
from server.index.live import LiveIndex
from server.lm.model import LoadedModel
from server.lm.prompt import file_header

WINDOW_TOKENS = 512
N_FUNCTIONS = 60  # that are explained
BITS_SHARE, POINTS_SHARE = 0.2, 0.7  # of the budget, at most; what is left is for the functions
N_SHOWN = 12  # cases that were won, and as many that were lost
_NATS = math.log(2)

T = TypeVar("T")
Both = Callable[[Callable[[LoadedModel], T]], tuple[T, T]]  # asks base and adapter, in this order


@dataclass(frozen=True, slots=True)
class Way:
    """One way of completing, over all points."""

    name: str
    exact: float  # 0..1
    similarity: float  # 0..1
    saved: float  # characters right before the first mistake, of all there were, 0..1
    milliseconds: float  # a point, median; while the other model answered beside


@dataclass(frozen=True, slots=True)
class Case:
    """One point at which base and adapter, with the index, do not agree."""

    path: str
    line: int
    typed: str  # of the line
    target: str
    before: str  # what the base with the index wrote
    after: str  # what the adapter with the index wrote


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures. A change is the adapter's less the base's."""

    n_files: int  # whose bits were counted
    n_heldout: int  # files that there are
    n_points: int  # at which suggestions were compared
    n_drawn: int  # points that there were
    bits_before: float  # per byte of held-out files
    bits_after: float
    bits_change: Interval | None
    ways: tuple[Way, ...]
    exact_change_alone: Interval | None  # adapter less base, both without the index
    exact_interval: Interval | None  # both with it
    exact_loss_chance: float | None  # that as much is lost where both are equally good, 0..1; whole files together
    exact_loss_chance_by_line: float | None  # each line for itself
    general_before: float
    general_after: float
    n_functions: int
    chrf_before: float  # 0..1, of a sentence on a function against that of its docstring
    chrf_after: float
    chrf_change: Interval | None
    won: tuple[Case, ...]
    lost: tuple[Case, ...]
    seconds: float


def evaluate(
    base: LoadedModel,
    adapted: LoadedModel,
    index: LiveIndex,
    heldout: Sequence[SourceText],
    seed: int,
    budget_s: float,
    told: Told = lambda *_: None,
) -> Evaluation:
    """The figures of an adapter, within a budget of seconds; where that ends, fewer files, points and functions.

    The models are asked from two threads, so they are two, each with an engine of its own.

    `told` hears what is done, how far it is, of how many, and for how many seconds.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:

        def both(ask: Callable[[LoadedModel], T]) -> tuple[T, T]:
            before, after = pool.map(ask, (base, adapted))
            return before, after

        measured, bits = _bits(both, heldout, seed, began + BITS_SHARE * budget_s)
        general = judging_files()
        n_general = max(sum(len(text.encode()) for _, text in general), 1)
        # A file at a time: whoever interrupts does not wait for all.
        general_bits = [both(partial(file_bits, path=path, text=text)) for path, text in general]
        points_end = began + (BITS_SHARE + POINTS_SHARE) * budget_s
        found = answers(pool, base, adapted, index, heldout, seed, points_end, told)
        functions, chrf_before, chrf_after = _sentences(both, heldout, seed, began + budget_s)
    points = found.points
    scores = {
        way: [score(text, point.target) for text, point in zip(found.texts[way], points, strict=True)] for way in WAYS
    }
    with_index = _changes(scores["adapter + index"], scores["base + index"])
    files = [point.path for point in points]
    sizes = [len(file.text.encode()) for file in measured]
    per_byte = [(b - a) / max(size, 1) for (a, b), size in zip(bits, sizes, strict=True)]
    return Evaluation(
        n_files=len(measured),
        n_heldout=len(heldout),
        n_points=len(points),
        n_drawn=found.n_drawn,
        bits_before=sum(a for a, _ in bits) / max(sum(sizes), 1),
        bits_after=sum(b for _, b in bits) / max(sum(sizes), 1),
        bits_change=interval(per_byte, [file.path for file in measured], sizes),
        ways=tuple(_way(way, scores[way], found.milliseconds[way]) for way in WAYS),
        exact_change_alone=interval(_changes(scores["adapter"], scores["base"]), files),
        exact_interval=interval(with_index, files),
        exact_loss_chance=chance_of_loss(with_index, files),
        exact_loss_chance_by_line=chance_of_loss(with_index, range(len(with_index))),
        general_before=sum(one for one, _ in general_bits) / n_general,
        general_after=sum(other for _, other in general_bits) / n_general,
        n_functions=len(functions),
        chrf_before=_mean(chrf_before),
        chrf_after=_mean(chrf_after),
        chrf_change=interval(
            [after - before for before, after in zip(chrf_before, chrf_after, strict=True)],
            [function.path for function in functions],
        ),
        won=tuple(_cases(found, scores, better="adapter + index", worse="base + index")),
        lost=tuple(_cases(found, scores, better="base + index", worse="adapter + index")),
        seconds=time.monotonic() - began,
    )


def _bits(
    both: Both[float], heldout: Sequence[SourceText], seed: int, ends_at: float
) -> tuple[list[SourceText], list[tuple[float, float]]]:
    """Bits of as many files as there is time for, by base and adapter; the files, drawn by hash."""
    measured: list[SourceText] = []
    bits: list[tuple[float, float]] = []
    for file in sorted(heldout, key=lambda file: _drawn(seed, file.path)):
        if measured and time.monotonic() >= ends_at:
            break
        measured.append(file)
        bits.append(both(partial(file_bits, path=file.path, text=file.text)))
    return measured, bits


def _sentences(
    both: Both[float], heldout: Sequence[SourceText], seed: int, ends_at: float
) -> tuple[list[Explained], list[float], list[float]]:
    """Functions with docstrings, drawn by hash, and what the sentences of both on each are worth (chrF, 0..1).

    A model that cannot explain says nothing.
    """
    python = [file for file in heldout if file.language_id == "python"]
    found = [passage for file in python for passage in explained_passages(file.path, file.text)]
    functions = sorted(
        (passage for passage in found if passage.kind == "function"),
        key=lambda passage: _drawn(seed, f"{passage.path}:{passage.name}:{len(passage.source)}"),
    )
    said: list[Explained] = []
    before: list[float] = []
    after: list[float] = []
    for function in functions[:N_FUNCTIONS]:
        if time.monotonic() >= ends_at:
            break
        said.append(function)
        for scores, value in zip((before, after), both(partial(_said_of, function=function)), strict=True):
            scores.append(value)
    return said, before, after


def _said_of(model: LoadedModel, function: Explained) -> float:
    written = write_sentences(model, [function])[0].written if model.supports_explanations else ""
    return chrf(written, function.sentence)


def _drawn(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogatepass")).digest()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def file_bits(model: LoadedModel, path: str, text: str) -> float:
    """Bits of a text under the model: left to right behind its path, in windows that overlap by half."""
    special = model.tokenizer.special
    header = [] if special is None else [*file_header(path, model.tokenizer, special), special.fim_prefix]
    ids = model.tokenizer.encode(text)
    n_shown = min(WINDOW_TOKENS, model.engine.config.n_positions) - len(header)
    total, first = 0.0, 0 if header else 1
    while first < len(ids):
        past = max(first - n_shown // 2, 0)
        end = min(past + n_shown, len(ids))
        logits = model.completion_cache.advance([*header, *ids[past : end - 1]], n_keep=end - first).logits
        assert logits is not None
        rows = logits[:, : model.tokenizer.vocab_size].astype(np.float64)
        highest = rows.max(axis=1)
        normal = highest + np.log(np.exp(rows - highest[:, None]).sum(axis=1))
        total += float((normal - rows[np.arange(end - first), ids[first:end]]).sum()) / _NATS
        first = end
    return total


def _way(name: str, scores: Sequence[Score], milliseconds: Sequence[float]) -> Way:
    n = max(len(scores), 1)
    return Way(
        name=name,
        exact=sum(each.exact for each in scores) / n,
        similarity=sum(each.similarity for each in scores) / n,
        saved=sum(each.n_saved for each in scores) / max(sum(each.n_target for each in scores), 1),
        milliseconds=float(np.median(milliseconds)) if len(milliseconds) else 0.0,
    )


def _changes(ours: Sequence[Score], theirs: Sequence[Score]) -> list[float]:
    return [one.exact - other.exact for one, other in zip(ours, theirs, strict=True)]


def _cases(found: Answers, scores: dict[str, list[Score]], *, better: str, worse: str) -> Iterator[Case]:
    """The first points at which one way is right and the other is not."""
    n_found = 0
    for number, point in enumerate(found.points):
        if n_found < N_SHOWN and scores[better][number].exact > scores[worse][number].exact:
            n_found += 1
            texts = found.texts["base + index"][number], found.texts["adapter + index"][number]
            yield Case(point.path, point.line, point.before.rpartition("\n")[2], point.target, *texts)
