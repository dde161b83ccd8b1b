"""The window of another file that is most like what stands above the cursor: where its rare words stand together.

Words are looked up in a segment's suffix array, the rare ones weigh most (idf, Spärck Jones 1972), and the window that
gathers most of their weight wins. What follows there is what was written after something like this. Asked about blocks
of lines, so that the answer stays while somebody types and the KV cache survives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Set
from dataclasses import dataclass

from server.index.segment import Segment
from server.lm.context import Document, Snippet

BLOCK_LINES = 8  # the lines above the cursor are compared as they stood at the last multiple of so many
COMPARED_LINES = 16
WINDOW_BYTES = 640  # about as many lines
SHOWN_BYTES = 1_000  # from the window's middle on: what is alike, and what follows
MAX_PLACES = 64  # of one word; what stands in more places says little
MAX_WORDS = 40  # the rarest of them
_WORD = re.compile(r"[A-Za-z_]\w{2,}")


@dataclass(frozen=True, slots=True)
class Similar:
    """A window, and how much of what was asked about it holds."""

    snippet: Snippet
    share: float  # of the words' weight, 0..1


def similar_window(document: Document, offset: int, segment: Segment, gone: Set[str] = frozenset()) -> Similar | None:
    """The window of another file, those `gone` left out, that is most like the lines above the cursor; None without."""
    lines = document.text[:offset].split("\n")
    n_above = (len(lines) - 1) // BLOCK_LINES * BLOCK_LINES
    words = sorted(set(_WORD.findall("\n".join(lines[max(n_above - COMPARED_LINES, 0) : n_above]))))
    besides = {segment.number_of(path) for path in (*gone, document.path)}
    weights: dict[str, float] = {}
    found: dict[str, list[int]] = {}
    for word in words:
        pattern = word.encode()
        match = segment.agreeing(pattern, len(pattern))
        weights[word] = math.log(1 + segment.n_bytes / WINDOW_BYTES / (match.n_places + 1))
        if match.n_places <= MAX_PLACES:
            found[word] = list(segment.places(match, MAX_PLACES))
    rarest = sorted(found, key=lambda word: (-weights[word], word))[:MAX_WORDS]
    gathered: dict[tuple[int, int], float] = {}  # by file and half window
    for word in rarest:
        halves = {(segment.file_at(place), place // (WINDOW_BYTES // 2)) for place in found[word]}
        for window in {(file, half - back) for file, half in halves for back in (0, 1) if file not in besides}:
            gathered[window] = gathered.get(window, 0.0) + weights[word]
    if not gathered:
        return None
    (number, half), weight = min(gathered.items(), key=lambda each: (-each[1], each[0]))
    start = max((half + 1) * (WINDOW_BYTES // 2), segment.end_of(number - 1) + 1 if number else 0)
    before = segment.preceding(start, WINDOW_BYTES // 2)
    start -= len(before) - before.rfind(b"\n") - 1  # of a whole line
    text = segment.following(start, SHOWN_BYTES).decode("utf-8", "ignore")
    text = text.rsplit("\n", 1)[0] if "\n" in text else text
    return Similar(Snippet(segment.paths[number], text), weight / sum(weights.values()))
