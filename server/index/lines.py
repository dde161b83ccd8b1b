"""Whole lines from the index: how the line at a cursor ends elsewhere, and how likely it ends so here.

Text that agrees up to the cursor says much about the next word and little about the rest of the line: which of many
places is like this one is told by what stands above and below them. The ends found are ranked together, and with them
the chance that none is right. No model is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from server.index.line_weights import Agreement, LineEvidence, probabilities
from server.index.lookup import Refused, Tier
from server.index.segment import NO_MATCH, Segment, n_common
from server.index.sources import Source, source_of
from server.index.weights import Kind

MAX_PLACES = 48  # of one length of agreement
MAX_TIER_PLACES = 144
MAX_ENDS = 80  # those with the longest agreement
MAX_RANKED = 12  # ends that are told of
MAX_LENGTHS = 32  # of agreement, from the longest down
MAX_LINE_BYTES = 240
WINDOW_BYTES = 400  # of text above and below a place that are compared
MAX_SOURCES = 3  # that are told of one line
MAX_WINDOWS = 20_000  # that are remembered of a segment
_WORD = re.compile(rb"[A-Za-z_]\w+")
_WORD_BYTE, _LAST_WORD = re.compile(rb"\w"), re.compile(rb"[A-Za-z_]\w*$")
_OPENING, _CLOSING = b"([{", b")]}"
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _OPENING + _CLOSING)
_MEANINGLESS = b")]}>\"'`,;: \t"  # behind a cursor: an editor may have put it there

Window = tuple[frozenset[bytes], bytes]  # words of some lines, and the lines
Whole = tuple[frozenset[bytes], Counter[bytes]]  # words of a text, and how often each line stands there


@dataclass(frozen=True, slots=True)
class Line:
    """How the line at the cursor may end."""

    text: str  # behind the cursor, up to what stands there; without blanks at the line's end
    probability: float  # 0..1, that the line ends exactly so
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a cursor, as bytes with "\n" line ends."""

    path: str
    past: bytes  # before the cursor, as far as it is compared
    rest: bytes  # of the line, behind the cursor
    below: bytes  # whole lines, as far as they are compared

    @property
    def line(self) -> bytes:
        """The line up to the cursor."""
        return self.past[self.past.rfind(b"\n") + 1 :]


@dataclass(frozen=True, slots=True)
class Place:
    """One place at which the text before the cursor stands as well."""

    tier: Tier
    offset: int
    n_bytes: int  # that agree


LineEnds = Mapping[bytes, Sequence[Place]]  # what stands from the cursor to the line's end -> where it does


class Windows:
    """Texts around places, and their words; remembered, as the next key asks about the same ones."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Segment, dict[int, Window]] = WeakKeyDictionary()
        self._wholes: WeakKeyDictionary[Segment, Whole] = WeakKeyDictionary()

    def above(self, segment: Segment, start: int) -> Window:
        """The lines before the one that starts at an offset."""
        return self._window(segment, start, is_above=True)

    def below(self, segment: Segment, end: int) -> Window:
        """The lines behind the line break at an offset."""
        return self._window(segment, end, is_above=False)

    def whole(self, segment: Segment) -> Whole:
        """All of a segment."""
        if segment not in self._wholes:
            text = b"\n".join(file.text for file in segment.files())
            lines = Counter(line.strip() for line in text.split(b"\n"))
            self._wholes[segment] = frozenset(_WORD.findall(text)), lines
        return self._wholes[segment]

    def _window(self, segment: Segment, offset: int, *, is_above: bool) -> Window:
        known = self._known.get(segment)
        if known is None:
            known = self._known[segment] = {}
        key = 2 * offset + is_above
        if key not in known:
            if len(known) >= MAX_WINDOWS:
                known.clear()
            text = (segment.preceding if is_above else segment.following)(offset, WINDOW_BYTES)
            known[key] = frozenset(_WORD.findall(text)), text
        return known[key]


def likely_lines(found: LineEnds, cursor: Surroundings, windows: Windows) -> list[Line]:
    """The ends of the cursor's line with their probability, the likeliest first."""
    judged = zip(probabilities(evidence_of(found, cursor, windows)), found.items(), strict=True)
    lines = []
    for probability, (end, places) in sorted(judged, key=lambda each: -each[0])[:MAX_RANKED]:
        sources = dict.fromkeys(source_of(place.tier, place.offset) for place in places[:MAX_SOURCES])
        lines.append(Line(end.decode("utf-8"), probability, tuple(sources)))
    return lines


