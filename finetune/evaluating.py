"""How much better an adapter is than its base, on files that chose nothing, with the graphs that serve.

Bits per byte and lines at real typing points, by the base and by the adapter, each alone and with the repository's
index; the same cases for all, and intervals over whole files. Sentences on functions against their docstrings. General
code tells what was forgotten. A budget of time bounds it all: what comes first is drawn by hash.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.collect import SourceText
from finetune.general import judging_files
from finetune.points import Point, draw
from finetune.pretrain.chrf import chrf
from finetune.pretrain.passages import Explained, explained_passages
from finetune.pretrain.trials import write_sentences
from finetune.scoring import Interval, Score, interval, score
from server.index.live import LiveIndex
from server.lm.context import Document, context_at
from server.lm.cursor import cursor_between
from server.lm.decode import generate
from server.lm.engine import PrefixCache
from server.lm.languages import language_for
from server.lm.model import COMPLETION_SLOT, LoadedModel
from server.lm.prompt import Prompt, completion_prompt, file_header
from server.lm.stopping import line_end

Told = Callable[[str, int, int, float], None]

WAYS = ("base", "base + index", "adapter", "adapter + index")
WINDOW_TOKENS = 512
MAX_NEW_TOKENS = 48
N_A_KIND = 120  # points; fewer only where the time is over before
N_FUNCTIONS = 60  # that are explained
BITS_SHARE, POINTS_SHARE = 0.3, 0.55  # of the budget, at most; what is left is for the functions
N_SHOWN = 12  # cases that were won, and as many that were lost
_NATS = math.log(2)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of completing, over all points."""

    name: str
    exact: float  # 0..1
    similarity: float  # 0..1
    saved: float  # characters right before the first mistake, of all there were, 0..1
    milliseconds: float  # a point, median


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

    `told` hears what is done, how far it is, of how many, and for how many seconds.
    """
    began = time.monotonic()
    measured, bits = _bits(base, adapted, heldout, seed, began + BITS_SHARE * budget_s)
    general = judging_files()
    before, after = (
        sum(file_bits(model, path, text) for path, text in general) / max(sum(map(_size, general)), 1)
        for model in (base, adapted)
    )
    answers, points, n_drawn = _answers(
        base, adapted, index, heldout, seed, began + (BITS_SHARE + POINTS_SHARE) * budget_s, told
    )
    scores = {
        way: [score(text, point.target) for text, point in zip(answers[way][0], points, strict=True)] for way in WAYS
    }
    files = [point.path for point in points]
    sizes = [len(file.text.encode()) for file in measured]
    per_byte = [(b - a) / max(size, 1) for (a, b), size in zip(bits, sizes, strict=True)]
    functions, chrf_before, chrf_after = _sentences(base, adapted, heldout, seed, began + budget_s)
    return Evaluation(
        n_files=len(measured),
        n_heldout=len(heldout),
        n_points=len(points),
        n_drawn=n_drawn,
        bits_before=sum(a for a, _ in bits) / max(sum(sizes), 1),
        bits_after=sum(b for _, b in bits) / max(sum(sizes), 1),
        bits_change=interval(per_byte, [file.path for file in measured], sizes),
        ways=tuple(_way(way, scores[way], answers[way][1]) for way in WAYS),
        exact_change_alone=_change(scores["adapter"], scores["base"], files),
        exact_interval=_change(scores["adapter + index"], scores["base + index"], files),
        general_before=before,
        general_after=after,
        n_functions=len(functions),
        chrf_before=_mean(chrf_before),
        chrf_after=_mean(chrf_after),
        chrf_change=interval(
            [after - before for before, after in zip(chrf_before, chrf_after, strict=True)],
            [function.path for function in functions],
        ),
        won=tuple(_cases(points, scores, answers, better="adapter + index", worse="base + index")),
        lost=tuple(_cases(points, scores, answers, better="base + index", worse="adapter + index")),
        seconds=time.monotonic() - began,
    )


def _bits(
    base: LoadedModel, adapted: LoadedModel, heldout: Sequence[SourceText], seed: int, ends_at: float
) -> tuple[list[SourceText], list[tuple[float, float]]]:
    """Bits of as many files as there is time for, by base and adapter; the files, drawn by hash."""
    measured: list[SourceText] = []
    bits: list[tuple[float, float]] = []
    for file in sorted(heldout, key=lambda file: _drawn(seed, file.path)):
        if measured and time.monotonic() >= ends_at:
            break
        measured.append(file)
        bits.append((file_bits(base, file.path, file.text), file_bits(adapted, file.path, file.text)))
    return measured, bits


def _sentences(
    base: LoadedModel, adapted: LoadedModel, heldout: Sequence[SourceText], seed: int, ends_at: float
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
        for model, scores in ((base, before), (adapted, after)):
            written = write_sentences(model, [function])[0].written if model.supports_explanations else ""
            scores.append(chrf(written, function.sentence))
    return said, before, after


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


Answers = dict[str, tuple[list[str], list[float]]]  # way -> texts and milliseconds, a point each


def _answers(
    base: LoadedModel,
    adapted: LoadedModel,
    index: LiveIndex,
    heldout: Sequence[SourceText],
    seed: int,
    ends_at: float,
    told: Told,
) -> tuple[Answers, list[Point], int]:
    """What each way writes at as many points as there is time for, the kinds in turn; and how many there were."""
    by_kind: dict[str, list[Point]] = {}
    for point in draw(heldout, N_A_KIND, seed):
        by_kind.setdefault(point.kind, []).append(point)
    in_turn = [kind[n] for n in range(N_A_KIND) for kind in by_kind.values() if n < len(kind)]
    found: Answers = {way: ([], []) for way in WAYS}
    points: list[Point] = []
    first_at = time.monotonic()
    for point in in_turn:
        if time.monotonic() >= ends_at:
            break
        points.append(point)
        told("point", len(points), len(in_turn), time.monotonic() - first_at)
        for model, (alone, together) in ((base, WAYS[:2]), (adapted, WAYS[2:])):
            cache = PrefixCache(model.engine, COMPLETION_SLOT)  # an empty one: nobody has read this prompt before
            began = time.perf_counter()
            read(model, cache, point)
            read_ms = 1000 * (time.perf_counter() - began)  # once, for both ways
            for way, searched in ((alone, None), (together, index)):
                began = time.perf_counter()
                found[way][0].append(completed(model, cache, point, searched))
                found[way][1].append(read_ms + 1000 * (time.perf_counter() - began))
    return found, points, len(in_turn)


def read(model: LoadedModel, cache: PrefixCache, point: Point) -> None:
    """Reads the prompt of a point into the cache."""
    cache.advance(_asked(model, point)[1].token_ids, n_keep=0)


def _asked(model: LoadedModel, point: Point) -> tuple[Document, Prompt]:
    document = Document(
        f"file:///{point.path}", point.path, language_for(point.language_id), point.before + point.after
    )
    n_positions = model.engine.config.n_positions
    context = context_at(document, len(point.before))
    return document, completion_prompt(context, model.tokenizer, model.token_index, n_positions, MAX_NEW_TOKENS)


def completed(model: LoadedModel, cache: PrefixCache, point: Point, index: LiveIndex | None) -> str:
    """The rest of the line: the model's, or where the index knows a likelier line, that one, as a server chooses.

    No filter looks at it: what they hold back is not the adapter's doing.
    """
    document, prompt = _asked(model, point)
    offset = len(point.before)
    opinion = None if index is None else index.opinion(document, offset, len(prompt.pending), model.tokenizer)
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
    lines = [] if index is None else index.lines(document, offset)
    probability = math.exp(sum(written.token_logprobs) + written.end_logprob) if written.text else 0.0
    is_line = bool(lines) and lines[0].probability > probability
    return lines[0].text if is_line else written.text.split("\n")[0].rstrip()


def _way(name: str, scores: Sequence[Score], milliseconds: Sequence[float]) -> Way:
    n = max(len(scores), 1)
    return Way(
        name=name,
        exact=sum(each.exact for each in scores) / n,
        similarity=sum(each.similarity for each in scores) / n,
        saved=sum(each.n_saved for each in scores) / max(sum(each.n_target for each in scores), 1),
        milliseconds=float(np.median(milliseconds)) if len(milliseconds) else 0.0,
    )


def _change(ours: Sequence[Score], theirs: Sequence[Score], files: Sequence[str]) -> Interval | None:
    return interval([one.exact - other.exact for one, other in zip(ours, theirs, strict=True)], files)


def _cases(
    points: Sequence[Point], scores: dict[str, list[Score]], answers: Answers, *, better: str, worse: str
) -> Iterator[Case]:
    """The first points at which one way is right and the other is not."""
    n_found = 0
    for number, point in enumerate(points):
        if n_found < N_SHOWN and scores[better][number].exact > scores[worse][number].exact:
            n_found += 1
            texts = answers["base + index"][0][number], answers["adapter + index"][0][number]
            yield Case(point.path, point.line, point.before.rpartition("\n")[2], point.target, *texts)


def _size(file: tuple[str, str]) -> int:
    return len(file[1].encode())
