"""How a request for a completion came to its end, as plain JSON: for `loracle.why` and `loracle complete --json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.completion import Outcome
    from server.index.opinion import Share

COUNTS = ("nPromptTokens", "nCachedTokens", "nNewTokens", "nDraftedTokens", "nAcceptedTokens")


def account_of(outcome: Outcome | None) -> dict[str, Any]:
    """Where it ended in words, the best suggestion's confidence (0..1, null for none), and what was done for it.

    None stands for a request that never came to the model.
    """
    if outcome is None:
        counts = dict.fromkeys(COUNTS, 0)
        return {
            "ended": "",
            "confidence": None,
            "milliseconds": {},
            "finish": "",
            "filters": [],
            **counts,
            "tokens": [],
        }
    return {
        "ended": outcome.ended,
        "confidence": round(outcome.suggestions[0].confidence, 4) if outcome.suggestions else None,
        "milliseconds": {stage: round(spent, 1) for stage, spent in outcome.milliseconds.items()},
        "finish": outcome.finish,  # why the first generation ended; empty where none counted
        "filters": [asdict(verdict) for verdict in outcome.verdicts],
        "nPromptTokens": outcome.n_prompt_tokens,
        "nCachedTokens": outcome.n_cached_tokens,
        "nNewTokens": outcome.n_new_tokens,
        "nDraftedTokens": outcome.n_drafted_tokens,
        "nAcceptedTokens": outcome.n_accepted_tokens,
        "tokens": [_told(share) for share in outcome.shares],
    }


def _told(share: Share) -> dict[str, Any]:
    """One token of the text before the filters: how much of it is the index's (0..1), and where that stands."""
    sources = [{"path": source.path, "line": source.line, "tier": source.tier} for source in share.sources]
    return {"text": share.text, "indexShare": round(share.index_share, 3), "sources": sources}
