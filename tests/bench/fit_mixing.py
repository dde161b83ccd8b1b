"""Fits the weights of `server/index/weights.py` on the tuning packages: `python -P -m tests.bench.fit_mixing`.

At lines of held-out files the model and the index are asked for each token of what really stood there. The weights are
those that make it likeliest, found by gradient descent with a penalty on the distance from those in force, which some
hundred lines are too few to overturn; the likelihood is also told for each package under weights that were fitted on
the others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.index.build import build
from server.index.live import DEPENDENCIES, REPOSITORY, LiveIndex
from server.index.store import read_current
from server.index.texts import load_segments
from server.index.weights import MAX_WEIGHT, ORDER, WEIGHTS, features
from server.lm.context import Document, context_at
from server.lm.languages import language_for
from server.lm.model import LoadedModel, load_model
from server.lm.prompt import completion_prompt
from tests.bench.quality import cases
from tests.bench.quality.cases import Case
from tests.bench.quality.environments import environment_of
from tests.bench.quality.reading import python_names
from tests.bench.quality.repository import Repository, prepare
from tests.bench.repositories import TUNING, fetch_all
from tests.bench.table import BenchError

MAX_NEW_TOKENS = 48
PENALTY = 0.1  # on the squares of the distance; of 1e-4 to 1e-1 the best on packages that were not fitted on
N_FEATURES = 12


@dataclass(frozen=True, slots=True)
class Step:
    """One token that really came next."""

    package: str
    logprob: float  # the model's
    inputs: tuple[tuple[float, ...], ...]  # features by place in `ORDER`; empty where nothing was found
    shares: tuple[float, ...]  # the finding's probability of the token, by place in `ORDER`


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -P -m tests.bench.fit_mixing", description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--count", type=int, default=100, help="lines of each kind of each package")
    parsed = parser.parse_args()
    sources, problems = fetch_all(TUNING)
    for problem in problems:
        print(f"failed: {problem}")
    model = load_model(parsed.model)
    steps: list[Step] = []
    with tempfile.TemporaryDirectory(prefix="loracle-fit-") as folder:
        for package, path in sources.items():
            repository = prepare(package, path, Path(folder))
            index = index_of(repository, environment_of(package))
            drawn = cases.draw(repository, parsed.count, python_names())
            found = [step for case in drawn for step in steps_of(case, model, index)]
            print(f"{package.name}: {len(drawn)} lines, {len(found)} tokens", flush=True)
            steps += found
    tell(steps)
    return 1 if problems else 0


def index_of(repository: Repository, environment: Path | None) -> LiveIndex:
    """The index that a server has in the repository: cleaned, with the packages it imports, under their budgets.

    It is kept beside the repository, and mapped from there. BenchError where it cannot be read.
    """
    stored = repository.root.parent / "indexes" / repository.name
    build(repository.root, stored, environments=() if environment is None else (environment,))
    generation = read_current(stored)
    segments = None if generation is None else load_segments(generation)
    if segments is None:
        raise BenchError(f"the index of {repository.name} was not stored")
    index = LiveIndex()
    index.use(dict(zip((REPOSITORY, DEPENDENCIES), segments, strict=True)))
    return index


def steps_of(case: Case, model: LoadedModel, index: LiveIndex) -> Iterator[Step]:
    """The tokens of a case's target and the end behind it, each after those before it."""
    tokenizer = model.tokenizer
    document = Document(f"file:///{case.file}", case.path, language_for(case.language_id), case.document)
    offset = len(case.before)
    context = context_at(document, offset)
    prompt = completion_prompt(context, tokenizer, model.token_index, model.engine.config.n_positions, MAX_NEW_TOKENS)
    opinion = index.opinion(document, offset, len(prompt.pending), tokenizer)
    written = prompt.pending + case.target.encode()
    try:
        ids = tokenizer.encode(written.decode())
    except UnicodeDecodeError:  # the prompt ends within a character
        return
    sequence = [*prompt.token_ids, *ids]
    end = tokenizer.end_of_text
    if len(sequence) > model.engine.config.n_positions or end is None:
        return
    logits = model.completion_cache.advance(sequence, n_keep=len(ids) + 1).logits
    assert logits is not None
    text = b""
    for row, token_id in zip(logits, [*ids, end], strict=True):
        log_probs = row[: tokenizer.vocab_size] - row.max()
        log_probs -= np.log(np.exp(log_probs).sum())
        data = b"" if token_id == end else tokenizer.token_bytes(token_id)
        if token_id == end or len(text) + len(data) > len(prompt.pending):
            yield step_at(case.repository, log_probs, token_id, opinion.readings(log_probs, text))
        text += data


