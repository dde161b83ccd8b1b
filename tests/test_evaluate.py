"""Bits per byte: of a model that knows nothing, of counts, of xz; and what n-gram probabilities must obey."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.pretrain.bits import BitsPerByte, byte_bits, model_bits, ngram_bits, token_bits, xz_bits
from finetune.pretrain.evaluate import EvaluationPlan, bits_by_kind, former_figures, similar_sentences, training_sample
from finetune.pretrain.gpt2 import GPT2, Shape
from finetune.pretrain.ngram import DISCOUNT, NGram
from finetune.pretrain.passages import Explained
from finetune.pretrain.run_folder import weights_sha256
from finetune.pretrain.samples import SourceFile
from server.lm.errors import UserError
from server.lm.prompt import file_header
from server.lm.tokenizer import BytePairTokenizer, load_tokenizer

VOCAB_SIZE = 6
IDS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=12)
FILES = [
    SourceFile("pkg", "pkg/a.py", "def add(first, second):\n    return first + second\n" * 12),
    SourceFile("pkg", "pkg/b.py", "for name in names:\n    print(name)\n"),
]


@pytest.fixture(scope="module")
def learned(tiny_checkpoint: Path) -> BytePairTokenizer:
    return load_tokenizer(tiny_checkpoint)


@pytest.fixture
def model(learned: BytePairTokenizer) -> GPT2:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    return GPT2(Shape(n_layer=1, n_embd=16, n_head=2, n_positions=512, vocab_size=learned.vocab_size)).eval()


def n_bytes(files: list[SourceFile]) -> int:
    return sum(len(file.text.encode()) for file in files)


@settings(max_examples=50)
@given(st.lists(IDS, max_size=4), IDS, st.integers(1, 4))
def test_ngram_probabilities_sum_to_one(texts, history, order):
    model = NGram(order, VOCAB_SIZE, texts)
    each = [model.probabilities([*history, token_id])[-1] for token_id in range(VOCAB_SIZE)]
    assert sum(each) == pytest.approx(1.0)
    assert min(each) > 0


def test_ngram_probabilities_by_hand():
    model = NGram(2, VOCAB_SIZE, [[0, 1, 0, 1], [0, 2]])
    ones = (2 - DISCOUNT + DISCOUNT * 3 / VOCAB_SIZE) / 6  # six tokens of three kinds, two of them a 1
    after_nought = (2 - DISCOUNT + DISCOUNT * 2 * ones) / 3  # three times something followed a 0, of two kinds
    assert model.probabilities([1]) == pytest.approx([ones])
    assert model.probabilities([0, 1])[1] == pytest.approx(after_nought)
    assert model.probabilities([5, 1])[1] == pytest.approx(ones), "never seen, so nothing is known after it"


def test_no_gram_reaches_from_one_text_into_the_next():
    apart, together = NGram(3, VOCAB_SIZE, [[0, 1], [2, 3]]), NGram(3, VOCAB_SIZE, [[0, 1, 2, 3]])
    assert apart.probabilities([0, 1, 2])[2] < together.probabilities([0, 1, 2])[2]
    assert NGram(3, VOCAB_SIZE, [[0, 1], [], [2, 3]]).probabilities([0, 1, 2]) == pytest.approx(
        apart.probabilities([0, 1, 2])
    )


def test_a_token_depends_on_the_tokens_before_it_alone():
    model = NGram(3, VOCAB_SIZE, [[0, 1, 2, 0, 1, 3]])
    whole = model.probabilities([4, 0, 1, 2, 5])
    assert whole[:4] == pytest.approx(model.probabilities([4, 0, 1, 2]))
    assert whole[1:4] == pytest.approx(model.probabilities([0, 1, 2])), "two tokens back is as far as it sees"


def test_without_training_all_tokens_are_alike():
    assert NGram(3, VOCAB_SIZE, []).probabilities([0, 1, 2]) == pytest.approx([1 / VOCAB_SIZE] * 3)
    assert len(NGram(3, VOCAB_SIZE, [[1]]).probabilities([])) == 0


def test_counts_of_the_same_text_predict_it_best(learned):
    same, other = ngram_bits(5, learned, FILES[:1], FILES[:1]), ngram_bits(5, learned, FILES[1:], FILES[:1])
    nothing = ngram_bits(5, learned, [], FILES[:1])
    assert same.value < 0.3 * other.value
    assert nothing.bits == pytest.approx(len(learned.encode(FILES[0].text)) * math.log2(learned.vocab_size))
    assert same.n_bytes == n_bytes(FILES[:1])


@pytest.mark.parametrize("window", [48, 64, 512])
def test_a_model_that_knows_nothing_spends_the_same_on_each_token(learned, model, window):
    for param in model.parameters():
        torch.nn.init.zeros_(param)
    found = model_bits(model, learned, FILES, window)
    n_tokens = sum(len(learned.encode(file.text)) for file in FILES)
    assert found.n_bytes == n_bytes(FILES)
    assert found.bits == pytest.approx(n_tokens * math.log2(learned.vocab_size), rel=1e-5)


def test_each_token_is_judged_once_behind_the_path_and_what_came_before(learned, model):
    file = FILES[1]
    ids = [*file_header(file.path, learned, learned.special), learned.special.fim_prefix, *learned.encode(file.text)]
    with torch.no_grad():
        log_probs = torch.log_softmax(model.logits(torch.tensor([ids]))[0], dim=1)
    first = len(ids) - len(learned.encode(file.text))
    expected = -sum(float(log_probs[at - 1, ids[at]]) for at in range(first, len(ids))) / math.log(2)
    assert model_bits(model, learned, [file]).bits == pytest.approx(expected, rel=1e-5)


def test_a_short_context_makes_the_windows_shorter(learned):
    torch.manual_seed(1)
    short = GPT2(Shape(n_layer=1, n_embd=16, n_head=2, n_positions=48, vocab_size=learned.vocab_size)).eval()
    assert model_bits(short, learned, FILES, 512).bits == pytest.approx(model_bits(short, learned, FILES, 48).bits)


def test_the_bits_of_a_token_lie_evenly_on_its_bytes(learned):
    ids = learned.encode("return é")
    of_tokens = np.arange(1.0, len(ids) + 1)
    of_bytes = byte_bits(ids, of_tokens, learned)
    assert len(of_bytes) == len("return é".encode())
    assert of_bytes.sum() == pytest.approx(of_tokens.sum())
    assert len(set(of_bytes[: len(learned.token_bytes(ids[0]))])) == 1


def test_the_kinds_make_up_the_whole(learned, model):
    files = [*FILES, SourceFile("pkg", "pkg/c.py", "x = 'é'  # näher\n")]
    of_files = [token_bits(model, learned, file) for file in files]
    by_kind = bits_by_kind(learned, files, of_files, [files])["by_kind"]
    total = n_bytes(files)
    assert sum(each["share_of_bytes"] for each in by_kind.values()) == pytest.approx(1)
    assert sum(each["share_of_bits"] for each in by_kind.values()) == pytest.approx(1)
    bits = sum(each["share_of_bytes"] * total * each["bits_per_byte"] for each in by_kind.values())
    assert bits == pytest.approx(sum(float(each.sum()) for each in of_files))
    assert by_kind["string"]["share_of_bytes"] * total == pytest.approx(len("'é'".encode()))
    assert by_kind["comment"]["share_of_bytes"] * total == pytest.approx(len("# näher".encode()))
    assert by_kind["docstring"]["bits_per_byte"] == 0


def test_a_token_across_two_kinds_gives_each_its_bytes(learned):
    file = SourceFile("pkg", "pkg/a.py", "x = 1\n")
    ids = learned.encode(file.text)
    figures = bits_by_kind(learned, [file], [np.array([float(len(learned.token_bytes(i))) for i in ids])], [[file]])
    of_bytes = {kind: each["bits_per_byte"] for kind, each in figures["by_kind"].items() if each["share_of_bytes"]}
    assert of_bytes == pytest.approx({"name": 1.0, "operator": 1.0, "number": 1.0, "layout": 1.0})


def test_a_head_is_cut_into_kinds_as_part_of_its_file(learned):
    whole = SourceFile("pkg", "pkg/a.py", 'x = """one\ntwo\n"""\n')
    head = SourceFile("pkg", "pkg/a.py", 'x = """one\n')
    figures = bits_by_kind(learned, [head], [np.ones(len(learned.encode(head.text)))], [[whole]])
    assert figures["files_without_kinds"] == 0
    assert figures["by_kind"]["string"]["share_of_bytes"] == pytest.approx(7 / 11)


