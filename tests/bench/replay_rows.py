"""What happened at the keys of a typing replay, and its figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.table import Row, percentile, share

PART = "replay"
MAX_P50_MS, MAX_P95_MS, MIN_CACHED_PERCENT = 90.0, 200.0, 80.0
MAX_INDEX_RATIO = 1.1  # p50 with the repository's index to p50 without, at the same keys


@dataclass(slots=True)
class Tally:
    """What happened at all keys."""

    n_keys: int = 0
    n_answers: Counter[str] = field(default_factory=Counter)  # by where they came from
    model_ms: list[float] = field(default_factory=list)  # key to answer, of the model's answers
    index_ms: list[float] = field(default_factory=list)  # of lines that the index was sure of, without the model
    known_ms: list[float] = field(default_factory=list)  # and of those known from an earlier one
    new_ms_at: dict[tuple[str, int], float] = field(default_factory=dict)  # by file and key; inf: late
    n_shown: int = 0  # keys after which a suggestion was there before the next
    n_right: int = 0  # of these, what came next
    n_accepted: int = 0
    n_saved_keys: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0

    @property
    def new_ms(self) -> list[float]:
        """Key to answer, of all that was not known before."""
        return [*self.model_ms, *self.index_ms]


def rows(tally: Tally) -> list[Row]:
    """The figures of a replay."""
    n_current = sum(tally.n_answers.values()) - tally.n_answers["late"]

    def timing(what: str, values: Sequence[float], percent: float, at_most: float | None = None) -> Row:
        value = percentile(values, percent)
        note = f"of {len(values)}" if values else "none came in time"
        return Row(PART, what, value, "ms", at_most=at_most, note=note, is_timing=True)

    def counted(what: str, name: str) -> Row:
        return Row(PART, what, tally.n_answers[name], "answers", note=f"of {tally.n_keys} keys")

    return [
        timing("key to the answer of model or index, debounce included, p50", tally.new_ms, 50, MAX_P50_MS),
        timing("key to the answer of model or index, debounce included, p95", tally.new_ms, 95, MAX_P95_MS),
        timing("key to the model's answer, p50", tally.model_ms, 50),
        timing("key to the model's answer, p95", tally.model_ms, 95),
        timing("key to the index's answer, p50", tally.index_ms, 50),
        timing("key to the index's answer, p95", tally.index_ms, 95),
        timing("key to an answer typed along, p50", tally.known_ms, 50),
        timing("key to an answer typed along, p95", tally.known_ms, 95),
        Row(
            PART,
            "prompt tokens found in the cache",
            share(tally.n_cached_tokens, tally.n_prompt_tokens),
            "%",
            at_least=MIN_CACHED_PERCENT,
            note=f"of {tally.n_prompt_tokens}",
        ),
        counted("by the model", "model"),
        counted("by the index: a line that it was sure of, without the model", "index"),
        counted("typed along an earlier suggestion", "known"),
        counted("gated: nothing was asked of the model, nothing offered", "gated"),
        counted("superseded: the next key came first", "late"),
        Row(PART, "keys with a suggestion", share(tally.n_shown, n_current), "%", note="of those answered in time"),
        Row(PART, "of the suggestions, what came next", share(tally.n_right, tally.n_shown), "%"),
        Row(
            PART,
            "keystrokes saved",
            share(tally.n_saved_keys, tally.n_saved_keys + tally.n_keys),
            "%",
            note=f"{tally.n_accepted} accepted, every other that was right and not too short",
        ),
    ]


def index_rows(tally: Tally, alone: Tally) -> list[Row]:
    """What the repository's index costs, at the keys that were answered anew with it and without.

    What is typed along in one run and asked about in the other is no comparison. An answer that came after the next key
    counts as slower than any, unless it did so in both.
    """
    both = sorted(tally.new_ms_at.keys() & alone.new_ms_at.keys())
    both = [key for key in both if min(tally.new_ms_at[key], alone.new_ms_at[key]) < math.inf]
    ours, theirs = ([each.new_ms_at[key] for key in both] for each in (tally, alone))
    superseded = f"superseded: {tally.n_answers['late']}, without {alone.n_answers['late']}"
    found = []
    for percent, at_most in ((50, MAX_INDEX_RATIO), (95, None)):
        one, other = percentile(ours, percent), percentile(theirs, percent)
        ratio = one / other if one is not None and other and max(one, other) < math.inf else None
        note = "no key" if one is None or other is None else f"{one:.0f} and {other:.0f} ms at {len(both)} keys"
        what = f"with the repository's index / without, p{percent}"
        note = f"{note} answered anew by both; {superseded}"
        found.append(Row(PART, what, ratio, "times", at_most=at_most, note=note, is_timing=True))
    return found


def busy_rows(tally: Tally) -> list[Row]:
    """The figures of a replay beside a busy process."""
    note = f"of {len(tally.new_ms)}; {tally.n_answers['late']} of {tally.n_keys} keys superseded theirs"
    return [
        Row(
            PART,
            f"key to the answer beside a busy process, p{percent}",
            percentile(tally.new_ms, percent),
            "ms",
            note=note,
            is_timing=True,
        )
        for percent in (50, 95)
    ]