def step_at(package: str, log_probs, token_id: int, readings) -> Step:
    by_key = {(reading.kind, reading.level): reading for reading in readings}
    inputs, shares = [], []
    for key in ORDER:
        reading = by_key.get(key)
        inputs.append(() if reading is None else features(reading.evidence))
        n_total = sum(map(len, reading.places.values())) if reading is not None else 0
        shares.append(len(reading.places.get(token_id, ())) / n_total if reading is not None else 0.0)
    return Step(package, float(log_probs[token_id]), tuple(inputs), tuple(shares))


def tell(steps: Sequence[Step]) -> None:
    """Prints what was fitted, and what it is worth where it was not."""
    packages = sorted({step.package for step in steps})
    print(f"the model alone: {-np.mean([step.logprob for step in steps]):.4f} nats a token")
    print(f"with the weights in force: {loss(steps, [WEIGHTS[key] for key in ORDER]):.4f}")
    for package in packages:
        others = [step for step in steps if step.package != package]
        own = [step for step in steps if step.package == package]
        weights = fitted(others)
        alone = -np.mean([step.logprob for step in own])
        print(f"{package}: {alone:.4f} alone, {loss(own, weights):.4f} with weights of the other packages")
    weights = fitted(steps)
    print(f"all: {loss(steps, weights):.4f}")
    for key, row in zip(ORDER, weights, strict=True):
        print(f"    {key}: ({', '.join(f'{value:.2f}' for value in row)}),")


def tensors(steps: Sequence[Step]):
    import torch

    logprobs = torch.tensor([step.logprob for step in steps], dtype=torch.double)
    shares = torch.tensor([step.shares for step in steps], dtype=torch.double)
    blank = (0.0,) * N_FEATURES
    inputs = torch.tensor([[row or blank for row in step.inputs] for step in steps], dtype=torch.double)
    return logprobs, shares, inputs


def mixed(weights, logprobs, shares, inputs):
    """Log-probabilities of the tokens under the mixture, as `Opinion.mix` makes it."""
    import torch

    for number in range(len(ORDER)):
        found = inputs[:, number, 0]  # the constant: 1 where there is a finding
        share = MAX_WEIGHT * torch.sigmoid((inputs[:, number] * weights[number]).sum(1)) * found
        logprobs = torch.logaddexp(logprobs + torch.log1p(-share), torch.log(share * shares[:, number] + 1e-30))
    return logprobs


def fitted(steps: Sequence[Step]) -> list[list[float]]:
    import torch

    data = tensors(steps)
    before = torch.tensor([WEIGHTS[key] for key in ORDER], dtype=torch.double)
    weights = before.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = -mixed(weights, *data).mean() + PENALTY * ((weights - before) ** 2).sum()
        value.backward()
        return value

    optimizer.step(closure)
    return [[round(float(value), 2) for value in row] for row in weights.detach()]


def loss(steps: Sequence[Step], weights: Sequence[Sequence[float]]) -> float:
    """Nats a token."""
    import torch

    with torch.no_grad():
        return -float(mixed(torch.tensor(weights, dtype=torch.double), *tensors(steps)).mean())


if __name__ == "__main__":
    sys.exit(main())
