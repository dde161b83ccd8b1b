"""The pipeline from a cursor to suggestions. Engine and tokenizer are fakes; everything between is real."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from fakes import FakeEngine, FakeTokenizer, OneLine

from server.completion import CompletionRequest, Outcome, complete, prefill_ahead
from server.index.live import LiveIndex
from server.lm.context import Document
from server.lm.decode import Generation, alternatives
from server.lm.engine import Logits, PrefixCache
from server.lm.healing import TokenIndex
from server.lm.languages import language_for
from server.lm.model import LoadedModel
from server.settings import CompletionSettings, Settings
from tests.marks import split_at_cursor

ALL = CompletionSettings(min_confidence=0.0, deadline_ms=60_000)


def writer(script: str, doubt: float = 20.0, second: str = "", leaves_blank: bool = False) -> LoadedModel:
    """A model of single characters that goes on as `script` wherever the text ends like a part of it.

    With `second`, the character after the longest match is followed in likelihood by that one. One that
    `leaves_blank` would rather end a line that has not begun.
    """
    tokenizer = FakeTokenizer(list(string.printable))

    def next_logits(token_ids: tuple[int, ...]) -> Logits:
        text = tokenizer.decode(token_ids)
        tail = max((n for n in range(len(script)) if text.endswith(script[:n])), default=0)
        logits = np.zeros(tokenizer.vocab_size, dtype=np.float32)
        logits[tokenizer.id_of(script[tail])] = doubt
        if leaves_blank and text.endswith("\n"):
            logits[tokenizer.id_of("\n")] += 2 * doubt
        if second:
            logits[tokenizer.id_of(second)] += doubt / 2
        return logits

    engine = FakeEngine(next_logits, tokenizer.vocab_size)
    return LoadedModel(
        name="fake",
        folder=Path("/models/fake"),
        fingerprint="fake",
        tokenizer=tokenizer,
        token_index=TokenIndex(tokenizer),
        engine=engine,
        completion_cache=PrefixCache(engine, 0),
        explanation_cache=PrefixCache(engine, 1),
        supports_infilling=True,
        supports_explanations=True,
        precision="fp32",
    )


def document(marked: str, language: str = "python") -> tuple[Document, int]:
    text, offset = split_at_cursor(marked)
    return Document("file:///work/module.py", "module.py", language_for(language), text), offset


def ask(marked: str, model: LoadedModel, settings: CompletionSettings = ALL, **request: object) -> Outcome:
    text, offset = document(marked)
    return complete(CompletionRequest(text, offset, **request), model, Settings(completion=settings))  # type: ignore[arg-type]


def texts(outcome: Outcome) -> list[str]:
    return [suggestion.text for suggestion in outcome.suggestions]


def test_the_rest_of_the_line_is_offered_at_the_cursor() -> None:
    outcome = ask("def add(a, b):\n    retu<|>\n", writer("    return a + b\n"))
    (suggestion,) = outcome.suggestions
    assert suggestion.text == "rn a + b" and suggestion.start == suggestion.end == 23
    assert suggestion.confidence > 0.99 and outcome.ended == "offered" and outcome.finish == "stop"
    assert set(outcome.milliseconds) == {"context", "prompt", "index", "prefill", "decode", "filters"}


def test_where_the_filters_hold_a_text_back_the_next_likely_beginning_is_tried() -> None:
    outcome = ask("x = 1\n<|>\ny = 2\n", writer("y = 2\n", second="k"))
    assert texts(outcome) == ["ky = 2"] and outcome.ended == "offered"


def test_where_both_beginnings_are_held_back_the_first_says_why() -> None:
    outcome = ask("x = 1\n<|>\ny = 2\n", writer("y = 2\n", second=")"))
    assert texts(outcome) == [] and "following text" in outcome.ended


def test_what_model_and_index_both_say_is_as_sure_as_the_surer_of_them() -> None:
    text, offset = document("x = <|>\n")
    model = writer("x = price\n", doubt=5.8)  # some 0.2: three times that is above the line's
    alone, beside = (
        complete(CompletionRequest(text, offset, "invoked"), model, Settings(completion=ALL), index=index)
        for index in (None, cast(LiveIndex, OneLine(0.4, "price")))
    )
    assert texts(alone)[0] == texts(beside)[0] == "price" and texts(beside).count("price") == 1
    assert alone.suggestions[0].confidence < 0.3 and beside.suggestions[0].confidence == pytest.approx(0.4)


def test_a_second_request_finds_what_it_shares_with_the_first_in_the_cache() -> None:
    model = writer("    return a + b\n")
    first = ask("def add(a, b):\n    re<|>\n", model)
    second = ask("def add(a, b):\n    ret<|>\n", model)
    assert first.n_cached_tokens == 0 and second.n_cached_tokens >= first.n_prompt_tokens - 3


def test_what_was_read_ahead_is_not_read_again() -> None:
    model = writer("    return a + b\n")
    text, offset = document("def add(a, b):\n    re<|>\n")
    prefill_ahead(text, offset, model, Settings())
    outcome = complete(CompletionRequest(text, offset), model, Settings(completion=ALL))
    assert outcome.n_cached_tokens == outcome.n_prompt_tokens - 1
    assert texts(outcome) == ["turn a + b"]


def test_reading_ahead_stops_when_it_is_told_to() -> None:
    model = writer("    return a + b\n")
    text, offset = document("def add(a, b):\n    re<|>\n")
    prefill_ahead(text, offset, model, Settings(), cancelled=lambda: True)
    assert model.completion_cache.tokens == ()


def test_several_lines_are_offered_where_a_block_is_empty() -> None:
    script = "def add(a, b):\n    c = a\n    return c\n\n\nx = 1\n"
    assert texts(ask("def add(a, b):\n    <|>\n", writer(script))) == ["c = a\n    return c"]
    never = replace(ALL, multiline="never")
    assert texts(ask("def add(a, b):\n    <|>\n", writer(script), never)) == ["c = a"]


def test_line_ends_are_those_of_the_document() -> None:
    script = "def add(a, b):\n    c = a\n    return c\n\n\nx = 1\n"
    assert texts(ask("def add(a, b):\r\n    <|>\r\n", writer(script))) == ["c = a\r\n    return c"]


def test_alternatives_come_only_when_asked_for_and_the_first_is_the_automatic_one() -> None:
    model = writer("total = price\n", second="q")
    (automatic,) = texts(ask("total = <|>\n", model))
    invoked = texts(ask("total = <|>\n", model, trigger="invoked"))
    assert automatic == invoked[0] == "price" and len(invoked) > 1 and len(set(invoked)) == len(invoked)


def test_unsure_text_is_withheld_unless_somebody_asked() -> None:
    settings = replace(ALL, min_confidence=0.9)
    unsure = writer("total = price\n", doubt=4.5)
    outcome = ask("total = <|>\n", unsure, settings)
    assert outcome.suggestions == () and "confidence" in outcome.ended
    assert texts(ask("total = <|>\n", unsure, settings, trigger="invoked"))[0] == "price"


@pytest.mark.parametrize(
    ("language", "least", "is_offered"),
    [("python", 0.05, True), ("go", 0.05, False), ("go", 0.0, True), ("markdown", 0.05, False)],
)
def test_in_a_language_that_is_not_learned_the_model_must_be_surer(
    language: str, least: float, is_offered: bool
) -> None:
    text, offset = split_at_cursor("total = <|>\n")
    document = Document("file:///main", "main", language_for(language), text)
    other = writer("total = price\n", doubt=5.5)  # 0.13 that all of it is right
    default = replace(other, name="default")
    adapted = replace(default, adapter=Path("/adapter"))
    for model, wanted in ((default, is_offered), (adapted, True), (other, True)):
        settings = Settings(completion=replace(ALL, min_confidence=least))
        assert bool(complete(CompletionRequest(document, offset), model, settings).suggestions) is wanted


@pytest.mark.parametrize("marked", ["to<|>tal = 1\n", "<|>total = 1\n", "x = <|>y\n", "x = a<|>1\n", "x = <|>_y\n"])
def test_before_a_word_nothing_is_offered_by_itself(marked: str) -> None:
    outcome = ask(marked, writer("total = price\n"))
    assert outcome.suggestions == () and "word" in outcome.ended and outcome.n_prompt_tokens == 0


def test_the_text_that_the_popup_would_insert_is_kept() -> None:
    model = writer("    return a + b\n")
    marked = "def add(a, b):\n    re<|>\n"
    text, offset = document(marked)
    for start in (offset - 2, None):
        (suggestion,) = ask(marked, model, selected_text="return", selected_start=start).suggestions
        assert suggestion.text == "return a + b"
        assert text.text[suggestion.start : suggestion.end] == "re"


def test_a_popup_item_that_replaces_what_was_typed_gets_no_suggestion() -> None:
    outcome = ask("x = Re<|>\n", writer("    return a\n"), selected_text="return", selected_start=4)
    assert outcome.suggestions == () and "popup" in outcome.ended


def test_a_deadline_that_has_passed_gives_nothing_and_says_so() -> None:
    text, offset = document("total = <|>\n")
    outcome = complete(
        CompletionRequest(text, offset), writer("total = price\n"), Settings(completion=ALL), deadline=0.0
    )
    assert outcome.suggestions == () and "deadline" in outcome.ended
    assert outcome.is_cut_short


def test_an_answer_is_cut_short_when_one_of_its_alternatives_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = writer("total = price\n", second="q")
    assert not ask("total = <|>\n", model, trigger="invoked").is_cut_short

    def cut(*arguments: object, **options: object) -> list[Generation]:
        first, *others = alternatives(*arguments, **options)  # type: ignore[arg-type]
        return [first, *(replace(other, finish="deadline") for other in others)]

    monkeypatch.setattr("server.choosing.alternatives", cut)
    outcome = ask("total = <|>\n", model, trigger="invoked")
    assert outcome.finish == "stop" and outcome.is_cut_short


def test_a_line_that_is_too_long_gets_nothing() -> None:
    outcome = ask("x" * 5_000 + " = <|>\n", writer("x = 1\n"))
    assert outcome.suggestions == () and "too long" in outcome.ended


def test_an_offset_outside_the_text_is_refused() -> None:
    text, _ = document("x = <|>\n")
    with pytest.raises(ValueError, match="outside"):
        complete(CompletionRequest(text, 99), writer("x = 1\n"), Settings())


def test_the_verdicts_name_the_filter_that_held_a_text_back() -> None:
    outcome = ask("x = [<|>]\n", writer("x = [)]\n"))
    assert outcome.suggestions == () and outcome.verdicts[-1].action == "rejected"
    assert outcome.verdicts[-1].filter in outcome.ended


@pytest.mark.parametrize("trigger", ["automatic", "invoked"])
def test_on_a_blank_line_something_is_written(trigger: str) -> None:
    model = writer("b = 2\n", leaves_blank=True)
    assert texts(ask("a = 1\n<|>\nc = 3\n", model, trigger=trigger))[0] == "b = 2"


def test_a_line_that_may_end_ends() -> None:
    assert texts(ask("a = 1<|>\nc = 3\n", writer("a = 1\n"))) == []
