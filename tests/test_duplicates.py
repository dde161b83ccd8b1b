"""Of texts that repeat each other, the first one stays."""

import random
import time

import numpy as np
import pytest

from server.repository.duplicates import DuplicateFilter, fingerprint, shingles, similarity


def _text(seed: int, n_lines: int = 120) -> str:
    draw = random.Random(seed)
    words = [f"name_{draw.randrange(5000)}" for _ in range(n_lines * 4)]
    return "\n".join("    {} = {}({}, {})".format(*words[i : i + 4]) for i in range(0, len(words), 4)) + "\n"


def _changed(text: str, share: float, seed: int = 1) -> str:
    draw = random.Random(seed)
    return "\n".join(f"    other_{draw.random()}" if draw.random() < share else line for line in text.split("\n"))


def _verdicts(*texts: str) -> list[str | None]:
    seen = DuplicateFilter()
    return [seen.add(fingerprint(text)) for text in texts]


def test_the_first_stays_and_its_copy_goes():
    assert _verdicts(_text(1), _text(2), _text(1)) == [None, None, "exact duplicate"]


@pytest.mark.parametrize("copy", [
    _text(1).replace("\n", "\r\n"),
    _text(1).replace("\n", "  \n"),
    _text(1).replace("\n", "\n\n"),
])  # fmt: skip
def test_blank_differences_do_not_make_a_new_text(copy):
    assert _verdicts(_text(1), copy) == [None, "exact duplicate"]


@pytest.mark.parametrize("seed", range(20))
def test_a_lightly_edited_copy_is_a_near_duplicate(seed):
    assert _verdicts(_text(seed), _changed(_text(seed), 0.03, seed)) == [None, "near duplicate"]


@pytest.mark.parametrize("seed", range(20))
def test_a_text_rewritten_by_half_is_new(seed):
    assert _verdicts(_text(seed), _changed(_text(seed), 0.5, seed)) == [None, None]


def test_a_licence_header_alone_does_not_make_duplicates():
    header = "# " + "permission is hereby granted free of charge to any person obtaining a copy " * 2 + "\n"
    assert _verdicts(header + _text(1, 30), header + _text(2, 30)) == [None, None]


def test_a_dropped_text_is_not_remembered():
    # The chain drifts: the third is near the second, which was dropped, and far from the first, which stayed.
    first = _text(1)
    second = _changed(first, 0.05, seed=2)
    third = _changed(second, 0.35, seed=3)
    assert similarity(fingerprint(first), fingerprint(third)) < 0.6
    assert _verdicts(first, second, third) == [None, "near duplicate", None]


def test_similarity_estimates_the_share_of_common_runs():
    one, other = _text(1, 400), _changed(_text(1, 400), 0.1)
    mine, theirs = set(shingles(one.encode())), set(shingles(other.encode()))
    exact = len(mine & theirs) / len(mine | theirs)
    assert similarity(fingerprint(one), fingerprint(other)) == pytest.approx(exact, abs=0.15)
    assert similarity(fingerprint(one), fingerprint(one)) == 1.0


@pytest.mark.parametrize("text", ["", "\n\n", "x", "a b c", "+-*/", "é" * 50, "\x00\ud800"])
def test_odd_texts_have_a_fingerprint(text):
    assert fingerprint(text).signature.shape == (120,)


def test_a_word_hashes_alike_wherever_it_stands():
    assert (
        np.intersect1d(shingles(b"one two three four five"), shingles(b"zero! one, two; three. four (five)")).size == 1
    )
    assert np.intersect1d(shingles(b"one two three four five"), shingles(b"one two three four fiver")).size == 0


def test_fingerprints_are_the_same_in_every_process():
    # Recorded from the first version: a corpus rebuilt from its manifest depends on it.
    made = fingerprint("def add(one, other):\n    return one + other\n")
    assert made.signature[:3].tolist() == [2103999458, 2107754646, 110518843]


def test_hundreds_of_files_take_a_moment():
    texts = [_text(seed, 60) for seed in range(200)]
    started = time.process_time()
    assert _verdicts(*texts) == [None] * 200
    assert time.process_time() - started < 2.0
