"""The index's opinion on the next token, mixed into the model's, for one request (`Mixer` and `Proposer` of decode).

What stood behind the places that look like the cursor is cut into tokens; each finding takes a share of the
distribution, shorter matches first. Where nothing matches, the model's own distribution is what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from server.index.lookup import Finding, Follower, Refused, Tier
from server.index.segment import MAX_MATCH_BYTES
from server.index.sources import Source, source_of
from server.index.weights import ORDER, Evidence, Kind, Level, weight
from server.lm.reader import LogProbs
from server.lm.tokenizer import Tokenizer

FIRST_TOKEN_BYTES = 24  # of what follows, enough to tell its first token
MAX_CACHED = 20_000
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


class FirstTokens:
    """First token of a text, remembered: the same few words follow again and again."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[bytes, int], int | None] = {}

    def of(self, text: bytes, n_written: int = 0) -> int | None:
        """The id that `text` goes on with behind its first `n_written` bytes, a character's beginning.

        None where that character is not whole, or where no token starts behind them.
        """
        key = text, n_written
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= MAX_CACHED:
                self._known.clear()
            token_id = self._known[key] = self._behind(n_written, self.all_of(text))
            return token_id

    def _behind(self, n_bytes: int, ids: Sequence[int]) -> int | None:
        for token_id in ids:
            if n_bytes <= 0:
                return token_id if n_bytes == 0 else None
            n_bytes -= len(self.bytes_of(token_id))
        return None

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes of an id."""
        return self._tokenizer.token_bytes(token_id)

    def all_of(self, text: bytes) -> list[int]:
        """The ids of `text` up to a character that is not whole."""
        try:
            shown = text.decode("utf-8")
        except UnicodeDecodeError as error:
            shown = text[: error.start].decode("utf-8")
        return self._tokenizer.encode_once(shown) if shown else []


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
    `refused` is not taken right behind the cursor.
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
    ) -> None:
        fed = past[: len(past) - n_pending]
        self._fed, self._pending = fed[-MAX_MATCH_BYTES:], past[len(past) - n_pending :]
        self._followers = [Follower(tier) for tier in tiers]  # several tiers may have one name
        self._first_tokens, self._end_of_text, self._ends_line = first_tokens, end_of_text, ends_line
        self._refused = refused
        self._steps: dict[bytes, _Step] = {}
        self._drafted: set[bytes] = set()
        self.n_drafted = self.n_accepted = 0  # tokens

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
        begun, forced = _begun_character(text_so_far), self._pending[len(text_so_far) :]
        model_max = float(np.exp(log_probs.max()))
        findings = self._findings(text_so_far)
        n_written = max(len(text_so_far) - len(self._pending), 0)
        text = self._fed + (text_so_far if not forced else self._pending)
        found = []
        for key in ORDER:
            if key not in findings:
                continue
            tier, finding = findings[key]
            places = self._by_token(finding, begun, forced, log_probs)
            n_total = sum(map(len, places.values()))
            if not n_total:
                continue
            top = max(places, key=lambda token_id: len(places[token_id]))
            ahead = max(finding.following, key=lambda text: len(finding.following[text]))
            evidence = Evidence(
                n_bytes=finding.n_bytes,
                n_places=finding.n_places,
                n_tokens=len(places),
                top_share=len(places[top]) / n_total,
                top_logprob=float(log_probs[top]),
                model_max=model_max,
                n_followed=n_written if finding.n_bytes > n_written else 0,
                is_in_word=text[-1:] in WORD and ahead[:1] in WORD,
            )
            found.append(Reading(*key, tier, evidence, places))
        return found

    def propose(self, text_so_far: bytes, max_tokens: int) -> list[int]:
        """The ids of what follows most often behind the longest match, within its line."""
        if len(text_so_far) < len(self._pending):
            return []
        findings = [finding for _, finding in self._findings(text_so_far).values()]
        best = max(findings, key=lambda finding: finding.n_bytes, default=None)
        if best is None or best.n_bytes < MIN_DRAFT_BYTES:
            return []
        ahead = max(best.following, key=lambda text: len(best.following[text]))
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

    def _findings(self, text_so_far: bytes) -> dict[tuple[Kind, Level], tuple[Tier, Finding]]:
        text = self._fed + (text_so_far if len(text_so_far) >= len(self._pending) else self._pending)
        found: dict[tuple[Kind, Level], tuple[Tier, Finding]] = {}
        for follower in self._followers:
            levels: tuple[Level, Level] = ("longest", "shorter")
            refused = self._refused if len(text_so_far) <= len(self._pending) else None
            for level, finding in zip(levels, follower.after(text, refused), strict=False):
                key = (follower.tier.kind, level)
                if key not in found or finding.n_bytes > found[key][1].n_bytes:
                    found[key] = (follower.tier, finding)
        return found

    def _by_token(self, finding: Finding, begun: bytes, forced: bytes, log_probs: LogProbs) -> dict[int, list[int]]:
        """The places looked at, by the token that comes next there."""
        end = self._end_of_text if self._ends_line and not forced else None
        before, n_begun, first_of = begun + forced, len(begun), self._first_tokens.of
        by_head: dict[bytes, list[int]] = {}  # many texts that go on differently begin alike
        for text, places in finding.following.items():
            if text:
                by_head.setdefault(_head(text), []).extend(places)
        by_token: dict[int, list[int]] = {}
        for head, places in by_head.items():
            token_id = first_of(before + head, n_begun)
            if token_id is None:
                continue
            if end is not None and head.startswith(b"\n") and log_probs[end] > log_probs[token_id]:
                token_id = end
            by_token.setdefault(token_id, []).extend(places)
        return by_token


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


def _begun_character(text: bytes) -> bytes:
    """The bytes of the UTF-8 character that `text` ends in the middle of; most often there is none."""
    for n_bytes in range(1, min(len(text), 3) + 1):
        first = text[-n_bytes]
        if first < 0x80 or first >= 0xC0:
            n_whole = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            return text[-n_bytes:] if n_whole > n_bytes else b""
    return b""


def _head(text: bytes) -> bytes:
    """As much of `text` as its first token can take: no token crosses a line break."""
    if text.startswith(b"\n"):
        return text[: len(text) - len(text[1:].lstrip(b" \t"))]
    return text[:FIRST_TOKEN_BYTES].split(b"\n", 1)[0]