def test_files_that_cannot_be_cut_into_kinds_are_counted(learned):
    files = [SourceFile("pkg", "pkg/a.py", "x = (\n"), SourceFile("pkg", "pkg/b.py", "x\n")]
    figures = bits_by_kind(learned, files, [np.ones(len(learned.encode(file.text))) for file in files], [files])
    assert figures["files_without_kinds"] == 1
    assert figures["by_kind"]["operator"]["share_of_bytes"] == 0


def test_the_former_model_is_measured_on_the_same_files(learned, make_checkpoint, tiny_checkpoint, tmp_path):
    other = make_checkpoint("other", n_layer=1)
    found = former_figures(EvaluationPlan(tiny_checkpoint, tmp_path, other), FILES)
    assert found is not None
    assert found["weights_sha256"] == weights_sha256(other)
    assert found["bits_per_byte"] > 0
    assert former_figures(EvaluationPlan(tiny_checkpoint, tmp_path, tiny_checkpoint), FILES) is None
    assert former_figures(EvaluationPlan(tiny_checkpoint, tmp_path, tmp_path / "none"), FILES) is None


def test_a_function_that_nothing_is_like_has_no_similar_sentence():
    known = [Explained("a.py", "function", "add", "def add(first): ...", "Adds a number.")]
    asked = [
        Explained("b.py", "function", "sum_first", "def sum_first(first): ...", ""),
        Explained("b.py", "function", "x", "zzz", ""),
    ]
    assert similar_sentences(known, asked) == ["Adds a number.", ""]


