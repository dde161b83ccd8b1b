"""chrF against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.pretrain.chrf import chrf


@pytest.mark.parametrize(
    "written, reference, expected",
    [
        ("Return the sum.", "Return the sum.", 1.0),
        ("Returnthesum.", "Return the sum.", 1.0),  # blanks do not count
        ("xyz", "abc", 0.0),
        ("", "abc", 0.0),
        ("abc", "", 0.0),
        ("", "", 0.0),
        # One length only: precision 1/1, recall 1/2, and recall counts twice.
        ("a", "ab", 5 * 1.0 * 0.5 / (4 * 1.0 + 0.5)),
        # Lengths 1 and 2: precision (3/4 + 2/3) / 2 = 17/24; recall the same.
        ("abcx", "abcy", (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4),
        # A gram counts as often as it stands in both: "aaa" and "aa" share two of length 1 and one of length 2.
        ("aaa", "aa", 5 * (2 / 3 + 1 / 2) / 2 * 1.0 / (4 * (2 / 3 + 1 / 2) / 2 + 1.0)),
    ],
)
def test_values_by_hand(written, reference, expected):
    assert chrf(written, reference) == pytest.approx(expected)


@given(st.text(max_size=30), st.text(max_size=30))
def test_it_lies_between_nought_and_one(written, reference):
    assert 0.0 <= chrf(written, reference) <= 1.0 + 1e-12


def test_nearer_is_better():
    reference = "Return the names of all open files."
    by_nearness = ["Return the names of open files.", "Returns names of all files.", "Return a value.", "Qqq zzz."]
    values = [chrf(text, reference) for text in by_nearness]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
