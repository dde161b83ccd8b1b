"""BLEU-4 of one sentence against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.pretrain.bleu import bleu


@pytest.mark.parametrize(
    "written, reference, expected",
    [
        ("Return the sum of two.", "return the sum of two.", 1.0),
        ("", "Return it.", 0.0),
        ("Return it.", "", 0.0),
        ("alpha beta", "gamma delta", 0.0),
        # Words 4/5, pairs (3+1)/(4+1), triples (2+1)/(3+1), quadruples (1+1)/(2+1); as long as the reference.
        ("a b c d x", "a b c d e", (4 / 5 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25),
        # All that is there is right, but two words of four are: exp(1 - 4/2); no triples, so (0+1)/(0+1).
        ("a b", "a b c d", math.exp(-1.0)),
        # A word counts as often as the reference has it: 2/4, pairs (1+1)/(3+1), triples 1/3, quadruples 1/2.
        ("the the the the", "the the cat sat", (2 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25),
        # What is longer than the reference is punished by precision alone: 2/3, 2/3, 1/2, 1/1.
        ("a b c", "a b", (2 / 3 * 2 / 3 * 1 / 2) ** 0.25),
    ],
)
def test_values_by_hand(written, reference, expected):
    assert bleu(written, reference) == pytest.approx(expected)


@given(st.text(max_size=30), st.text(max_size=30))
def test_it_lies_between_nought_and_one(written, reference):
    assert 0.0 <= bleu(written, reference) <= 1.0 + 1e-12
