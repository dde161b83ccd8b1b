"""What of a document is shown to the model: path, prefix and suffix around a drawn cursor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marks import split_at_cursor

from server.lm.context import (
    EDGE_STEP,
    INSIGNIFICANT_REST,
    MAX_PREFIX_CHARACTERS,
    MAX_SUFFIX_CHARACTERS,
    Context,
    Document,
    Snippet,
    context_at,
    significant_suffix,
)
from server.lm.languages import language_for


def document_of(text: str) -> Document:
    return Document("file:///a/b.py", "a/b.py", language_for("python"), text)


def context_of(marked: str, inserted: str = "") -> Context:
    text, offset = split_at_cursor(marked)
    return context_at(document_of(text), offset, inserted=inserted)


@pytest.mark.parametrize(
    "marked, prefix, suffix",
    [
        ("a = 1\nb = <|>\nc = 3\n", "a = 1\nb = ", "\nc = 3\n"),
        ("<|>", "", ""),
        ("<|>a = 1\n", "", "a = 1\n"),
        ("a = 1\n<|>", "a = 1\n", ""),
        ("a = 1<|>\n\n  \n", "a = 1", ""),  # blanks alone say nothing
    ],
)
def test_prefix_and_suffix_meet_at_the_cursor(marked, prefix, suffix):
    assert context_of(marked) == Context("a/b.py", prefix, suffix)


@pytest.mark.parametrize(
    "marked, suffix",
    [
        ("f(<|>)\nx\n", "\nx\n"),  # what an auto-closing editor put there
        ('f("<|>")\nx\n', "\nx\n"),
        ("f([{<|>}]),\nx\n", "\nx\n"),
        ("if f(<|>):  \nx\n", "\nx\n"),
        ("f(<|>);\nx\n", "\nx\n"),
        ("f(<|>)", ""),
        ("f(<|>, b)\nx\n", ", b)\nx\n"),  # the rest of the line counts
        ("f(<|>) + 1\nx\n", ") + 1\nx\n"),
        ("<|>  # note\nx\n", "  # note\nx\n"),
        ("f(<|>a)", "a)"),
    ],
)
def test_the_rest_of_the_line_is_shown_only_if_it_holds_more_than_closers(marked, suffix):
    assert context_of(marked).suffix == suffix


@given(st.text(alphabet="".join(sorted(INSIGNIFICANT_REST)), max_size=6), st.sampled_from(["", "\n", "\nx\n"]))
def test_auto_closed_characters_never_change_the_suffix(rest, below):
    assert significant_suffix(rest + below) == significant_suffix(below)


@pytest.mark.parametrize(
    "marked, prefix, suffix",
    [
        ("a\r\nb<|>\r\nc\r\n", "a\nb", "\nc\n"),
        ("a\r\nb\r<|>\nc\r\n", "a\nb", "\nc\n"),  # inside a line break is before it
        ("a\rb<|>)\rc\r", "a\nb", "\nc\n"),
        ("a\r\n<|>\r\nc", "a\n", "\nc"),
    ],
)
def test_line_breaks_become_the_one_that_the_model_knows(marked, prefix, suffix):
    context = context_of(marked)
    assert (context.prefix, context.suffix) == (prefix, suffix)


@pytest.mark.parametrize("offset, expected", [(-3, ""), (0, ""), (2, "ab"), (3, "abc"), (99, "abc")])
def test_an_offset_outside_the_text_is_clamped(offset, expected):
    assert context_at(document_of("abc"), offset).prefix == expected


def test_inserted_text_counts_as_typed():
    assert context_of("os.<|>\nx\n", inserted="path").prefix == "os.path"
    assert context_of("os.<|>\nx\n", inserted="path\r\n").prefix == "os.path\n"


def test_snippets_and_path_are_carried_along():
    snippet = Snippet("a/c.py", "def f(): ...")
    assert context_at(document_of("x"), 1, (snippet,)) == Context("a/b.py", "x", "", (snippet,))


def test_the_start_of_a_long_prefix_moves_in_big_steps():
    text = "".join(f"line {number}\n" for number in range(5_000))
    first = MAX_PREFIX_CHARACTERS + 7
    starts = {offset - len(context_at(document_of(text), offset).prefix) for offset in range(first, first + 400)}
    assert starts == {EDGE_STEP}


@given(st.integers(0, 80_000))
def test_both_sides_are_bounded(offset):
    context = context_at(document_of("x = 1\n" * 15_000), offset)
    assert (
        MAX_PREFIX_CHARACTERS - EDGE_STEP < len(context.prefix) <= MAX_PREFIX_CHARACTERS
        or len(context.prefix) == offset
    )
    assert len(context.suffix) <= MAX_SUFFIX_CHARACTERS
