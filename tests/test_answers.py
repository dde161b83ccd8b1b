"""What is compared before and after: the text that a server would offer which withholds nothing."""

from __future__ import annotations

import math
from typing import cast

import pytest
from fakes import OneLine

from finetune.answers import _completed
from finetune.points import Point
from server.index.line_weights import SURE, bar_for
from server.index.live import LiveIndex
from server.lm.model import LoadedModel
from tests.test_completion import writer

POINT = Point("a.py", "python", "mid_line", 1, "x = ", "price", "\n")
DOUBT = 5.0
CONFIDENCE = (1 + 99 * math.exp(-DOUBT)) ** -6  # five characters and the end, each beside 99 others; nearly


def completed(model: LoadedModel, probability: float) -> str:
    return _completed(model, model.completion_cache, POINT, cast(LiveIndex, OneLine(probability)))


def test_without_an_index_it_is_the_model_s_text() -> None:
    model = writer("x = price\n", doubt=DOUBT)
    assert _completed(model, model.completion_cache, POINT, None) == "price"


@pytest.mark.parametrize(("share", "text"), [(0.9, "price"), (1.1, "total")])
def test_a_line_is_taken_from_where_a_server_would_offer_it(share: float, text: str) -> None:
    bar = bar_for(CONFIDENCE)
    assert bar < SURE
    assert completed(writer("x = price\n", doubt=DOUBT), share * bar) == text


def test_a_line_that_is_nearly_sure_goes_before_a_sure_text() -> None:
    sure = writer("x = price\n")
    assert completed(sure, SURE) == "total" and completed(sure, SURE - 0.01) == "price"
