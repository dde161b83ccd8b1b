"""What weights are fitted on: the index of a tuning package as a server has it, and the cursors of most keys."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from server.index.build import build
from server.index.live import DEPENDENCIES, REPOSITORY, LiveIndex
from server.index.store import read_current
from server.index.texts import load_segments
from tests.bench.quality.cases import Case
from tests.bench.quality.repository import Repository, drawn
from tests.bench.table import BenchError

NAME = re.compile(r"[A-Za-z_]\w{3,}")


def index_of(repository: Repository, environment: Path | None) -> LiveIndex:
    """The index that a server has in the repository: cleaned, with the packages it imports, under their budgets.

    It is kept beside the repository, and mapped from there. BenchError where it cannot be read.
    """
    stored = repository.root.parent / "indexes" / repository.name
    build(repository.root, stored, environments=() if environment is None else (environment,))
    generation = read_current(stored)
    segments = None if generation is None else load_segments(generation)
    if segments is None:
        raise BenchError(f"the index of {repository.name} was not stored")
    index = LiveIndex()
    index.use(dict(zip((REPOSITORY, DEPENDENCIES), segments, strict=True)))
    return index


def inside_a_name(case: Case) -> Case | None:
    """The same line with the cursor inside one of its names, as it is for most keys; None for a line without one."""
    names = [found for found in NAME.finditer(case.target) if case.kind != "api_line" or found.start() == 0]
    if not names:
        return None
    name = names[int(drawn("name", case.id) * len(names))]
    cut = name.start() + 2 + int(drawn("cut", case.id) * (len(name[0]) - 2))
    return replace(case, before=case.before + case.target[:cut], target=case.target[cut:])