def line_ends(tiers: Sequence[Tier], cursor: Surroundings, refused: Refused | None = None) -> LineEnds:
    """What may stand behind the cursor up to the line's end, the places with the longest agreement first.

    What is `refused` is left out. Where more than closers, quotes and blanks stands behind the cursor, an end must run
    into it.
    """
    found: dict[bytes, list[Place]] = {}
    line, below = cursor.line, _first_line(cursor.below)
    rest = cursor.rest.rstrip() if cursor.rest.strip(_MEANINGLESS) else b""
    for tier in reversed(tiers):  # of equals the nearest is named first
        for place in _places(tier, cursor.past):
            following = tier.segment.following(place.offset, MAX_LINE_BYTES)
            if refused is not None and refused(following):
                continue
            end, line_break, _ = following.partition(b"\n")
            if not line_break and len(following) == MAX_LINE_BYTES:
                continue
            end = end.rstrip()
            if not end.endswith(rest) or (line + end).strip() == below:
                continue
            end = end[: len(end) - len(rest)]
            if end.strip() and not 0x80 <= end[0] < 0xC0:  # behind a short match a character may be cut
                found.setdefault(end, []).append(place)
    kept = sorted(found.items(), key=lambda each: -max(place.n_bytes for place in each[1]))[:MAX_ENDS]
    return dict(kept)


def evidence_of(found: LineEnds, cursor: Surroundings, windows: Windows) -> list[LineEvidence]:
    """What there is to judge each end by, in their order."""
    longest = max((place.n_bytes for places in found.values() for place in places), default=0)
    agreeing = Counter((place.tier.kind, place.n_bytes) for places in found.values() for place in places)
    around = _Around.of(found, cursor, windows)
    return [_evidence(end, places, longest, agreeing, around, windows) for end, places in found.items()]


@dataclass(frozen=True, slots=True)
class _Around:
    """What is the same for all ends at one cursor."""

    cursor: Surroundings
    line: bytes
    n_typed: int
    above: frozenset[bytes]  # words
    below: frozenset[bytes]
    next_line: bytes
    file: Whole
    folders: tuple[str, ...]
    shared_folders: dict[str, float]  # by path
    n_open: int  # brackets
    begun: bytes  # the word that the line ends in, if it does

    @classmethod
    def of(cls, found: LineEnds, cursor: Surroundings, windows: Windows) -> _Around:
        line = cursor.line
        files = (place.tier.segment for places in found.values() for place in places if place.tier.kind == "file")
        file = next(files, None)
        words = frozenset(_WORD.findall(line))
        known, lines = (frozenset[bytes](), Counter[bytes]()) if file is None else windows.whole(file)
        above = cursor.past[: len(cursor.past) - len(line)][-WINDOW_BYTES:]
        return cls(
            cursor=cursor,
            line=line,
            n_typed=len(line.strip()),
            above=frozenset(_WORD.findall(above)),
            below=frozenset(_WORD.findall(cursor.below[:WINDOW_BYTES])),
            next_line=_first_line(cursor.below),
            file=(known | words, lines),
            folders=tuple(cursor.path.split("/")[:-1]),
            shared_folders={},
            n_open=_n_open(line)[0],
            begun=last[0] if (last := _LAST_WORD.search(line)) else b"",
        )

    def shared(self, path: str) -> float:
        """How much of the cursor's folders is that of another file, 0..1."""
        if path not in self.shared_folders:
            n_shared = sum(one == other for one, other in zip(self.folders, path.split("/")[:-1], strict=False))
            self.shared_folders[path] = n_shared / max(len(self.folders), 1)
        return self.shared_folders[path]


