"""Fits the weights of `server/ranking.py` on the tuning packages: `python -P -m tests.bench.fit_ranking`.

At cursors in held-out files the index says how the line may end, the model reads the likeliest ends and writes one of
its own. The weights are those that make what really stood there, or that none of the texts is right, likeliest
(conditional logit), found by Newton's method under a small penalty. How often the likeliest text is the right one, and
how likely it was said to be, is told for each package under weights fitted on the others. Cursors where a line of the
index is nearly sure are not fitted on: there the model is not asked. They count where it is told what is right.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from server.index.live import LiveIndex
from server.lm.context import Document, context_at
from server.lm.cursor import cursor_between
from server.lm.decode import Decoder
from server.lm.engine import never
from server.lm.languages import language_for
from server.lm.model import LoadedModel, load_model
from server.lm.prompt import completion_prompt
from server.lm.reader import Limits
from server.lm.stopping import line_end
from server.ranking import WEIGHTS, Evidence, features
from server.weighing import SURE, Option, rank, weigh
from tests.bench.fitting import index_of, inside_a_name
from tests.bench.quality import cases
from tests.bench.quality.cases import KINDS, Case
from tests.bench.quality.environments import environment_of
from tests.bench.quality.reading import python_names
from tests.bench.quality.repository import prepare
from tests.bench.repositories import TUNING, Package, fetch_all

MAX_NEW_TOKENS = 48
PENALTY = 0.01  # on the squares of the weights, against the mean of the logarithms; of 3e-4 to 1e-2 it hardly matters
INSIDE = "inside"  # a name: the kind of every second case's other cursor
MAX_STEPS = 100  # of Newton's method; ten are usual
BINS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Question:
    """One cursor, and what was found there."""

    package: str
    kind: str
    found: tuple[Evidence, ...]  # what is ranked; empty where there is nothing, or the model is not asked
    right: int | None  # which of `found`; None: none of them
    sure: float | None  # the probability of a line that the index is nearly sure of; None where the model is asked
    is_index_right: bool  # with its likeliest line
    is_model_right: bool  # with what it writes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is offered at a cursor."""

    probability: float  # 0..1, that it is right, as it is said to be
    is_right: bool


