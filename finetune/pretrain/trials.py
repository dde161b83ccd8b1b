"""What a base model writes on held-out code, through the prompts and the decoder that serve the editor.

Greedy, and nothing is filtered or left out: what the filters would keep back counts as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.pretrain.heldout import HeldoutLine
from finetune.pretrain.passages import Explained
from server.lm.context import Document, context_at
from server.lm.decode import generate
from server.lm.languages import language_for
from server.lm.model import LoadedModel
from server.lm.prompt import completion_prompt, explanation_prompt

MAX_LINE_TOKENS = 64
MAX_SENTENCE_TOKENS = 48
N_LINES_ABOVE = 3


@dataclass(frozen=True, slots=True)
class LineTrial:
    """A line of a held-out file or its end, written anew with the file around it."""

    path: str
    above: str  # the last lines before the cursor, up to it
    expected: str
    written: str

    @property
    def is_exact(self) -> bool:
        """Whether the model wrote the line, blanks at its end aside."""
        return self.written.rstrip() == self.expected.rstrip()


@dataclass(frozen=True, slots=True)
class SentenceTrial:
    """A held-out function, explained anew without its docstring."""

    path: str
    name: str
    expected: str
    written: str


def write_lines(model: LoadedModel, lines: Sequence[HeldoutLine]) -> list[LineTrial]:
    """What the model writes with the cursor at the start of each, up to the line's end."""
    return [_write_line(model, line) for line in lines]


def write_sentences(model: LoadedModel, functions: Sequence[Explained]) -> list[SentenceTrial]:
    """The model's sentence on each function."""
    return [_write_sentence(model, function) for function in functions]


def _write_line(model: LoadedModel, line: HeldoutLine) -> LineTrial:
    text = line.file.text
    document = Document("", line.file.path, language_for("python"), text[: line.start] + text[line.end :])
    n_positions = model.engine.config.n_positions
    prompt = completion_prompt(
        context_at(document, line.start), model.tokenizer, model.token_index, n_positions, MAX_LINE_TOKENS
    )
    written = generate(
        model.completion_cache,
        prompt,
        model.tokenizer,
        model.token_index,
        stop=_line_end,
        max_new_tokens=MAX_LINE_TOKENS,
    )
    above = "\n".join(text[: line.start].split("\n")[-1 - N_LINES_ABOVE :])
    return LineTrial(line.file.path, above, text[line.start : line.end], written.text)


def _write_sentence(model: LoadedModel, function: Explained) -> SentenceTrial:
    n_positions = model.engine.config.n_positions
    prompt = explanation_prompt(function.path, function.source, model.tokenizer, n_positions, MAX_SENTENCE_TOKENS)
    written = generate(
        model.explanation_cache,
        prompt,
        model.tokenizer,
        model.token_index,
        stop=_line_end,
        max_new_tokens=MAX_SENTENCE_TOKENS,
    )
    return SentenceTrial(function.path, function.name, function.sentence, written.text.strip())


def _line_end(text: str) -> int | None:
    end = text.find("\n")
    return None if end < 0 else end
