"""Training rows: the layouts of the server, text that reassembles to its source, and what the loss counts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import pytest
from fakes import MARKERS

from finetune.pretrain import samples
from finetune.pretrain.passages import Explained
from finetune.pretrain.samples import RowBuilder, SourceFile, explanation_sample
from server.lm import prompt
from server.lm.context import Context
from server.lm.healing import TokenIndex
from server.lm.tokenizer import BytePairTokenizer, load_tokenizer

LENGTH = 256


@pytest.fixture(scope="module")
def learned(tiny_checkpoint: Path) -> BytePairTokenizer:
    return load_tokenizer(tiny_checkpoint)


def source(name: str, n_functions: int = 30) -> str:
    functions = (
        f"def {name}_{number}(first, second):\n"
        f'    """Return the {name} of both, number {number}."""\n'
        f"    if first > {number}:\n        total = other_{number % 7}(first)\n        print(total)\n"
        f"    return first + second\n\n\n"
        for number in range(n_functions)
    )
    return "import os\n\n\n" + "".join(functions)


PACKAGE = [SourceFile("pkg", "pkg/main.py", source("main")), SourceFile("pkg", "pkg/sub/other.py", source("other"))]


def rows_of(tokenizer: BytePairTokenizer, package: Sequence[SourceFile] = PACKAGE, seed: int = 1) -> list[list[int]]:
    return list(RowBuilder(tokenizer, LENGTH, seed).rows(package))


def samples_in(row: Sequence[int]) -> list[list[int]]:
    """The samples of a row, each from its first snippet or file marker on, padding left out."""
    found: list[list[int]] = []
    in_preamble = False
    for token_id in row:
        if token_id in (MARKERS.file, MARKERS.snippet):
            found += [] if in_preamble else [[]]
            in_preamble = True
        in_preamble = in_preamble and token_id != MARKERS.fim_prefix
        if token_id != MARKERS.pad:
            found[-1].append(token_id)
    return found


def text_before(row: Sequence[int], marker: int) -> list[int]:
    return list(takewhile(lambda token_id: token_id != marker, row))


def after(sample: Sequence[int], marker: int) -> list[int]:
    return list(sample[list(sample).index(marker) + 1 :])


def all_samples(tokenizer: BytePairTokenizer, seeds: Sequence[int] = range(4)) -> list[list[int]]:
    return [sample for seed in seeds for row in rows_of(tokenizer, seed=seed) for sample in samples_in(row)]


def test_every_row_has_the_same_length_and_starts_with_a_file_or_its_snippets(learned):
    rows = rows_of(learned)
    assert len(rows) > 20
    assert {len(row) for row in rows} == {LENGTH + 1}
    assert {row[0] for row in rows} <= {MARKERS.file, MARKERS.snippet}
    assert any(row[0] == MARKERS.snippet for row in rows)


def test_padding_stands_at_the_end_alone(learned):
    for row in rows_of(learned):
        assert MARKERS.pad not in text_before(row, MARKERS.pad)
        assert set(row[len(text_before(row, MARKERS.pad)) :]) <= {MARKERS.pad}


def test_every_sample_has_its_markers_in_the_order_of_the_layout(learned):
    for sample in all_samples(learned):
        markers = [token_id for token_id in sample if token_id < 8 and token_id != MARKERS.snippet]
        closing = {(), (MARKERS.end_of_text,), (MARKERS.doc, MARKERS.end_of_text)}
        suffix = [MARKERS.fim_suffix] if MARKERS.fim_suffix in sample else []
        head = [MARKERS.file, *suffix, MARKERS.fim_prefix]
        assert markers[: len(head)] == head
        assert tuple(markers[len(head) :]) in closing
        assert MARKERS.fim_middle not in sample


def test_the_file_is_named_by_the_servers_own_header(learned):
    headers = [prompt.file_header(file.path, learned, MARKERS) for file in PACKAGE]
    for sample in all_samples(learned):
        named = sample[sample.index(MARKERS.file) :]
        assert any(named[: len(header)] == header for header in headers)


def test_a_file_that_fits_into_a_row_is_infilled_too(learned):
    small = SourceFile("pkg", "pkg/small.py", source("small", 2))
    assert len(learned.encode(small.text)) < LENGTH - 40
    rows = [row for seed in range(20) for row in rows_of(learned, [small], seed)]
    assert any(MARKERS.fim_suffix in row for row in rows)


def test_no_infilling_sample_ends_on_a_blank_line(learned):
    infilled = [sample for sample in all_samples(learned, range(8)) if MARKERS.fim_suffix in sample]
    middles = [learned.decode(after(sample, MARKERS.fim_prefix)[:-1]) for sample in infilled]
    assert middles
    assert all(middle.strip(" ")[-1:] != "\n" for middle in middles)


def test_an_infilling_sample_is_a_piece_of_its_source(learned):
    texts = {prompt.shown_path(file.path): file.text for file in PACKAGE}
    n_checked = n_in_line = 0
    for sample in all_samples(learned, range(8)):
        if MARKERS.fim_suffix not in sample:
            continue
        frame = sample[sample.index(MARKERS.file) :]
        path = learned.decode(text_before(frame, MARKERS.fim_suffix)).rstrip("\n")
        suffix = learned.decode(text_before(after(frame, MARKERS.fim_suffix), MARKERS.fim_prefix))
        written = learned.decode(text_before(after(frame, MARKERS.fim_prefix), MARKERS.end_of_text))
        assert sample[-1] == MARKERS.end_of_text
        text = texts[path]
        if written + suffix not in text:  # what a closing bracket would have hidden is not in the suffix
            gap = text.split(written, 1)[1].split("\n", 1)[0]
            assert not gap.strip(")]}>'\"`,;: ")
            assert written + gap + suffix in text
        n_checked += 1
        n_in_line += not suffix.startswith("\n")
    assert n_checked > 40
    assert n_in_line > 5


def test_the_samples_of_a_file_cover_it_in_order(learned, monkeypatch):
    monkeypatch.setattr(samples, "SHARE_END_IN_LINE", 0.0)
    monkeypatch.setattr(samples, "SHARE_SNIPPETS", 0.0)
    text = source("main", 60)
    builder = RowBuilder(learned, LENGTH, 3)
    written = ""
    for row in builder._completion_rows([SourceFile("pkg", "pkg/main.py", text)], samples.Library.of([])):
        for sample in samples_in(row):
            written += learned.decode(text_before(after(sample, MARKERS.fim_prefix), MARKERS.end_of_text))
    assert text.startswith(written)
    assert len(text) - len(written) < 4 * samples.MIN_SAMPLE_TOKENS


def test_a_text_that_goes_on_is_not_ended(learned, monkeypatch):
    monkeypatch.setattr(samples, "SHARE_INFILLING", 0.0)
    file = SourceFile("pkg", "pkg/main.py", source("main"))
    last = learned.decode(learned.encode(file.text)[-20:])
    builder = RowBuilder(learned, LENGTH, 3)
    ends = [
        (learned.decode(sample).endswith(last), sample[-1] == MARKERS.end_of_text)
        for row in builder._completion_rows([file], samples.Library.of([]))
        for sample in samples_in(row)
    ]
    assert set(ends) == {(False, False), (True, True)}


def test_the_shares_are_what_they_say(learned):
    rows = [row for seed in range(8) for row in rows_of(learned, [*PACKAGE, *PACKAGE], seed)]
    explaining = sum(MARKERS.doc in row for row in rows) / len(rows)
    assert explaining == pytest.approx(samples.SHARE_EXPLANATION, abs=0.02)
    others = [sample for row in rows for sample in samples_in(row) if MARKERS.doc not in sample]
    infilling = sum(MARKERS.fim_suffix in sample for sample in others) / len(others)
    assert infilling == pytest.approx(samples.SHARE_INFILLING, abs=0.12)


def test_snippets_come_from_other_files_and_are_used(learned):
    texts = {file.path: file.text for file in PACKAGE}
    with_snippets = [sample for sample in all_samples(learned) if sample[0] == MARKERS.snippet]
    assert with_snippets
    for sample in with_snippets:
        preamble, rest = text_before(sample, MARKERS.file), sample[sample.index(MARKERS.file) :]
        file_path = learned.decode(rest).split("\n", 1)[0]
        for shown in learned.decode(preamble).split("def ")[1:]:
            assert shown.split("(")[0] in texts[file_path]
        assert file_path not in learned.decode(preamble).split("\n")
        assert len(preamble) <= prompt.SNIPPET_TOKENS


def test_an_infilling_sample_starts_as_the_servers_prompt_does(learned):
    file = SourceFile("pkg", "a/b/c/pkg/main.py", source("main"))
    builder = RowBuilder(learned, 512, 5)
    n_checked = 0
    for _ in range(6):
        for row in builder._completion_rows([file], samples.Library.of([])):
            for sample in samples_in(row):
                if MARKERS.fim_suffix not in sample:
                    continue
                written = text_before(after(sample, MARKERS.fim_prefix), MARKERS.end_of_text)
                text = learned.decode(written)
                suffix = file.text[file.text.index(text) + len(text) :]
                served = prompt.completion_prompt(
                    Context(file.path, text, samples.significant_suffix(suffix)), learned, TokenIndex(learned), 1024, 48
                )
                fed = list(served.token_ids)
                cut = sample.index(MARKERS.fim_prefix)
                at = fed.index(MARKERS.fim_prefix)
                assert fed[: sample.index(MARKERS.fim_suffix) + 1] == sample[: sample.index(MARKERS.fim_suffix) + 1]
                assert fed[:cut] == sample[:cut], "a smaller suffix is the head of a larger one"
                kept = fed[at + 1 :]
                assert written[: len(kept)] == kept
                n_checked += 1
    assert n_checked > 5


def test_an_explanation_is_the_servers_prompt_and_the_sentence(learned):
    passage = Explained("a/b/c/d.py", "function", "add", "def add(a, b):\n    return a + b", "Return the sum of both.")
    sample = explanation_sample(passage, learned, MARKERS)
    served = prompt.explanation_prompt(passage.path, passage.source, learned, 1024, 48)
    assert sample == [*served.token_ids, *learned.encode(passage.sentence), MARKERS.end_of_text]


def test_explanations_that_do_not_fit_are_left_out(learned):
    builder = RowBuilder(learned, 64, 1)
    short = Explained("a.py", "function", "f", "def f():\n    return 1", "Return the first number.")
    long = Explained("a.py", "function", "g", "def g():\n" + "    x = 1\n" * 100, "Return the second number.")
    (row,) = builder._explanation_rows([short, long])
    assert learned.decode(row).count("Return the") == 1


def test_rows_follow_from_the_seed(learned):
    assert rows_of(learned, seed=7) == rows_of(learned, seed=7)
    assert rows_of(learned, seed=7) != rows_of(learned, seed=8)


@pytest.mark.parametrize("text", ["", "x", "x = 1", "\n\n\n", "y" * 5_000, "x = '''\n" + "0123456789" * 800 + "'''"])
def test_any_text_becomes_rows_of_the_right_length(learned, text):
    rows = rows_of(learned, [SourceFile("pkg", "a.py", text)])
    assert all(len(row) == LENGTH + 1 for row in rows)


def test_a_vocabulary_without_markers_is_refused(learned, monkeypatch):
    monkeypatch.setattr(learned, "special", None)
    with pytest.raises(ValueError, match="no prompt markers"):
        RowBuilder(learned, LENGTH, 1)
