"""What stood, in a body of text, behind the places that look like the cursor: the longest match and a shorter one.

Follows one text as it is written: places that agreed before are kept as long as they go on in the same way. Bytes
only; knows nothing of tokens or of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from server.index.segment import MAX_MATCH_BYTES, NO_MATCH, SEPARATOR, Match, Segment
from server.index.weights import Kind

MAX_PLACES = 32  # that are looked at; of more, as many at even distances
MAX_STEPS = 16  # to ever shorter matches, where only places that do not count agree with the longer ones
AHEAD_BYTES = 48  # of text that are taken from a place: a line's rest, mostly


# What follows a place -> whether it is of no use at the cursor, whatever the past says.
Refused = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Tier:
    """One body of text, and how it is believed."""

    name: str  # for people
    kind: Kind
    segment: Segment
    hidden: frozenset[int] = field(default_factory=frozenset)  # files that another tier has in a newer form, or nobody
    first_lines: tuple[int, ...] = ()  # 1-based line that each text of the segment starts with; all 1 without


@dataclass(frozen=True, slots=True)
class Finding:
    """What follows where the past agrees for `n_bytes`."""

    n_bytes: int
    n_places: int
    following: Mapping[bytes, Sequence[int]]  # what stands there -> at which of the places looked at

    @property
    def places(self) -> tuple[int, ...]:
        """The places looked at, offsets in the tier's segment."""
        return tuple(place for places in self.following.values() for place in places)


class Follower:
    """One tier, asked about longer and longer texts."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self._text = b""
        self._found: tuple[Finding, ...] = ()

    def after(self, text: bytes, refused: Refused | None = None) -> Sequence[Finding]:
        """The longest match of the end of `text`, then the next shorter one that more places agree with.

        Places where what is `refused` follows count as if they were not there.
        """
        if text != self._text or not self._found or refused is not None:
            self._found = (() if refused else self._extended(text)) or self._looked_up(text, refused)
            self._text = text if refused is None else b""
        return self._found

    def _extended(self, text: bytes) -> tuple[Finding, ...]:
        """What is left of the former places, where that is what a search would find; nothing to have it searched.

        That is so where all of them were looked at, and some of both matches go on as `text` does: a third match, the
        next shorter one, is not known here, nor what agrees with no more than the added text.
        """
        added = text[len(self._text) :]
        if len(self._found) < 2 or not added or len(added) > AHEAD_BYTES or not text.startswith(self._text):
            return ()
        kept: list[Finding] = []
        for found in self._found:
            going_on = [places for ahead, places in found.following.items() if ahead.startswith(added)]
            places = [place + len(added) for some in going_on for place in some]
            n_bytes = found.n_bytes + len(added)
            if found.n_places > sum(map(len, found.following.values())):
                return ()
            if len(places) <= (kept[-1].n_places if kept else 0) or (kept and n_bytes >= MAX_MATCH_BYTES):
                return ()
            kept.append(self._finding(min(n_bytes, MAX_MATCH_BYTES), len(places), places))
        return tuple(kept)

    def _looked_up(self, text: bytes, refused: Refused | None) -> tuple[Finding, ...]:
        segment = self.tier.segment
        text = text.replace(SEPARATOR, b" ")  # as in what is searched
        match = segment.longest(text)
        found: list[Finding] = []
        n_steps = 0
        while match is not NO_MATCH and len(found) < 2 and n_steps < MAX_STEPS:
            n_steps += 1
            finding = self._read(match, refused)
            # A match in hidden files alone is none, and one in no more places than the longer says nothing new.
            if finding.following and (not found or finding.n_places > found[-1].n_places):
                found.append(finding)
            match = segment.shorter(text, match)
        return tuple(found)

    def _read(self, match: Match, refused: Refused | None) -> Finding:
        segment, hidden = self.tier.segment, self.tier.hidden
        places = segment.places(match, MAX_PLACES)
        shown = [place for place in places if not hidden or segment.file_at(place) not in hidden]
        if refused is not None:
            shown = [place for place in shown if not refused(segment.following(place, AHEAD_BYTES))]
        n_hidden = min(match.n_places, MAX_PLACES) - len(shown)
        return self._finding(match.n_bytes, match.n_places - n_hidden, shown)

    def _finding(self, n_bytes: int, n_places: int, places: Sequence[int]) -> Finding:
        following: dict[bytes, list[int]] = {}
        for place in places:
            following.setdefault(self.tier.segment.following(place, AHEAD_BYTES), []).append(place)
        return Finding(n_bytes, n_places, following)
