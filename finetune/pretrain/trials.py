"""What a base model writes on held-out code, through the prompts and the decoder that serve the editor.

Greedy, and nothing is filtered or left out: what the filters would keep back counts as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.pretrain.chrf import chrf
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
PART_OF_NAME = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, slots=True)
class LineTrial:
    """A line of a held-out file, written anew with the file around it."""

    path: str
    above: str  # the last lines before it, up to the cursor
    expected: str
    written: str

    @property
    def is_exact(self) -> bool:
        """Whether the model wrote the line, blanks at its end aside."""
        return self.written.rstrip() == self.expected.rstrip()


@dataclass(frozen=True, slots=True)
class SentenceTrial:
    """A held-out function without its docstring, explained anew."""

    path: str
    name: str
    expected: str
    written: str
    chrf: float
    name_chrf: float  # of the name alone, spelled out


def write_lines(model: LoadedModel, lines: Sequence[HeldoutLine]) -> list[LineTrial]:
    """What the model writes with the cursor behind each line's indentation, up to the line's end."""
    return [_write_line(model, line) for line in lines]


def write_sentences(model: LoadedModel, functions: Sequence[Explained]) -> list[SentenceTrial]:
    """The model's sentence on each function."""
    return [_write_sentence(model, function) for function in functions]


def spelled_out(name: str) -> str:
    """The words of a name as a sentence: `read_csvFile` gives "Read csv file."."""
    words = " ".join(PART_OF_NAME.findall(name)).lower()
    return f"{words[:1].upper()}{words[1:]}."


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
    sentence = written.text.strip()
    return SentenceTrial(
        path=function.path,
        name=function.name,
        expected=function.sentence,
        written=sentence,
        chrf=chrf(sentence, function.sentence),
        name_chrf=chrf(spelled_out(function.name), function.sentence),
    )


def _line_end(text: str) -> int | None:
    end = text.find("\n")
    return None if end < 0 else end
