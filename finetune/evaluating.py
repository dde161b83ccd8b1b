"""How much better an adapter is than its base, on files that chose nothing, with the graphs that serve.

Bits per byte and lines at real typing points, by the base and by the adapter, each alone and with the repository's
index; the same cases for all, and intervals over whole files. Sentences on functions against their docstrings. General
code tells what was forgotten. A budget of time bounds it all: what comes first is drawn by hash. Base and adapter are
asked side by side, each in a thread of its own.
"""

from __future__ import annotations

import hashlib
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
from finetune.held_out_bits import bits_of_files, file_bits, windows_of
from finetune.pretrain.chrf import chrf
from finetune.pretrain.passages import Explained, explained_passages
from finetune.pretrain.trials import write_sentences
from finetune.scoring import Changes, Interval, Score, changes, interval, score
from server.index.live import LiveIndex
from server.lm.model import LoadedModel

N_FUNCTIONS = 60  # that are explained
BITS_SHARE, POINTS_SHARE = 0.2, 0.7  # of the budget, at most; what is left is for the functions
N_SHOWN = 12  # cases that were won, and as many that were lost

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
    share_measured: float  # of their bytes, 0..1
    n_points: int  # at which suggestions were compared
    n_drawn: int  # points that there were
    bits_before: float  # per byte of held-out files
    bits_after: float
    bits_change: Interval | None
    ways: tuple[Way, ...]
    alone: Changes  # adapter less base, both without the index
    with_index: Changes
    general_before: float
    general_after: float
    general_change: Interval | None
    n_functions: int
    chrf_before: float  # 0..1, of a sentence on a function against that of its docstring
    chrf_after: float
    chrf_change: Interval | None
    won: tuple[Case, ...]
    lost: tuple[Case, ...]
    seconds: float

    @property
    def exact_interval(self) -> Interval | None:
        """What the gate looks at: exact matches with the index."""
        return self.with_index.exact


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

        models = (base, adapted)
        bits, share_measured = bits_of_files(both, models, heldout, seed, began + BITS_SHARE * budget_s)
        general = judging_files()
        # A file at a time: whoever interrupts does not wait for all.
        general_bits = []
        for path, text in general:
            ids = base.tokenizer.encode(text)
            parts = windows_of(models, path, ids)
            general_bits.append(both(partial(file_bits, path=path, ids=ids, parts=parts)))
        points_end = began + (BITS_SHARE + POINTS_SHARE) * budget_s
        found = answers(pool, base, adapted, index, heldout, seed, points_end, told)
        functions, chrf_before, chrf_after = _sentences(both, heldout, seed, began + budget_s)
    points = found.points
    scores = {
        way: [score(text, point.target) for text, point in zip(found.texts[way], points, strict=True)] for way in WAYS
    }
    files = [point.path for point in points]
    n_general = [max(len(text.encode()), 1) for _, text in general]
    general_per_byte = [(after - before) / n for (before, after), n in zip(general_bits, n_general, strict=True)]
    n_bytes = max(sum(each.n_bytes for each in bits), 1)
    per_byte = [(each.after - each.before) / max(each.n_bytes, 1) for each in bits]
    return Evaluation(
        n_files=len(bits),
        n_heldout=len(heldout),
        n_points=len(points),
        n_drawn=found.n_drawn,
        share_measured=share_measured,
        bits_before=sum(each.before for each in bits) / n_bytes,
        bits_after=sum(each.after for each in bits) / n_bytes,
        bits_change=interval(per_byte, [each.path for each in bits], [each.n_bytes for each in bits]),
        ways=tuple(_way(way, scores[way], found.milliseconds[way]) for way in WAYS),
        alone=changes(scores["adapter"], scores["base"], files),
        with_index=changes(scores["adapter + index"], scores["base + index"], files),
        general_before=sum(one for one, _ in general_bits) / max(sum(n_general), 1),
        general_after=sum(other for _, other in general_bits) / max(sum(n_general), 1),
        general_change=interval(general_per_byte, [path for path, _ in general], n_general),
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


def _way(name: str, scores: Sequence[Score], milliseconds: Sequence[float]) -> Way:
    n = max(len(scores), 1)
    return Way(
        name=name,
        exact=sum(each.exact for each in scores) / n,
        similarity=sum(each.similarity for each in scores) / n,
        saved=sum(each.n_saved for each in scores) / max(sum(each.n_target for each in scores), 1),
        milliseconds=float(np.median(milliseconds)) if len(milliseconds) else 0.0,
    )


def _cases(found: Answers, scores: dict[str, list[Score]], *, better: str, worse: str) -> Iterator[Case]:
    """The first points at which one way is right and the other is not."""
    n_found = 0
    for number, point in enumerate(found.points):
        if n_found < N_SHOWN and scores[better][number].exact > scores[worse][number].exact:
            n_found += 1
            texts = found.texts["base + index"][number], found.texts["adapter + index"][number]
            yield Case(point.path, point.line, point.before.rpartition("\n")[2], point.target, *texts)
