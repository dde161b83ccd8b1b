"""The texts that may stand at a cursor: lines of the index, as the model reads them, beside what it writes itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from server.ranking import Evidence, least_model, probabilities

if TYPE_CHECKING:
    from server.index.lines import Line
    from server.lm.decode import Decoder, Generation

# On 715 tuning cursors a third line brings 0.3 points of exact matches, a sixth none; unlikelier ones are not right.
MAX_LINES = 3  # of the index that the model reads
MIN_LINE = 0.005  # probability, by the index alone
SURE = 0.8  # probability from which a line of the index is offered without asking the model; set by hand


@dataclass(frozen=True, slots=True)
class Option:
    """One text that may be offered."""

    written: Generation | None  # by the model
    line: Line | None  # of the index, that says the same
    model: float | None  # natural logarithm of the probability that the model gives the line; None: it was not asked
    probability: float = 0.0  # 0..1, that it is the right one

    @property
    def text(self) -> str:
        """What would stand behind the cursor."""
        if self.written is not None:
            return self.written.text
        return "" if self.line is None else self.line.text


def weigh(lines: Sequence[Line], decoder: Decoder, min_confidence: float = 0.0, behind: str = "") -> list[Option]:
    """The likeliest lines with what the model thinks of them; of unlikely ones the first.

    Without those that could not be `min_confidence` likely: they are read no further than to see that. `behind` stands
    behind the cursor; the model does not write it again.
    """
    options = []
    for line in _likely(lines):
        model = decoder.log_likelihood(_new(line, behind), least_model([], min_confidence, line.probability))
        if model != -math.inf:
            options.append(Option(None, line, model))
    return options


def _likely(lines: Sequence[Line]) -> Sequence[Line]:
    return [line for line in lines if line.probability >= MIN_LINE][:MAX_LINES] or lines[:1]


def _new(line: Line, behind: str) -> str:
    """What of a line does not stand behind the cursor yet."""
    return line.text.removesuffix(behind) or line.text


def expected(lines: Sequence[Line], min_confidence: float = 0.0, behind: str = "") -> str:
    """The text that `weigh` is going to have read first, empty for none."""
    for line in _likely(lines):
        if least_model([], min_confidence, line.probability) < math.inf:
            return _new(line, behind)
    return ""


def rank(lines: Sequence[Option], written: Sequence[Generation], behind: str = "") -> list[Option]:
    """Lines and what the model wrote, with how likely each is the right one, the likeliest first.

    A line that the model has not read, as a limit came before, counts by what the index says, behind all others.
    """
    by_text = {option.text if option.line is None else _new(option.line, behind): option for option in lines}
    options = []
    for generation in written:
        said = by_text.pop(generation.text.split("\n", 1)[0].rstrip(), None)
        options.append(Option(generation, None if said is None else said.line, log_likelihood(generation)))
    options += by_text.values()
    read = [option for option in options if option.model is not None]
    shares = probabilities([_evidence(option) for option in read])
    ranked = [replace(option, probability=share) for option, share in zip(read, shares, strict=True)]
    unread = [
        replace(option, probability=option.line.probability)
        for option in by_text.values()
        if option.line and option.model is None
    ]
    return [*sorted(ranked, key=_worth), *sorted(unread, key=_worth)]


def _worth(option: Option) -> float:
    return -option.probability


@dataclass(frozen=True, slots=True)
class Bar:
    """How likely a text must be for the model to write it to its end, beside lines that it has read."""

    lines: Sequence[Option]
    least: float  # log-likelihood

    @classmethod
    def over(cls, lines: Sequence[Option], min_confidence: float) -> Bar:
        """The bar that the likeliest line and the least confidence set."""
        return cls(lines, least_model([_evidence(line) for line in lines if line.model is not None], min_confidence))

    def allows(self, text: str, logprob: float) -> bool:
        """Whether a text is worth going on with. Of several lines only the first counts; a line may be written out."""
        return logprob >= self.least or "\n" in text or any(line.text.startswith(text) for line in self.lines)


def log_likelihood(generation: Generation) -> float:
    """What the model gives the first line that it wrote, and that the text ends there, if it does."""
    n_left, total = len(generation.text.split("\n", 1)[0]), 0.0
    for text, logprob in zip(generation.token_texts, generation.token_logprobs, strict=True):
        if n_left <= 0:
            return total
        total += logprob
        n_left -= len(text)
    return total + (generation.end_logprob if n_left == 0 else 0.0)


def _evidence(option: Option) -> Evidence:
    index = None if option.line is None else option.line.probability
    return Evidence(index, 0.0 if option.model is None else option.model, is_written=option.written is not None)
