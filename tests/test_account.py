"""What is told about a request: every key is there whether the model was asked or not."""

from __future__ import annotations

import json

from server.account import account_of
from server.completion import Outcome, Suggestion
from server.filters.pipeline import Verdict


def test_an_answer_of_the_model_is_told_in_full() -> None:
    outcome = Outcome(
        (Suggestion("x", 0, 0, 0.123456), Suggestion("y", 0, 0, 0.9)),
        "offered",
        {"decode": 12.345},
        (Verdict("confidence", "kept"),),
        "stop",
        n_prompt_tokens=3,
        n_cached_tokens=2,
        n_new_tokens=1,
    )
    told = {
        "ended": "offered",
        "confidence": 0.1235,
        "milliseconds": {"decode": 12.3},
        "finish": "stop",
        "filters": [{"filter": "confidence", "action": "kept", "reason": ""}],
        "nPromptTokens": 3,
        "nCachedTokens": 2,
        "nNewTokens": 1,
    }
    account = account_of(outcome)
    assert {key: account[key] for key in told} == told


def test_a_request_that_was_not_answered_has_the_same_keys() -> None:
    withheld, unanswered = account_of(Outcome((), "the model ended it here")), account_of(None)
    assert withheld.keys() == unanswered.keys() == json.loads(json.dumps(unanswered)).keys()
    assert (withheld["confidence"], withheld["ended"]) == (None, "the model ended it here")
    assert (unanswered["confidence"], unanswered["filters"], unanswered["nNewTokens"]) == (None, [], 0)
