"""The prompt layout, token by token, and the windows that keep the KV cache valid while the user types."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from fakes import MARKERS, N_MARKERS, FakeTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import split_at_cursor

from server.lm import prompt as module
from server.lm.context import Context, Document, Snippet, context_at
from server.lm.healing import TokenIndex
from server.lm.languages import language_for
from server.lm.prompt import (
    PREFIX_TOKENS,
    PromptError,
    completion_prompt,
    explanation_prompt,
    file_header,
    fit_prefix,
    fit_suffix,
    shown_path,
    snippet_layout,
)
from server.lm.tokenizer import SPECIAL_TOKEN_NAMES, BytePairTokenizer, Tokenizer, load_tokenizer

BYTES = [bytes([byte]) for byte in range(256)]


class PlainTokenizer(FakeTokenizer):
    """A GPT-2 vocabulary: no prompt markers, only the end of text."""

    special = None


PLAIN = PlainTokenizer([*BYTES, "ret", "return", " x"])


@pytest.fixture(scope="module")
def learned(tiny_checkpoint: Path) -> BytePairTokenizer:
    return load_tokenizer(tiny_checkpoint)


@pytest.fixture(scope="module")
def index(learned: BytePairTokenizer) -> TokenIndex:
    return TokenIndex(learned)


def drawn(tokenizer: Tokenizer, token_ids: Sequence[int], pending: bytes = b"") -> str:
    """The text of the ids, markers by name, and "~" with the pending text."""
    data = b"".join(tokenizer.token_bytes(i) or SPECIAL_TOKEN_NAMES[i].encode() for i in token_ids)
    return data.decode("utf-8", "replace") + (f"~{pending.decode()}" if pending else "")


def prompt_at(marked: str, tokenizer: Tokenizer, index: TokenIndex, path: str = "pkg/a.py", n_positions: int = 1024):
    text, offset = split_at_cursor(marked)
    context = context_at(Document("file:///a", path, language_for("python"), text), offset)
    return completion_prompt(context, tokenizer, index, n_positions, 48)


@pytest.mark.parametrize(
    "marked, expected",
    [
        (
            "import os\nprint(1)\nret<|>\nx = 1\n",
            "<|file|>pkg/a.py\n<|fim_suffix|>\nx = 1\n<|fim_prefix|>import os\nprint(1~)\nret",
        ),
        ("print(1<|>)\n", "<|file|>pkg/a.py\n<|fim_prefix|>~print(1"),  # a closer alone stays out of the suffix
        ("f(<|>, 2)\n", "<|file|>pkg/a.py\n<|fim_suffix|>, 2)\n<|fim_prefix|>~f("),
        ("<|>", "<|file|>pkg/a.py\n<|fim_prefix|>"),
        ("<|>x = 1\n", "<|file|>pkg/a.py\n<|fim_suffix|>x = 1\n<|fim_prefix|>"),
    ],
)
def test_suffix_comes_before_prefix_and_the_prefix_runs_into_what_is_written(learned, index, marked, expected):
    found = prompt_at(marked, learned, index)
    assert drawn(learned, found.token_ids, found.pending) == expected


def test_the_layout_token_by_token(learned, index):
    found = prompt_at("import os\n    return total<|>\nx = 1\n", learned, index)
    kept = learned.encode("import os\n    return total"[: -len(found.pending)])
    assert kept, "some of the prefix is fed"
    assert list(found.token_ids) == [
        *[MARKERS.file, *learned.encode("pkg/a.py"), *learned.encode("\n")],
        *[MARKERS.fim_suffix, *learned.encode("\nx = 1\n")],
        *[MARKERS.fim_prefix, *kept],
    ]


def test_snippets_stand_before_the_file_in_their_order(learned, index):
    snippets = (Snippet("lib/x.py", "def x(): ...\n"), Snippet("lib/y.py", "\ny = 1"))
    found = completion_prompt(Context("a.py", "x(", "", snippets), learned, index, 1024, 48)
    assert drawn(learned, found.token_ids, found.pending) == (
        "<|snippet|>lib/x.py\ndef x(): ...\n<|snippet|>lib/y.py\ny = 1\n<|file|>a.py\n<|fim_prefix|>~x("
    )


def test_a_plain_vocabulary_is_given_the_prefix_alone():
    context = Context("pkg/a.py", "y = 1\nz = 2; ret", "\nx = 1\n", (Snippet("b.py", "x"),))
    found = completion_prompt(context, PLAIN, TokenIndex(PLAIN), 1024, 48)
    assert found.token_ids[0] == PLAIN.end_of_text
    assert PLAIN.decode(found.token_ids).encode() + found.pending == b"y = 1\nz = 2; ret"
    assert found.pending == b"; ret"
    assert completion_prompt(Context("a.py", "", ""), PLAIN, TokenIndex(PLAIN), 1024, 48).token_ids == (0,)


def test_a_vocabulary_without_any_marker_starts_with_the_text(monkeypatch):
    monkeypatch.setattr(PLAIN, "end_of_text", None)
    found = completion_prompt(Context("a.py", "ret", ""), PLAIN, TokenIndex(PLAIN), 1024, 48)
    assert (PLAIN.decode(found.token_ids), found.pending) == ("ret", b"")
    with pytest.raises(PromptError, match="the text before the cursor is empty"):
        completion_prompt(Context("a.py", "", ""), PLAIN, TokenIndex(PLAIN), 1024, 48)


@pytest.mark.parametrize(
    "path, shown",
    [
        ("a.py", "a.py"),
        ("c/d/e/f.py", "d/e/f.py"),
        ("/c//d/./f.py", "d/./f.py"),
        ("C:\\work\\pkg\\mod\\f.py", "pkg/mod/f.py"),
        ("", ""),
    ],
)
def test_the_last_three_components_of_the_path_are_shown(path, shown):
    assert shown_path(path) == shown


@pytest.mark.parametrize("path", ["", "a.py", "x/" + "y" * 500 + ".py", "ü" * 300, "a\nb.py", "😀/😀/😀"])
def test_the_header_is_one_line_of_bounded_length(learned, path):
    header = file_header(path, learned, MARKERS)
    assert len(header) <= module.PATH_TOKENS
    assert header[0] == MARKERS.file
    text = learned.decode(header)
    assert text.count("\n") == 1
    assert text.endswith(("\n", path[-8:] + "\n"))


def code(n_lines: int) -> str:
    lines = ("def add(first, second):", "    return first + second", "", "class Point:", "        self.x = x")
    return "".join(f"{lines[number % 5]}{number if number % 5 == 1 else ''}\n" for number in range(n_lines))


def test_typing_moves_the_left_edge_in_big_steps_and_never_back(learned):
    text, first = code(500), 5_200
    starts = []
    for cursor in range(first, first + 400):
        token_ids = fit_prefix(text[:cursor], PREFIX_TOKENS, learned)
        assert text[:cursor].endswith(learned.decode(token_ids))
        starts.append(cursor - len(learned.decode(token_ids)))
    moves = [after - before for before, after in pairwise(starts) if after != before]
    assert len(moves) <= 1
    assert all(move > 500 for move in moves)
    assert all(text[start - 1] == "\n" for start in starts)


def test_the_left_edge_never_goes_back_and_forth(learned):
    text = code(700)
    starts = [cursor - len(learned.decode(fit_prefix(text[:cursor], 160, learned))) for cursor in range(2_000, 5_000)]
    assert starts == sorted(starts)
    assert 2 <= len(set(starts)) <= 8


@pytest.mark.parametrize("character", ["x", "€", "😀"])
def test_in_one_long_line_the_left_edge_moves_in_big_steps_too(learned, character):
    line = "".join(f"{character}{number}," for number in range(1_500))
    starts = []
    for cursor in range(4_000, 4_300):
        token_ids = fit_prefix(line[:cursor], 200, learned)
        assert 0 < len(token_ids) <= 200
        starts.append(len(line[:cursor].encode()) - sum(map(len, map(learned.token_bytes, token_ids))))
    assert len(set(starts)) <= 12


@settings(max_examples=50)
@given(st.text(alphabet="ab \n€=", max_size=300), st.integers(5, 60))
def test_the_prefix_is_the_longest_tail_that_its_edge_allows(learned, prefix, budget):
    token_ids = fit_prefix(prefix, budget, learned)
    text = b"".join(map(learned.token_bytes, token_ids))
    assert len(token_ids) <= budget
    assert prefix.encode().endswith(text)
    assert bool(text) == bool(prefix) or prefix.endswith("\n")
    if len(learned.encode(prefix)) + budget // 4 <= budget and len(prefix) <= budget:
        assert text.decode() == prefix


@settings(max_examples=50)
@given(st.text(alphabet="ab \n€=", max_size=300), st.integers(1, 60))
def test_a_suffix_is_a_head_that_ends_at_a_line_end_where_it_can(learned, suffix, budget):
    token_ids = fit_suffix(suffix, budget, learned)
    data = b"".join(map(learned.token_bytes, token_ids))
    assert len(token_ids) <= budget
    assert suffix.encode().startswith(data)
    if len(learned.encode(suffix)) > budget and b"\n" in data[1:]:
        assert suffix.encode()[len(data) :].startswith(b"\n")


class ByteTokenizer(PlainTokenizer):
    """One token a byte."""

    def __init__(self) -> None:
        super().__init__(BYTES)

    def encode(self, text: str) -> list[int]:
        return [N_MARKERS + byte for byte in text.encode()]


LONG_TEXTS = ("", "x = 1\n" * 500, "x" * 9_000, "€" * 3_000, "    return first\n\n" * 300, "\n" * 2_000)


@pytest.mark.parametrize("n_positions", [128, 160, 256, 1024])
@pytest.mark.parametrize("max_new_tokens", [1, 48, 512, 4_000])
def test_a_prompt_leaves_room_for_what_is_to_be_written(learned, index, n_positions, max_new_tokens):
    room = n_positions - min(max_new_tokens, n_positions // 2)
    plain = ByteTokenizer()
    plain_index = TokenIndex(plain)
    for number, prefix in enumerate(LONG_TEXTS):
        suffix, snippet = LONG_TEXTS[-number], Snippet("x" * 400, LONG_TEXTS[number - 2])
        for snippets in ((), (snippet,), (Snippet("a.py", "x = 1"), snippet, snippet)):
            context = Context("p/" + "q" * 300, prefix, suffix, snippets)
            found = completion_prompt(context, learned, index, n_positions, max_new_tokens)
            assert 0 < len(found.token_ids) + len(learned.encode(found.pending.decode())) <= room
        found = completion_prompt(context, plain, plain_index, n_positions, max_new_tokens)
        assert 0 < len(found.token_ids) + len(found.pending) <= room
        explained = explanation_prompt(context.path, prefix, learned, n_positions, max_new_tokens)
        assert 0 < len(explained.token_ids) <= room


@pytest.mark.parametrize("n_positions", [1, 64, 100])
def test_a_model_that_is_too_small_is_named(learned, index, n_positions):
    with pytest.raises(PromptError, match=f"a model with {n_positions} positions is too small"):
        completion_prompt(Context("a.py", "x", ""), learned, index, n_positions, 48)
    with pytest.raises(PromptError, match=f"a model with {n_positions} positions is too small"):
        explanation_prompt("a.py", "x", learned, n_positions, 48)


@pytest.mark.parametrize(
    "source, shown",
    [
        ("def f(x):\n    return x\n", "def f(x):\n    return x"),
        ("    def f(x):\n        return x\n", "def f(x):\n    return x"),
        ("\n\n  a = 1\r\n  b = 2\r\n", "a = 1\nb = 2"),
    ],
)
def test_an_explanation_is_asked_for_behind_the_dedented_source(learned, source, shown):
    found = explanation_prompt("pkg/a.py", source, learned, 1024, 40)
    assert drawn(learned, found.token_ids) == f"<|file|>pkg/a.py\n<|fim_prefix|>{shown}<|doc|>"
    assert found.pending == b""


def test_a_long_source_is_cut_at_a_line_end(learned):
    source = "".join(f"        self.x += {number}\n" for number in range(300))
    text = learned.decode(explanation_prompt("a.py", source, learned, 1024, 40).token_ids)
    assert text.rsplit("\n", 1)[1].startswith("self.x += ")
    assert f"\n{text.rsplit(chr(10), 1)[1]}\n" in "\n" + source.replace("    ", "")


def test_without_markers_nothing_can_be_explained():
    with pytest.raises(PromptError, match=r"no <\|doc\|> token"):
        explanation_prompt("a.py", "x = 1", PLAIN, 1024, 40)


def test_a_snippet_is_cut_at_a_line_end(learned):
    snippet = Snippet("a/b.py", "\n\nx = 1\r\n" + "return total\n" * 50)
    token_ids = snippet_layout(snippet, 20, learned, MARKERS)
    assert drawn(learned, token_ids).startswith("<|snippet|>a/b.py\nx = 1\nreturn total")
    assert drawn(learned, token_ids).endswith("\nreturn total")
    assert len(token_ids) <= 20 + module.PATH_TOKENS


def test_typing_extends_the_prompt_at_its_end(learned, index):
    text = "import os\nfor name in names:\n    "
    typed = "print(name)"
    prompts = [prompt_at(f"{text}{typed[:n]}<|>)\nx = 1\n", learned, index) for n in range(len(typed))]
    for before, after in pairwise(prompts):
        shorter, longer = sorted((before.token_ids, after.token_ids), key=len)
        assert longer[: len(shorter)] == shorter
