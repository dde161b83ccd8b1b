"""Sentences beside their floors, similar functions, and differences with their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.pretrain.bleu import bleu
from finetune.pretrain.chrf import chrf
from finetune.pretrain.paired import difference
from finetune.pretrain.passages import Explained
from finetune.pretrain.samples import SourceFile
from finetune.pretrain.sentences import sentence_figures, spelled_out
from finetune.pretrain.similar import SimilarFunctions, terms, training_functions
from finetune.pretrain.trials import SentenceTrial


def trial(
    written: str, expected: str = "Return the open files of a folder.", name: str = "open_files"
) -> SentenceTrial:
    return SentenceTrial("pkg/a.py", name, expected, written)


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("read_csv_file", "Read csv file."),
        ("readCSVFile", "Read csv file."),
        ("__init__", "Init."),
        ("x2", "X 2."),
        ("_", "."),
    ],
)
def test_a_name_is_spelled_out(name, sentence):
    assert spelled_out(name) == sentence


def test_model_and_floors_are_scored_on_the_same_functions():
    trials = [trial("Return open files."), trial("Qqq.")]
    figures = sentence_figures(trials, ["Close the files.", ""])
    wanted = trials[0].expected
    assert figures["functions"] == 2
    for name, score in (("chrf", chrf), ("bleu", bleu)):
        found = figures[name]
        assert found["model"] == pytest.approx((score("Return open files.", wanted) + score("Qqq.", wanted)) / 2)
        assert found["name"] == pytest.approx(score("Open files.", wanted))
        assert found["similar"] == pytest.approx(score("Close the files.", wanted) / 2)
        assert found["over_name"]["mean"] == pytest.approx(found["model"] - found["name"])
        assert found["over_similar"]["mean"] == pytest.approx(found["model"] - found["similar"])


def test_right_sentences_are_above_both_floors():
    figures = sentence_figures([trial("Return the open files of a folder.")] * 20, ["Close it all."] * 20)
    assert figures["chrf"]["over_name"]["low"] > 0
    assert figures["bleu"]["over_similar"]["low"] > 0


def test_no_functions_give_no_difference():
    figures = sentence_figures([], [])
    assert figures["functions"] == 0 and figures["chrf"]["model"] == 0
    assert figures["chrf"]["over_name"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_the_interval_is_that_of_the_mean():
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(1.0, 2.0, 400), rng.normal(0.5, 2.0, 400)
    found = difference(list(ours), list(theirs))
    each = ours - theirs
    error = 1.96 * each.std() / 20
    assert found.mean == pytest.approx(each.mean())
    assert (found.low, found.high) == pytest.approx((each.mean() - error, each.mean() + error), abs=0.05)
    assert found == difference(list(ours), list(theirs)), "the same each time"


def test_a_constant_difference_is_certain():
    found = difference([3.0, 5.0, 7.0], [1.0, 3.0, 5.0])
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


def function(name: str, source: str) -> Explained:
    return Explained("pkg/a.py", "function", name, source, f"Sentence on {name} here.")


KNOWN = [
    function("read", "def read(path):\n    with open(path) as stream:\n        return stream.read()"),
    function("write", "def write(path, text):\n    with open(path, 'w') as stream:\n        stream.write(text)"),
    function("add", "def add(first, second):\n    return first + second"),
]


def test_names_count_whole_and_by_their_words():
    assert terms("readFile(my_path, x)") == ["readfile", "read", "file", "my_path", "my", "path", "x"]


@pytest.mark.parametrize(
    "source, name",
    [
        ("def read_text(path):\n    return open(path).read()", "read"),
        ("def save(text, path):\n    stream = open(path, 'w')\n    stream.write(text)", "write"),
        ("def total(first, second, third):\n    return first + second + third", "add"),
        ("zzz = 1", None),
    ],
)
def test_the_most_similar_function_has_the_rarest_names_in_common(source, name):
    found = SimilarFunctions(KNOWN).find(source)
    assert (found and found.name) == name


def test_weights_are_those_of_bm25():
    # Two functions of two terms each: "b" stands in one of them, once, and lengths are average.
    index = SimilarFunctions([function("one", "a b"), function("two", "a c")])
    numbers, weights = index._postings["b"]
    assert list(numbers) == [0]
    assert weights == pytest.approx([np.log(1 + (2 - 1 + 0.5) / 1.5)])


def test_without_functions_nothing_is_similar():
    assert SimilarFunctions([]).find("a") is None


def test_functions_with_a_sentence_are_known():
    text = '"""A module of some use."""\n\n\ndef find(a):\n    """Find the one that is asked for."""\n    return a\n'
    text += "\n\ndef bare(a):\n    return a\n"
    (found,) = training_functions([SourceFile("pkg", "pkg/a.py", text)])
    assert (found.name, found.sentence) == ("find", "Find the one that is asked for.")
