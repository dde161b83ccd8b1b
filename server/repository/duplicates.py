"""Exact and near duplicates among many texts: the first one stays.

MinHash over runs of five words, candidates by banding, then compared by their whole signature
(Broder 1997; parameters near those used for The Stack, arXiv 2211.15533). Knows nothing of files or languages.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 5
N_BANDS = 24
ROWS = 5  # 24 bands of 5 rows make a candidate of 97 % of all pairs that share 70 % of their runs
SIMILARITY = 0.7

_CHUNK = 1024
_BASE = 0x9E3779B97F4A7C15  # odd, so that its powers have inverses modulo 2**64


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is remembered of a text: a digest for equality, a signature for likeness."""

    digest: bytes
    signature: NDArray[np.uint32]  # (N_BANDS * ROWS,)


Duplicate = Literal["exact duplicate", "near duplicate"]


class DuplicateFilter:
    """Remembers the texts that stayed; owned by one caller, who decides the order."""

    def __init__(self, similarity: float = SIMILARITY) -> None:
        self._similarity = similarity
        self._digests: set[bytes] = set()
        self._signatures: list[NDArray[np.uint32]] = []
        self._buckets: dict[bytes, list[int]] = {}

    def add(self, fingerprint: Fingerprint) -> Duplicate | None:
        """What the text repeats, or None for a new text, which is then remembered."""
        if fingerprint.digest in self._digests:
            return "exact duplicate"
        keys = _band_keys(fingerprint.signature)
        candidates = sorted({index for key in keys for index in self._buckets.get(key, ())})
        if candidates:
            shared = np.stack([self._signatures[index] for index in candidates]) == fingerprint.signature
            if float(shared.mean(axis=1).max()) >= self._similarity:
                return "near duplicate"
        self._digests.add(fingerprint.digest)
        for key in keys:
            self._buckets.setdefault(key, []).append(len(self._signatures))
        self._signatures.append(fingerprint.signature)
        return None


def fingerprint(text: str) -> Fingerprint:
    """Fingerprint of a text; blanks at line ends and blank lines do not count, so `\\r\\n` equals `\\n`."""
    lines = (line.rstrip() for line in text.split("\n"))
    bare = "\n".join(line for line in lines if line).encode("utf-8", "replace")
    return Fingerprint(blake2b(bare, digest_size=16).digest(), minhash(shingles(bare)))


def similarity(one: Fingerprint, other: Fingerprint) -> float:
    """Estimated share of word runs that two texts have in common, 0..1; standard error about 0.04."""
    return float((one.signature == other.signature).mean())


def shingles(text: bytes) -> NDArray[np.uint64]:
    """Distinct hashes of all runs of five words, sorted. A text with fewer words is one run."""
    data = np.frombuffer(text, dtype=np.uint8)
    word = np.zeros(len(data) + 2, dtype=np.int8)
    word[1:-1] = _is_word()[data]
    edges = np.diff(word)
    starts = np.flatnonzero(edges == 1)
    ends = np.flatnonzero(edges == -1)
    # The hash of a word is a difference of prefix sums of byte * base**place, divided by base**start:
    # no loop over words in Python.
    powers, inverses = _powers(_round_up(len(data) + 1))
    sums = np.zeros(len(data) + 1, dtype=np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers[: len(data)], out=sums[1:])
    words = _mix((sums[ends] - sums[starts]) * inverses[starts])
    if len(words) < SHINGLE_WORDS:
        words = np.concatenate([words, np.zeros(SHINGLE_WORDS - len(words), dtype=np.uint64)])
    n_runs = len(words) - SHINGLE_WORDS + 1
    runs = np.zeros(n_runs, dtype=np.uint64)
    for place in range(SHINGLE_WORDS):
        runs = runs * np.uint64(_BASE) + words[place : place + n_runs]
    return np.unique(_mix(runs))


def minhash(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """For each of `N_BANDS * ROWS` fixed hash functions, its smallest value over the hashes."""
    factors, offsets = _functions()
    smallest = np.full(len(factors), np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(hashes), _CHUNK):
        values = hashes[start : start + _CHUNK, None] * factors + offsets
        np.minimum(smallest, (values >> np.uint64(32)).min(axis=0).astype(np.uint32), out=smallest)
    return smallest


def _band_keys(signature: NDArray[np.uint32]) -> list[bytes]:
    return [bytes([band]) + signature[band * ROWS : (band + 1) * ROWS].tobytes() for band in range(N_BANDS)]


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_up(n_bytes: int) -> int:
    return max(1 << 18, 1 << n_bytes.bit_length())


@lru_cache(maxsize=2)
def _powers(n_places: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    powers = np.full(n_places, _BASE, dtype=np.uint64)
    inverses = np.full(n_places, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers, dtype=np.uint64), np.cumprod(inverses, dtype=np.uint64)


@lru_cache(maxsize=1)
def _functions() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    seeds = _mix(np.arange(1, 2 * N_BANDS * ROWS + 1, dtype=np.uint64) * np.uint64(_BASE))
    return seeds[::2] | np.uint64(1), seeds[1::2]


@lru_cache(maxsize=1)
def _is_word() -> NDArray[np.int8]:
    table = np.zeros(256, dtype=np.int8)
    for code in range(256):
        table[code] = code >= 128 or chr(code).isalnum() or chr(code) == "_"
    return table
