"""What an interrupted run goes on with: the rows and the split that it was started with."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.base import Base, open_base
from finetune.collect import SourceText
from finetune.examples import Examples
from finetune.kept_run import KEPT_FILE, ROWS_FILE, KeptRun, keep_run, read_run
from finetune.planning import Plan
from server.lm.errors import UserError
from server.repository.duplicates import fingerprint


@pytest.fixture
def base(tiny_checkpoint: Path) -> Base:
    return open_base(str(tiny_checkpoint))


@pytest.fixture
def run(base: Base) -> KeptRun:
    table = np.arange(24, dtype=np.uint16).reshape(4, 6)
    return KeptRun(
        plan=Plan(steps=3, seed=7),
        examples=Examples(table, table[:2], table[2:], 0.5),
        base=base.identity.fingerprint,
        seed=7,
        time_budget_s=60.0,
        include=("a*",),
        exclude=(),
        holdout="hash",
        is_timed=True,
        learned={"a.py": "00", "b.py": "11"},
        validation=("c.py",),
        heldout=("d.py", "e.py"),
        commit="0123abcd",
    )


def source(path: str) -> SourceText:
    return SourceText(path, path, "python", 0, 0, fingerprint(path))


def test_a_run_is_read_as_it_was_kept(tmp_path: Path, run: KeptRun, base: Base) -> None:
    keep_run(tmp_path / "run", run)
    found = read_run(tmp_path / "run", tmp_path, base)
    np.testing.assert_array_equal(found.examples.train, run.examples.train)
    np.testing.assert_array_equal(found.examples.validation, run.examples.validation)
    np.testing.assert_array_equal(found.examples.general, run.examples.general)
    assert found.examples.share_seen == 0.5
    assert replace(found, examples=run.examples) == run


@pytest.mark.skipif(os.name == "nt", reason="files have no such modes there")
def test_the_text_in_a_run_is_for_the_user_alone(tmp_path: Path, run: KeptRun) -> None:
    (tmp_path / "run" / "train").mkdir(parents=True)
    keep_run(tmp_path / "run", run)
    assert (tmp_path / "run").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "run" / "train").exists()  # of a run before


def test_files_keep_their_part_and_later_ones_have_none(run: KeptRun) -> None:
    found = run.split_of([source(f"{name}.py") for name in "abcdxyz"])
    parts = [[file.path for file in part] for part in (found.train, found.validation, found.heldout)]
    assert parts == [["a.py", "b.py"], ["c.py"], ["d.py"]]
    with pytest.raises(UserError, match="start anew, without --resume"):
        run.split_of([source("a.py")])


def test_what_cannot_be_gone_on_from_is_one_sentence(tmp_path: Path, run: KeptRun, base: Base) -> None:
    with pytest.raises(UserError, match="no interrupted run of .* leave --resume out"):
        read_run(tmp_path, tmp_path, base)
    keep_run(tmp_path, replace(run, base="another"))
    with pytest.raises(UserError, match=r"was of the base another, --base is \w{12}; name that base"):
        read_run(tmp_path, tmp_path, base)
    keep_run(tmp_path, run)
    (tmp_path / ROWS_FILE).write_bytes(b"half")
    with pytest.raises(UserError, match="is damaged .* start anew"):
        read_run(tmp_path, tmp_path, base)
    (tmp_path / KEPT_FILE).write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_run(tmp_path, tmp_path, base)
