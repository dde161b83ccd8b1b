"""Fits the weights of `server/index/line_weights.py` on the tuning packages: `python -P -m tests.bench.fit_lines`.

At lines of held-out files the index is asked how they may end. The weights are those that make what really stood
there, or that none of the ends is right, likeliest; found by gradient descent with a small penalty. How often the
likeliest end is the right one is told for each package under weights fitted on the others, beside plain copying.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from server.index.line_weights import features
from server.lm.context import Document
from server.lm.languages import language_for
from tests.bench.fit_mixing import index_of
from tests.bench.quality import cases
from tests.bench.quality.cases import Case
from tests.bench.quality.environments import environment_of
from tests.bench.quality.floors import Corpus, copied, own_sources
from tests.bench.quality.reading import python_names
from tests.bench.quality.repository import drawn as drawn_by
from tests.bench.quality.repository import prepare
from tests.bench.repositories import TUNING, Package, fetch_all

NAME = re.compile(r"[A-Za-z_]\w{3,}")
PENALTY = 1e-3  # on the squares of the weights of inputs with unit variance, a line


@dataclass(frozen=True, slots=True)
class Question:
    """One cursor with the ends that were found."""

    package: str
    inputs: tuple[tuple[float, ...], ...]
    is_right: tuple[bool, ...]
    is_copy_right: bool


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -P -m tests.bench.fit_lines", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="lines of each kind of each package")
    parsed = parser.parse_args()
    sources, problems = fetch_all(TUNING)
    for problem in problems:
        print(f"failed: {problem}")
    questions: list[Question] = []
    with tempfile.TemporaryDirectory(prefix="loracle-fit-") as folder:
        for package, path in sources.items():
            questions += questions_of(package, path, Path(folder), parsed.count)
    tell(questions)
    return 1 if problems else 0


def questions_of(package: Package, path: Path, folder: Path, count: int) -> list[Question]:
    """The lines of one package."""
    repository = prepare(package, path, folder)
    index, corpus = index_of(repository, environment_of(package)), Corpus(file.text for file in repository.on_disk)
    found, spent = [], 0.0
    drawn = cases.draw(repository, count, python_names())
    for case in [*drawn, *filter(None, map(inside_a_name, drawn))]:
        document = Document(f"file:///{case.file}", case.path, language_for(case.language_id), case.document)
        began = time.perf_counter()
        ends = index.line_evidence(document, len(case.before))
        spent += time.perf_counter() - began
        target = case.target.encode()
        copy = copied(case.before, [*own_sources(case.before, case.after), corpus])
        inputs = tuple(features(evidence) for evidence in ends.values())
        found.append(Question(package.name, inputs, tuple(end == target for end in ends), copy == case.target))
    print(f"{package.name}: {len(found)} lines, {1000 * spent / len(found):.1f} ms each", flush=True)
    return found


def inside_a_name(case: Case) -> Case | None:
    """The same line with the cursor inside one of its names, as it is for most keys; None for a line without one."""
    names = [found for found in NAME.finditer(case.target) if case.kind != "api_line" or found.start() == 0]
    if not names:
        return None
    name = names[int(drawn_by("name", case.id) * len(names))]
    cut = name.start() + 2 + int(drawn_by("cut", case.id) * (len(name[0]) - 2))
    return replace(case, before=case.before + case.target[:cut], target=case.target[cut:])


def tell(questions: Sequence[Question]) -> None:
    """Prints what was fitted, and what it is worth where it was not."""
    right: list[bool] = []
    for package in sorted({question.package for question in questions}):
        own = [question for question in questions if question.package == package]
        fit = fitted([question for question in questions if question.package != package])
        answers = [answered(question, *fit) for question in own]
        right += answers
        copies = [question.is_copy_right for question in own]
        print(f"{package}: {100 * np.mean(answers):.1f} % right, copying {100 * np.mean(copies):.1f} %")
    copies = [question.is_copy_right for question in questions]
    print(f"all, each by the others: {100 * np.mean(right):.1f} % right, copying {100 * np.mean(copies):.1f} %")
    constant, weights = fitted(questions)
    print(f"CONSTANT = {constant:.3f}")
    print("WEIGHTS = (" + ", ".join(f"{weight:.3f}" for weight in weights) + ")")


def answered(question: Question, constant: float, weights: Sequence[float]) -> bool:
    """Whether the likeliest end is the right one."""
    if not question.inputs:
        return False
    return question.is_right[int(np.argmax(np.array(question.inputs) @ np.array(weights) + constant))]


def fitted(questions: Sequence[Question]) -> tuple[float, list[float]]:
    """The constant and the weights."""
    import torch

    inputs = torch.tensor([row for question in questions for row in question.inputs], dtype=torch.double)
    right = torch.tensor([value for question in questions for value in question.is_right])
    number = torch.tensor([n for n, question in enumerate(questions) for _ in question.inputs])
    has_right = torch.tensor([any(question.is_right) for question in questions])
    mean, deviation = inputs.mean(0), inputs.std(0) + 1e-6
    scaled = (inputs - mean) / deviation
    weights = torch.zeros(inputs.shape[1] + 1, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        totals = scaled @ weights[1:] + weights[0]
        highest = torch.zeros(len(questions), dtype=torch.double)
        highest = highest.scatter_reduce(0, number, totals.detach(), "amax")
        whole = torch.exp(-highest).index_add(0, number, torch.exp(totals - highest[number]))
        log_whole = highest + torch.log(whole)
        of_right = torch.zeros(len(questions), dtype=torch.double)
        of_right = of_right.index_add(0, number, torch.exp(totals - log_whole[number]) * right)
        likelihood = torch.where(has_right, of_right, torch.exp(-log_whole))
        value = -torch.log(likelihood + 1e-12).mean() + PENALTY * (weights[1:] ** 2).sum()
        value.backward()
        return value

    optimizer.step(closure)
    plain = weights.detach()[1:] / deviation
    return float(weights.detach()[0] - (plain * mean).sum()), plain.tolist()


if __name__ == "__main__":
    sys.exit(main())
