"""The shipped model asked twice, on our own files: two runs of the quality table agree to the case."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench.options import Options
from tests.bench.quality import cases, explaining
from tests.bench.quality.comparison import compare
from tests.bench.quality.part import Found, measure, settings_of
from tests.bench.quality.repository import prepare
from tests.bench.repositories import Package

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOURCES = Path(__file__).resolve().parents[2] / "server"
N_A_KIND, N_FUNCTIONS = 5, 2


def test_two_runs_agree_to_the_case(tmp_path: Path) -> None:
    options = Options(files=())
    # A copy: somebody may be at work on the files.
    sources = shutil.copytree(SOURCES, tmp_path / "sources" / SOURCES.name)
    runs = []
    for name in ("first", "second"):
        repository = prepare(Package("python", "loracle", "0", "", "server"), sources, tmp_path / name)
        drawn = cases.draw(repository, N_A_KIND, frozenset())
        functions = explaining.draw(repository, N_FUNCTIONS)
        found = Found()
        measure(repository, drawn, functions, options.client, settings_of(options), found)
        assert not found.problems
        runs.append(found)
    first, second = ([each.as_json() for each in run.results] for run in runs)
    assert len(first) >= 2 * N_A_KIND
    assert any(each["answer"] for each in first)
    assert compare(first, second).agrees
    assert [each.sentences for each in runs[0].explained] == [each.sentences for each in runs[1].explained]
