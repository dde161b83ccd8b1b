"""The function of the training text that is most like another one: what a search would answer instead of a model.

BM25 (Robertson and Zaragoza 2009, their usual k1 and b) over the names in the source, whole and by their words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from finetune.pretrain.passages import Explained, explained_passages
from finetune.pretrain.samples import SourceFile

K1, B = 1.2, 0.75
NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
PART_OF_NAME = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def training_functions(files: Iterable[SourceFile]) -> list[Explained]:
    """The functions of the files that have a docstring's first sentence."""
    return [
        passage for file in files for passage in explained_passages(file.path, file.text) if passage.kind == "function"
    ]


class SimilarFunctions:
    """Looks up functions by what they are like."""

    def __init__(self, functions: Sequence[Explained]) -> None:
        self._functions = functions
        counts = [Counter(terms(function.source)) for function in functions]
        sizes = np.array([count.total() for count in counts], dtype=np.float64)
        norms = K1 * (1 - B + B * sizes / max(sizes.mean(), 1.0)) if len(sizes) else sizes
        postings: dict[str, tuple[list[int], list[int]]] = {}
        for number, count in enumerate(counts):
            for term, n_times in count.items():
                numbers, times = postings.setdefault(term, ([], []))
                numbers.append(number)
                times.append(n_times)
        self._postings = {term: _weighted(*posting, norms) for term, posting in postings.items()}

    def find(self, source: str) -> Explained | None:
        """The most similar function, the first of equals; None where none has a name in common."""
        scores = np.zeros(len(self._functions))
        for term in sorted(set(terms(source)) & self._postings.keys()):
            numbers, weights = self._postings[term]
            scores[numbers] += weights
        best = int(scores.argmax()) if len(scores) else 0
        return self._functions[best] if len(scores) and scores[best] > 0 else None


def terms(source: str) -> list[str]:
    """The names in a source in small letters, and the words of those that have several."""
    found = []
    for name in NAME.findall(source):
        parts = [part.lower() for part in PART_OF_NAME.findall(name)]
        found += parts if len(parts) < 2 else [name.lower(), *parts]
    return found


def _weighted(
    numbers: list[int], times: list[int], norms: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The functions that have a term, with what the term is worth in each."""
    places, n_times = np.array(numbers, dtype=np.int64), np.array(times, dtype=np.float64)
    rarity = np.log(1 + (len(norms) - len(places) + 0.5) / (len(places) + 0.5))
    return places, rarity * n_times * (K1 + 1) / (n_times + norms[places])