class _ToTheEnd:
    """A decoder that reads every line to its end: which may be left is for the weights to say that are fitted."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def log_likelihood(self, text: str, _at_least: float) -> float | None:
        return self._decoder.log_likelihood(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -P -m tests.bench.fit_ranking", description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--count", type=int, default=50, help="lines of each kind of each package")
    parsed = parser.parse_args()
    sources, problems = fetch_all(TUNING)
    for problem in problems:
        print(f"failed: {problem}")
    model = load_model(parsed.model)
    questions: list[Question] = []
    with tempfile.TemporaryDirectory(prefix="loracle-fit-") as folder:
        for package, path in sources.items():
            questions += questions_of(package, path, Path(folder), parsed.count, model)
    tell(questions)
    return 1 if problems else 0


def questions_of(package: Package, path: Path, folder: Path, count: int, model: LoadedModel) -> list[Question]:
    """The cursors of one package."""
    repository = prepare(package, path, folder)
    index = index_of(repository, environment_of(package))
    drawn = cases.draw(repository, count, python_names())
    inside = list(filter(None, map(inside_a_name, drawn)))[::2]
    found = [question(case, case.kind, index, model) for case in drawn]
    found += [question(case, INSIDE, index, model) for case in inside]
    print(
        f"{package.name}: {len(found)} cursors, {sum(each.sure is not None for each in found)} nearly sure", flush=True
    )
    return found


def question(case: Case, kind: str, index: LiveIndex, model: LoadedModel) -> Question:
    """What the index and the model say at one cursor."""
    document = Document(f"file:///{case.file}", case.path, language_for(case.language_id), case.document)
    cursor = cursor_between(case.before, case.after, document.language)
    context, tokenizer = context_at(document, len(case.before)), model.tokenizer
    n_positions = model.engine.config.n_positions
    decoder = Decoder(
        model.completion_cache,
        completion_prompt(context, tokenizer, model.token_index, n_positions, MAX_NEW_TOKENS),
        tokenizer,
        model.token_index,
        Limits(MAX_NEW_TOKENS, None, never),
        lambda text: line_end(cursor, text),
        must_begin=cursor.is_blank_line,
    )
    lines = index.lines(document, len(case.before))
    sure = lines[0].probability if lines and lines[0].probability >= SURE else None
    options = weigh(lines if sure is None else [], _ToTheEnd(decoder))  # type: ignore[arg-type]
    written = next(decoder.attempts(1))
    ranked = [option for option in rank(options, [written]) if option.model is not None] if sure is None else []
    right = [number for number, option in enumerate(ranked) if first_line(option.text) == case.target]
    return Question(
        package=case.repository,
        kind=kind,
        found=tuple(map(evidence, ranked)),
        right=right[0] if right else None,
        sure=sure,
        is_index_right=bool(lines) and lines[0].text == case.target,
        is_model_right=first_line(written.text) == case.target,
    )


def evidence(option: Option) -> Evidence:
    """What a server judges a text by that the model has read or written."""
    assert option.model is not None
    return Evidence(None if option.line is None else option.line.probability, option.model, option.written is not None)


def first_line(text: str) -> str:
    """The line at the cursor, without blanks at its end."""
    return text.split("\n", 1)[0].rstrip()


def tell(questions: Sequence[Question]) -> None:
    """Prints what was fitted, and what it is worth where it was not."""
    answers: list[Answer] = [Answer(0.0, False)] * len(questions)
    for package in dict.fromkeys(each.package for each in questions):
        weights = fitted([each for each in questions if each.package != package])
        for number, each in enumerate(questions):
            if each.package == package:
                answers[number] = answered(each, weights)
    print("exact matches in %, each package by weights of the others: ranked, the index alone, the model alone")
    both = list(zip(questions, answers, strict=True))
    for name in (*KINDS, INSIDE, *dict.fromkeys(each.package for each in questions), "all"):
        own = [(each, answer) for each, answer in both if name in (each.kind, each.package, "all")]
        if own:
            rows = [(answer.is_right, each.is_index_right, each.is_model_right) for each, answer in own]
            print(f"{name}: " + ", ".join(f"{100 * share:.1f}" for share in np.mean(rows, axis=0)) + f" of {len(own)}")
    print("likely as it was said to be -> right")
    for low, high, said, right, n in calibration(answers):
        print(f"{low:.2f} to {high:.2f}: {said:.2f} -> {right:.2f} of {n}")
    print("WEIGHTS: tuple[float, ...] = (" + ", ".join(f"{weight:.3f}" for weight in fitted(questions)) + ")")


def calibration(answers: Sequence[Answer]) -> list[tuple[float, float, float, float, int]]:
    """By bins of the probability that was said: bounds, mean probability, share that was right, and how many.

    The upper bound is not within, but 1. Bins without answers are left out.
    """
    found = []
    for low, high in zip(BINS, BINS[1:], strict=False):
        own = [each for each in answers if low <= each.probability < high or each.probability == high == BINS[-1]]
        if own:
            said, right = np.mean([(each.probability, each.is_right) for each in own], axis=0)
            found.append((low, high, float(said), float(right), len(own)))
    return found


def answered(question: Question, weights: Weights) -> Answer:
    """The likeliest text: a line that is nearly sure, or what the weights say."""
    if question.sure is not None:
        return Answer(question.sure, question.is_index_right)
    if not question.found:
        return Answer(0.0, False)
    _, shares = shares_of([question], weights)
    best = int(shares[0, 1:].argmax())
    return Answer(float(shares[0, 1 + best]), best == question.right)


def fitted(questions: Sequence[Question]) -> Weights:
    """The weights, in the order of `features`; as many noughts where there is nothing to fit on."""
    asked = [question for question in questions if question.found]
    weights = np.zeros(len(WEIGHTS))
    if not asked:
        return weights
    right = [0 if question.right is None else 1 + question.right for question in asked]
    rows = np.arange(len(asked))

    def loss(weights: Weights) -> float:
        _, shares = shares_of(asked, weights)
        return float(-np.log(shares[rows, right]).mean() + PENALTY * (weights**2).sum())

    for _ in range(MAX_STEPS):
        inputs, shares = shares_of(asked, weights)
        expected = np.einsum("nm,nmf->nf", shares, inputs)
        gradient = (expected - inputs[rows, right]).mean(axis=0) + 2 * PENALTY * weights
        spread = np.einsum("nm,nmf,nmg->fg", shares, inputs, inputs) - expected.T @ expected
        step = np.linalg.solve(spread / len(asked) + 2 * PENALTY * np.eye(len(weights)), gradient)
        before = loss(weights)
        while loss(weights - step) > before and np.abs(step).max() > 1e-9:
            step /= 2
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def shares_of(questions: Sequence[Question], weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inputs (questions, 1 + texts, features) and probabilities (questions, 1 + texts); the first: none is right.

    Where there are fewer texts, the last ones are impossible.
    """
    n_most = max(len(question.found) for question in questions)
    inputs = np.zeros((len(questions), 1 + n_most, len(WEIGHTS)))
    totals = np.full(inputs.shape[:2], -np.inf)
    for number, question in enumerate(questions):
        for place, each in enumerate(question.found, start=1):
            inputs[number, place] = features(each)
        totals[number, : 1 + len(question.found)] = inputs[number, : 1 + len(question.found)] @ weights
    shares = np.exp(totals - totals.max(axis=1, keepdims=True))
    return inputs, shares / shares.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    sys.exit(main())
