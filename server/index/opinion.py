"""The index's opinion on the next token, mixed into the model's, for one request (`Mixer` and `Proposer` of decoding).

What stood behind the places that look like the cursor is cut into tokens; each finding takes a share of the
distribution, shorter matches first. Where nothing matches, the model's own distribution is what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from server.index.continuations import Continuation, Continuations, FirstTokens
from server.index.lookup import Refused, Tier
from server.index.sources import Source, source_of
from server.index.weights import Evidence, Kind, Level, weight
from server.lm.reader import LogProbs

LEAST = 1e-30  # probability
WORD = frozenset(bytes([byte]) for byte in b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
MAX_SOURCES = 3  # that are told of one token
DRAFT_TOKENS = 8  # decoding of verbatim lines is 1.4 times as fast with 4, 1.6 with 8 (part `index` of the bench)
MIN_DRAFT_BYTES = 24  # a shorter match is no good guess at several tokens (ARCHITECTURE.md, decision 31)


@dataclass(frozen=True, slots=True)
class Share:
    """How much of one token's probability is the index's."""

    text: str
    index_share: float  # 0..1; the rest is the model's
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one tier says about the next token."""

    kind: Kind
    level: Level
    tier: Tier
    evidence: Evidence
    places: Mapping[int, Sequence[int]]  # of the tier, by the token that comes next there


@dataclass(slots=True)
class _Step:
    """What came of one place in the text."""

    mixed: LogProbs
    shares: dict[int, float] = field(default_factory=dict)  # token id -> probability that is the index's
    support: list[tuple[Tier, Mapping[int, Sequence[int]]]] = field(default_factory=list)  # places by token id


