"""chrF: how much of a reference sentence's characters a written sentence has (Popović 2015).

Character n-grams up to six, blanks left out; precision and recall averaged over the lengths, recall counted twice as
much (beta 2, the usual setting). Forgiving about endings and word order, unlike an exact match.
"""

from __future__ import annotations

from collections import Counter

MAX_LENGTH = 6
BETA = 2.0


def chrf(written: str, reference: str) -> float:
    """0 for nothing in common to 1 for the same text. Lengths that one of the texts is too short for do not count."""
    precisions: list[float] = []
    recalls: list[float] = []
    for length in range(1, MAX_LENGTH + 1):
        found, wanted = _grams(written, length), _grams(reference, length)
        if found and wanted:
            n_common = (found & wanted).total()
            precisions.append(n_common / found.total())
            recalls.append(n_common / wanted.total())
    precision, recall = _mean(precisions), _mean(recalls)
    if precision + recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _grams(text: str, length: int) -> Counter[str]:
    packed = "".join(text.split())
    return Counter(packed[at : at + length] for at in range(len(packed) - length + 1))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