def test_no_text_costs_nothing(learned, model):
    assert model_bits(model, learned, [SourceFile("pkg", "a.py", "")]).value == 0
    assert BitsPerByte(0.0, 0).value == 0


def test_a_vocabulary_without_markers_is_refused(learned, model, monkeypatch):
    monkeypatch.setattr(learned, "special", None)
    with pytest.raises(UserError, match="no prompt markers"):
        model_bits(model, learned, FILES)


def test_xz_spends_what_the_xz_program_spends():
    found = xz_bits(FILES)
    assert found.n_bytes == n_bytes(FILES)
    data = "".join(file.text for file in FILES).encode()
    try:
        done = subprocess.run(["xz", "-9e", "-c"], input=data, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("no xz on this machine")
    assert found.bits == pytest.approx(8 * len(done.stdout), abs=8 * 32)


def test_noise_cannot_be_compressed():
    noise = bytes(np.random.default_rng(0).integers(0, 128, 4_000, dtype=np.uint8)).decode("ascii")
    assert 7.0 < xz_bits([SourceFile("pkg", "a.py", noise)]).value < 7.5


def test_training_text_is_drawn_over_the_whole_corpus(tmp_path, monkeypatch):
    from test_rows import write_split

    from finetune.pretrain import evaluate
    from finetune.pretrain.manifest import Manifest, PackageRecord

    files = [SourceFile(f"pkg{number}", f"pkg{number}/a.py", "x = 1\n" * 20) for number in range(200)]
    write_split(tmp_path, "train", files)
    records = tuple(PackageRecord(file.package, "1", "", "", "MIT", 1, 120, "train") for file in files)
    monkeypatch.setattr(evaluate, "read_manifest", lambda path: Manifest("", "3.11", records))
    drawn = training_sample(tmp_path, 50 * 120)
    assert 30 < len(drawn) < 70
    assert drawn == training_sample(tmp_path, 50 * 120)
    assert len(training_sample(tmp_path, 10**9)) == 200
