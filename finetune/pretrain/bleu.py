"""BLEU-4 of one sentence: how many of its words, pairs, triples and quadruples stand in a reference.

Geometric mean of the four precisions times a penalty for what is too short (Papineni et al. 2002), with one added to
the counts of pairs and longer ones, so that a sentence without a common quadruple is not worth nought (Lin and Och
2004). This is the BLEU that is usual for sentences on code, averaged over sentences.
"""

from __future__ import annotations

import math
import re
from collections import Counter

MAX_LENGTH = 4
WORD = re.compile(r"\w+|[^\w\s]")


def bleu(written: str, reference: str) -> float:
    """0 for no common word to 1 for the same words. Capitals do not count, punctuation marks are words."""
    found, wanted = WORD.findall(written.lower()), WORD.findall(reference.lower())
    if not found or not wanted:
        return 0.0
    logs = []
    for length in range(1, MAX_LENGTH + 1):
        grams = _grams(found, length)
        n_common = (grams & _grams(wanted, length)).total()
        added = int(length > 1)
        if n_common + added == 0:
            return 0.0
        logs.append(math.log((n_common + added) / (grams.total() + added)))
    too_short = min(0.0, 1.0 - len(wanted) / len(found))
    return math.exp(too_short + sum(logs) / MAX_LENGTH)


def _grams(words: list[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + length]) for at in range(len(words) - length + 1))