class Opinion:
    """What some tiers say about the text behind one cursor.

    `past` is the text before the cursor, `n_pending` so many of its last bytes are matched instead of fed. With
    `ends_line` a line break in the tiers supports the end of the text where the model likes that better. What is
    `refused` is not taken right behind the cursor. `thread` looks places up while the model reads, where there is one.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        past: bytes,
        n_pending: int,
        first_tokens: FirstTokens,
        end_of_text: int | None,
        *,
        ends_line: bool,
        refused: Refused | None = None,
        thread: Executor | None = None,
    ) -> None:
        self._found = Continuations(tiers, past, n_pending, first_tokens, refused, thread)
        self._pending = self._found.pending
        self._first_tokens, self._end_of_text, self._ends_line = first_tokens, end_of_text, ends_line
        self._steps: dict[bytes, _Step] = {}
        self._drafted: set[bytes] = set()
        self.n_drafted = self.n_accepted = 0  # tokens

    def prepare(self, texts: Sequence[bytes]) -> None:
        """Looks at these places while the model reads."""
        self._found.prepare(texts)

    def mix(self, log_probs: LogProbs, text_so_far: bytes) -> LogProbs:
        """The mixture; `text_so_far` is what follows the fed prompt, pending text included."""
        if text_so_far in self._drafted:
            self._drafted.remove(text_so_far)
            self.n_accepted += 1
        step = self._steps[text_so_far] = _Step(log_probs)
        if readings := self.readings(log_probs, text_so_far):
            left = _divide(step, readings)
            token_ids = np.fromiter(step.shares, np.int64, len(step.shares))
            own = np.fromiter(step.shares.values(), np.float64, len(step.shares))
            step.mixed = log_probs + np.float32(math.log(left))
            step.mixed[token_ids] = np.logaddexp(step.mixed[token_ids], np.log(own))
        return step.mixed

    def readings(self, log_probs: LogProbs, text_so_far: bytes) -> list[Reading]:
        """What each tier says at this place, in the order in which they take their shares."""
        model_max = float(np.exp(log_probs.max()))
        n_written = max(len(text_so_far) - len(self._pending), 0)
        is_word_before = self._found.text_at(text_so_far)[-1:] in WORD
        found = []
        for each in self._found.behind(text_so_far):
            places = self._places(each, log_probs)
            n_total = sum(map(len, places.values()))
            if not n_total:
                continue
            top = max(places, key=lambda token_id: len(places[token_id]))
            evidence = Evidence(
                n_bytes=each.finding.n_bytes,
                n_places=each.finding.n_places,
                n_tokens=len(places),
                top_share=len(places[top]) / n_total,
                top_logprob=float(log_probs[top]),
                model_max=model_max,
                n_followed=n_written if each.finding.n_bytes > n_written else 0,
                is_in_word=is_word_before and each.likeliest[:1] in WORD,
            )
            found.append(Reading(each.kind, each.level, each.tier, evidence, places))
        return found

    def propose(self, text_so_far: bytes, max_tokens: int) -> list[int]:
        """The ids of what follows most often behind the longest match, within its line."""
        if len(text_so_far) < len(self._pending) or not self._found.may_agree(text_so_far, MIN_DRAFT_BYTES):
            return []
        best = max(self._found.behind(text_so_far), key=lambda each: each.finding.n_bytes, default=None)
        if best is None or best.finding.n_bytes < MIN_DRAFT_BYTES:
            return []
        ahead = best.likeliest
        line = ahead.split(b"\n", 1)[0]
        ids = self._first_tokens.all_of(line)
        if line == ahead:  # cut, perhaps within its last token
            ids = ids[:-1]
        ids = ids[: min(max_tokens, DRAFT_TOKENS)]
        text = text_so_far
        for token_id in ids:
            text += self._first_tokens.bytes_of(token_id)
            self._drafted.add(text)
        self.n_drafted += len(ids)
        return ids

    def shares(self, shown: Sequence[str]) -> list[Share]:
        """How much of each token of a generation was the index's: `shown` is what each wrote after the cursor."""
        found = []
        text = self._pending
        for number, piece in enumerate(shown):
            behind = text + piece.encode("utf-8", "replace")
            starts = range(len(text) + 1) if number == 0 else (len(text),)  # the first may begin before the cursor
            shares = [self._share(behind[:start], behind[start:]) for start in starts]
            found.append(max(shares, key=lambda share: share.index_share))
            text = behind
        return found

    def _share(self, text_so_far: bytes, token: bytes) -> Share:
        step = self._steps.get(text_so_far)
        for token_id, own in step.shares.items() if step is not None else ():
            if step is not None and self._first_tokens.bytes_of(token_id) == token:
                places = [(tier, place) for tier, by in reversed(step.support) for place in by.get(token_id, ())]
                sources = dict.fromkeys(source_of(tier, place) for tier, place in places[:MAX_SOURCES])
                share = min(own / max(math.exp(step.mixed[token_id]), LEAST), 1.0)
                return Share(token.decode("utf-8", "replace"), share, tuple(sources))
        return Share(token.decode("utf-8", "replace"), 0.0, ())

    def _places(self, found: Continuation, log_probs: LogProbs) -> Mapping[int, Sequence[int]]:
        """The places by the token that comes next: the end for a line break, where the model prefers that."""
        end = self._end_of_text
        if end is None or not self._ends_line or found.is_forced or not found.line_breaks:
            return found.places
        places: dict[int, list[int]] = {}
        for token_id, where in found.places.items():
            is_end = token_id in found.line_breaks and log_probs[end] > log_probs[token_id]
            places.setdefault(end if is_end else token_id, []).extend(where)
        return places


def _divide(step: _Step, readings: Sequence[Reading]) -> float:
    """Gives each reading its share of the step's distribution, the last one first; what that leaves to the model."""
    left = 1.0
    for reading in reversed(readings):
        share = weight(reading.kind, reading.level, reading.evidence)
        own = left * share / sum(map(len, reading.places.values()))
        for token_id, where in reading.places.items():
            step.shares[token_id] = step.shares.get(token_id, 0.0) + own * len(where)
        left *= 1.0 - share
    step.support = [(reading.tier, reading.places) for reading in readings]
    return left
