"""Code of packages that no model of ours has learned from: what an adapter must not make harder to predict.

It ships with this package, with its licences. One part says how strong an adapter may be, another one judges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from finetune.base import Base
from finetune.examples import Rows, left_to_right

FOLDER = Path(__file__).parent / "general_code"
MAX_BYTES = 60_000  # of each part


def judging_files() -> list[tuple[str, str]]:
    """Path and text of what the gate looks at, the same in every run."""
    return _parts()[0]


def choosing_files() -> list[tuple[str, str]]:
    """Path and text of what says how strong an adapter may be; none of it is looked at by the gate."""
    return _parts()[1]


def choosing_rows(base: Base, length: int) -> Rows:
    """The same as rows of `length` + 1 ids, left to right; behind the path where the base knows the marker of one."""
    return left_to_right(choosing_files(), base.tokenizer, length, base.knows_markers)


def _parts() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Two parts of at most `MAX_BYTES`, drawn by hash."""
    parts: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    n_left = [MAX_BYTES, MAX_BYTES]
    for path, text in _files():
        for number, part in enumerate(parts):
            if 0 < len(text) <= n_left[number]:
                n_left[number] -= len(text)
                part.append((path, text))
                break
    return parts


def _files() -> Iterator[tuple[str, str]]:
    paths = sorted(FOLDER.rglob("*.py.txt"), key=lambda path: hashlib.sha256(path.name.encode()).digest())
    for path in paths:
        yield path.relative_to(FOLDER).as_posix().removesuffix(".txt"), path.read_text(encoding="utf-8")
