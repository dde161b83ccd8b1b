"""What a model writes for held-out lines and functions, through the prompts and the decoder of the server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import MARKERS, FakeEngine, NextLogits

from finetune.pretrain.heldout import HeldoutLine
from finetune.pretrain.passages import Explained
from finetune.pretrain.samples import SourceFile
from finetune.pretrain.trials import LineTrial, write_lines, write_sentences
from server.lm.engine import PrefixCache
from server.lm.model import LoadedModel

TEXT = "import os\n\ndef add(first, second):\n    return first + second\n\nprint(add(1, 2))\n"


def line_of(text: str, line: str) -> HeldoutLine:
    start = text.index(line)
    return HeldoutLine(SourceFile("pkg", "pkg/a.py", text), start, start + len(line))


def with_logits(model: LoadedModel, next_logits: NextLogits) -> LoadedModel:
    engine = FakeEngine(next_logits, model.tokenizer.vocab_size)
    return replace(
        model, engine=engine, completion_cache=PrefixCache(engine, 0), explanation_cache=PrefixCache(engine, 1)
    )


def writer(model: LoadedModel, text: str, fed: list[tuple[int, ...]]) -> LoadedModel:
    """A model that writes `text`, in the tokens that the whole prefix gives; notes all that it was fed."""
    tokenizer = model.tokenizer
    whole = tokenizer.encode(text)

    def next_logits(token_ids):
        fed.append(token_ids)
        written = token_ids[max(index for index, token_id in enumerate(token_ids) if token_id < 8) + 1 :]
        logits = [0.0] * tokenizer.vocab_size
        logits[whole[len(written)] if len(written) < len(whole) else MARKERS.end_of_text] = 20.0
        return logits

    return with_logits(model, next_logits)


@pytest.mark.parametrize(
    "line, written",
    [
        ("return first + second", "return first + second"),
        ("return first + second", "return first - second"),
        ("print(add(1, 2))", "print(add(1, 2))"),
        ("import os", "import os"),
    ],
)
def test_a_line_is_written_from_behind_its_indentation(tiny_model, line, written):
    drawn = line_of(TEXT, line)
    fed: list[tuple[int, ...]] = []
    (trial,) = write_lines(writer(tiny_model, TEXT[: drawn.start] + written + TEXT[drawn.end :], fed), [drawn])
    assert (trial.expected, trial.written) == (line, written)
    assert trial.is_exact == (line == written)
    assert trial.above == "\n".join(TEXT[: drawn.start].split("\n")[-4:])


def test_the_end_of_a_line_is_written_behind_what_is_typed(tiny_model):
    start = TEXT.index("second\n\nprint")
    drawn = HeldoutLine(SourceFile("pkg", "pkg/a.py", TEXT), start, start + len("second"))
    (trial,) = write_lines(writer(tiny_model, TEXT, []), [drawn])
    assert (trial.expected, trial.written) == ("second", "second")
    assert trial.above.endswith("\n    return first + ")


def test_the_line_itself_is_not_shown_but_what_follows_it_is(tiny_model):
    fed: list[tuple[int, ...]] = []
    write_lines(writer(tiny_model, TEXT, fed), [line_of(TEXT, "return first + second")])
    shown = tiny_model.tokenizer.decode(fed[0])
    assert "return first" not in shown
    assert "print(add(1, 2))" in shown
    assert shown.startswith("pkg/a.py\n")


def test_blanks_at_the_end_of_a_line_do_not_count():
    assert LineTrial("a.py", "", "x = 1", "x = 1  ").is_exact
    assert not LineTrial("a.py", "", "x = 1", " x = 1").is_exact


def test_a_function_is_explained_without_its_docstring(tiny_model):
    function = Explained("pkg/a.py", "function", "addBoth", "def addBoth(a, b):\n    return a + b", "Add both numbers.")
    fed: list[tuple[int, ...]] = []
    (trial,) = write_sentences(writer(tiny_model, "Add both.\nAnd more.", fed), [function])
    assert trial.written == "Add both."
    assert (trial.path, trial.name) == ("pkg/a.py", "addBoth")
    assert trial.expected == "Add both numbers."
    assert max(fed[0]) >= 8 and fed[0][-1] == MARKERS.doc