def _evidence(
    end: bytes,
    places: Sequence[Place],
    longest: int,
    agreeing: Mapping[tuple[Kind, int], int],
    around: _Around,
    windows: Windows,
) -> LineEvidence:
    """What there is to judge one end by."""
    n_below, is_same_below, words_above, words_below, distance = 0, False, 0.0, 0.0, 0
    by_kind: dict[Kind, list[int]] = {}
    paths: dict[str, None] = {}
    for place in places:
        segment = place.tier.segment
        by_kind.setdefault(place.tier.kind, []).append(place.n_bytes)
        words, _ = windows.above(segment, _line_start(place, len(around.line)))
        words_above = max(words_above, _overlap(words, around.above))
        words, text = windows.below(segment, place.offset + len(end))
        words_below = max(words_below, _overlap(words, around.below))
        n_below = max(n_below, n_common(text[1:], around.cursor.below))
        is_same_below = is_same_below or (len(around.next_line) > 2 and _first_line(text) == around.next_line)
        if place.tier.kind == "file":
            away = abs(place.offset - segment.end_of(0))
            distance = min(distance or away, away)
        else:
            paths[segment.paths[segment.file_at(place.offset)]] = None
    begun = around.begun if _WORD_BYTE.match(end) else b""
    words_of_end = _WORD.findall(begun + end)
    known, file_lines = around.file
    n_open, lowest = _n_open(end, around.n_open)
    return LineEvidence(
        agreements={
            kind: Agreement(max(found), found.count(max(found)) / agreeing[kind, max(found)], len(found))
            for kind, found in by_kind.items()
        },
        longest=longest,
        n_typed=around.n_typed,
        n_below=n_below,
        is_same_below=is_same_below,
        words_above=words_above,
        words_below=words_below,
        n_bytes=len(end),
        distance=distance,
        n_unknown=sum(word not in known for word in words_of_end),
        n_words=len(words_of_end),
        n_same_lines=file_lines[(around.line + end).strip()],
        closes_too_much=lowest < 0 <= around.n_open,
        leaves_open=n_open > 0,
        folder=max((around.shared(path) for path in paths), default=0.0),
        n_files=len(paths),
        repeats_word=any(word in around.line for word in words_of_end),
        begins_blank=end[:1].isspace(),
        n_begun=len(begun),
    )


def _places(tier: Tier, past: bytes) -> Iterator[Place]:
    """Places that agree with `past`, the longest agreement first."""
    segment = tier.segment
    seen: set[int] = set()
    match = segment.longest(past)
    for _ in range(MAX_LENGTHS):
        if match is NO_MATCH or len(seen) >= MAX_TIER_PLACES:
            return
        for offset in segment.places(match, MAX_PLACES):
            if offset not in seen:
                seen.add(offset)
                if not tier.hidden or segment.file_at(offset) not in tier.hidden:
                    yield Place(tier, offset, match.n_bytes)
        match = segment.shorter(past, match)


def _line_start(place: Place, n_line: int) -> int:
    """The offset at which the line of a place starts; `n_line` bytes stand before the cursor in its own."""
    if place.n_bytes > n_line:
        return place.offset - n_line
    before = place.tier.segment.preceding(place.offset, MAX_LINE_BYTES)
    return place.offset - len(before) + before.rfind(b"\n") + 1


def _first_line(text: bytes) -> bytes:
    """The first line that is not blank, without blanks around it."""
    return text.lstrip().split(b"\n", 1)[0].rstrip()


def _overlap(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    """The share of words that two texts have in common (Jaccard), 0..1."""
    n_shared = len(one & other)
    return n_shared / (len(one) + len(other) - n_shared) if n_shared else 0.0


def _n_open(text: bytes, before: int = 0) -> tuple[int, int]:
    """How many brackets are open at the end of `text`, and the least on the way; strings are not told apart."""
    lowest = before
    for byte in text.translate(None, _NO_BRACKETS):
        before += 1 if byte in _OPENING else -1
        lowest = min(lowest, before)
    return before, lowest
