"""Fits `TIMES_AS_LIKELY` of `server/index/line_weights.py`: `python -P -m tests.bench.fit_choice`.

At lines of held-out files of the tuning packages the model, with the index mixed in, writes the rest, and the index
says how the line may end. For each multiple it is told how good what is offered would be: exact matches, similarity,
saved characters.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.index.line_weights import SURE
from server.index.live import LiveIndex
from server.lm.context import Document, context_at
from server.lm.cursor import cursor_between
from server.lm.decode import generate
from server.lm.languages import language_for
from server.lm.model import LoadedModel, load_model
from server.lm.prompt import completion_prompt
from server.lm.stopping import line_end
from tests.bench.fit_mixing import MAX_NEW_TOKENS, index_of
from tests.bench.quality import cases
from tests.bench.quality.cases import Case
from tests.bench.quality.environments import environment_of
from tests.bench.quality.reading import python_names
from tests.bench.quality.repository import prepare
from tests.bench.quality.scores import score
from tests.bench.repositories import TUNING, fetch_all

MULTIPLES = (1.0, 1.4, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)


@dataclass(frozen=True, slots=True)
class Question:
    """One cursor: what stood there, what the model writes, and the likeliest line of the index."""

    package: str
    target: str
    text: str
    confidence: float  # 0..1
    line: str
    probability: float  # 0..1; 0 where there is no line


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -P -m tests.bench.fit_choice", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="lines of each kind of each package")
    parser.add_argument("--adapters", type=Path, help="the adapter of the package NAME is in the folder NAME in here")
    parsed = parser.parse_args()
    sources, problems = fetch_all(TUNING)
    for problem in problems:
        print(f"failed: {problem}")
    questions: list[Question] = []
    with tempfile.TemporaryDirectory(prefix="loracle-fit-") as folder:
        for package, path in sources.items():
            adapter = None if parsed.adapters is None else parsed.adapters / package.name
            if adapter is not None and not adapter.is_dir():
                print(f"{package.name}: no adapter in {adapter}, left out")
                continue
            model = load_model("default", adapter=adapter)
            repository = prepare(package, path, Path(folder))
            index = index_of(repository, environment_of(package))
            drawn = cases.draw(repository, parsed.count, python_names())
            questions += [question_of(case, model, index) for case in drawn]
            print(f"{package.name}: {len(drawn)} lines", flush=True)
    for line in told(questions):
        print(line)
    return 1 if problems else 0


def question_of(case: Case, model: LoadedModel, index: LiveIndex) -> Question:
    """What model and index say at a case."""
    document = Document(f"file:///{case.file}", case.path, language_for(case.language_id), case.document)
    offset = len(case.before)
    context = context_at(document, offset)
    n_positions = model.engine.config.n_positions
    prompt = completion_prompt(context, model.tokenizer, model.token_index, n_positions, MAX_NEW_TOKENS)
    opinion = index.opinion(document, offset, len(prompt.pending), model.tokenizer)
    cursor = cursor_between(case.document[:offset], case.document[offset:], document.language)
    written = generate(
        model.completion_cache,
        prompt,
        model.tokenizer,
        model.token_index,
        stop=lambda text: line_end(cursor, text),
        max_new_tokens=MAX_NEW_TOKENS,
        must_begin=cursor.is_blank_line,
        mixer=opinion,
        proposer=opinion,
    )
    confidence = math.exp(sum(written.token_logprobs) + written.end_logprob) if written.text else 0.0
    lines = index.ranked(document, offset).result()
    line, probability = (lines[0].text, lines[0].probability) if lines else ("", 0.0)
    return Question(case.repository, case.target, written.text.split("\n")[0].rstrip(), confidence, line, probability)


def offered(question: Question, multiple: float) -> str:
    """What would be offered if a line had to be so many times as likely as the model's text."""
    is_line = question.probability > 0 and question.probability >= min(multiple * question.confidence, SURE)
    return question.line if is_line else question.text


def told(questions: Sequence[Question]) -> Iterator[str]:
    """A line for each multiple: of all packages, then of each."""
    names = ["all", *dict.fromkeys(question.package for question in questions)]
    yield f"{'times':>6}" + "".join(f"{name:>24}" for name in names) + "   exact, similar, saved in %"
    for multiple in MULTIPLES:
        cells = []
        for name in names:
            own = [question for question in questions if name in ("all", question.package)]
            scores = [score(offered(question, multiple), question.target) for question in own]
            exact, similar = sum(each.exact for each in scores), sum(each.similarity for each in scores)
            saved = sum(each.n_saved for each in scores) / max(sum(each.n_target for each in scores), 1)
            n = max(len(own), 1)
            cells.append(f"{100 * exact / n:>12.1f}{100 * similar / n:>6.1f}{100 * saved:>6.1f}")
        yield f"{multiple:>6.1f}" + "".join(cells)


if __name__ == "__main__":
    sys.exit(main())
