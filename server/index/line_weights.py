"""How likely the line at a cursor ends as it does at a place like it: a conditional logit over the ends found.

All ends at one cursor are weighed together, and with them that none of them is right (McFadden 1974). Fitted by the
likelihood of held-out lines; data, script and gain are named where the numbers stand. And how much likelier than the
model's text such an end must be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from server.index.weights import Kind

KINDS: tuple[Kind, ...] = ("file", "repository", "dependencies")
MAX_COUNTED_BYTES = 64
LEAST = 1e-9  # probability
# From this probability a line is offered whatever the model says, which nobody waits for then. Set by hand: up to here
# it is measured how often lines and the model's texts are right at which probability (ARCHITECTURE.md, decision 22).
SURE = 0.8
# So many times as likely as the model's text a line must be. With 3.0 more whole lines are right (28.6 % in `make
# quality` for 27.9), but whoever types saves 47 % of the keystrokes for 69 (`make bench`), so it stays at 1
# (ARCHITECTURE.md, decision 22). Again: `python -P -m tests.bench.fit_choice`.
TIMES_AS_LIKELY = 1.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the text before a cursor agrees with that before some places of one kind that go on alike."""

    n_bytes: int  # the longest
    share: float  # 0..1, of the places that agree so far
    n_places: int  # that agree so far or less


@dataclass(frozen=True, slots=True)
class LineEvidence:
    """What there is to judge one end of the line by."""

    agreements: Mapping[Kind, Agreement]
    longest: int  # bytes of agreement, of any end at this cursor
    n_typed: int  # bytes of the line before the cursor, without its indentation
    n_below: int  # bytes of the lines below that agree
    is_same_below: bool  # the next line that is not blank
    words_above: float  # 0..1: shared words among those above the cursor and above the place, at best
    words_below: float
    n_bytes: int  # of the end itself
    distance: int  # bytes to the nearest place in the same file; 0 where there is none
    n_unknown: int  # words that stand nowhere in the file
    n_words: int
    n_same_lines: int  # in the file
    closes_too_much: bool  # brackets that the line has not opened
    leaves_open: bool
    folder: float  # 0..1: how much of the path is shared
    n_files: int
    repeats_word: bool  # of the line before the cursor
    begins_blank: bool
    n_begun: int  # bytes of a word that has begun before the cursor and goes on


def features(evidence: LineEvidence) -> tuple[float, ...]:
    """The inputs of the logit; all within some units of nought."""
    found: list[float] = []
    for kind in KINDS:
        agreement = evidence.agreements.get(kind)
        if agreement is None:
            found += (0.0, 0.0, 0.0, 0.0, 0.0)
            continue
        length = math.log2(1 + agreement.n_bytes)
        found += (1.0, length, _counted(agreement.n_bytes), agreement.share * length / 4)
        found.append(math.log2(agreement.n_places))
    n_bytes = max(agreement.n_bytes for agreement in evidence.agreements.values())
    length, below = math.log2(1 + n_bytes), math.log2(1 + evidence.n_below)
    is_blank = evidence.n_typed == 0
    return (
        *found,
        float(n_bytes == evidence.longest),
        length - math.log2(1 + evidence.longest),
        below,
        _counted(evidence.n_below),
        float(evidence.is_same_below),
        4 * evidence.words_above,
        4 * evidence.words_below,
        math.log2(max(evidence.n_bytes, 1)) / 2,
        float(is_blank) * length,
        float(is_blank),
        math.log2(1 + evidence.distance) / 4,
        float(n_bytes > evidence.n_typed + 1),
        min(n_bytes, evidence.n_typed) / 8,
        float(evidence.begins_blank),
        length * below / 4,
        evidence.n_unknown / max(evidence.n_words, 1),
        math.log2(1 + evidence.n_unknown),
        math.log2(1 + evidence.n_same_lines),
        float(evidence.closes_too_much),
        float(evidence.leaves_open),
        evidence.folder,
        math.log2(1 + evidence.n_files),
        float(evidence.repeats_word),
        float(evidence.n_begun > 0),
        float(evidence.n_begun > 0) * length,
        float(0 < evidence.n_begun < n_bytes),
        math.log2(1 + evidence.n_begun),
    )


def probabilities(found: Sequence[LineEvidence]) -> list[float]:
    """How likely each end is the right one, 0..1; what is missing to 1 is the chance that none is."""
    totals = [CONSTANT + sum(map(mul, WEIGHTS, features(each))) for each in found]
    highest = max([0.0, *totals])
    shares = [math.exp(total - highest) for total in totals]
    whole = sum(shares) + math.exp(-highest)
    return [max(share / whole, LEAST) for share in shares]


def bar_for(confidence: float) -> float:
    """How likely a line must be, 0..1, to be offered instead of a text that the model finds so likely."""
    return min(TIMES_AS_LIKELY * confidence, SURE)


def _counted(n_bytes: int) -> float:
    return min(n_bytes, MAX_COUNTED_BYTES) / 16


# Fitted on some 3,200 cursors in held-out lines of tweepy, mitmproxy, fabric and pychromecast, half of them inside
# names. Fitted on three of the packages, the likeliest end is the right one at 28.5 % of the cursors in the fourth;
# plain copying is right at 24.9 %.
# Again: `python -P -m tests.bench.fit_lines` prints these rows, in the order of `features`.
CONSTANT = -4.862
WEIGHTS: tuple[float, ...] = (
    *(-1.971, -0.295, 0.082, 1.938, 0.463),  # the file
    *(-1.300, 0.031, -0.175, 1.880, -0.039),  # the repository
    *(-0.465, -0.324, 0.247, 1.212, -0.209),  # the packages that it imports
    *(0.783, 0.334),  # the longest agreement
    *(0.362, 0.277, 1.341),  # the lines below
    *(0.772, 0.682),  # words above and below
    *(-0.930, 0.337, -1.959, 0.540),  # length; blank line; distance
    *(0.894, 0.190, -0.387, -0.160),  # how much of the line agrees; blanks; above with below
    *(0.364, -1.287, 0.217),  # unknown words; lines of the file that say the same
    *(-1.658, -0.598),  # brackets
    *(0.555, 0.608),  # folder; files
    *(0.662,),  # a word repeated
    *(-0.014, 0.002, 0.417, 0.369),  # a word that has begun
)
