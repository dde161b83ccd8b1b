"""Who learns, who chooses, who judges: every file once, copies on one side, the same in every run."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.collect import SourceText
from finetune.split import MIN_PART_BYTES, Split, split
from server.lm.errors import UserError
from server.repository.duplicates import fingerprint

NOWHERE = Path("/nowhere")


def source(path: str, text: str | None = None, mtime_ns: int = 0) -> SourceText:
    text = text or "".join(f"{path}_{number} = {number}\n" for number in range(30))
    return SourceText(path, text, "python", mtime_ns, 0, fingerprint(text))


def sources(n: int) -> list[SourceText]:
    return [source(f"file_{number}.py") for number in range(n)]


def paths(part: Sequence[SourceText]) -> set[str]:
    return {file.path for file in part}


@given(st.integers(3, 60), st.integers(0, 3))
def test_every_file_is_in_one_part_and_no_part_is_empty(n: int, seed: int) -> None:
    parts = split(NOWHERE, sources(n), seed=seed)
    found = [paths(part) for part in (parts.train, parts.validation, parts.heldout)]
    assert all(found) and sum(map(len, found)) == n and len(set.union(*found)) == n
    assert len(found[0]) >= max(len(found[1]), len(found[2])) or n < 6


def test_the_same_files_judge_in_every_run_and_others_by_another_seed() -> None:
    files = sources(60)
    assert split(NOWHERE, files) == split(NOWHERE, files[::-1]) or paths(split(NOWHERE, files).heldout) == paths(
        split(NOWHERE, files[::-1]).heldout
    )
    assert paths(split(NOWHERE, files, seed=1).heldout) != paths(split(NOWHERE, files, seed=2).heldout)


def side_of(parts: Split, path: str) -> int:
    return [path in paths(part) for part in (parts.train, parts.validation, parts.heldout)].index(True)


@pytest.mark.parametrize("seed", range(12))
def test_near_copies_are_on_one_side(seed: int) -> None:
    text = "".join(f"value_{number} = compute(value_{number - 1}, {number})\n" for number in range(80))
    files = [*sources(20), source("one.py", text), source("two.py", text.replace("compute", "compute", 1) + "z = 1\n")]
    parts = split(NOWHERE, files, seed=seed)
    assert side_of(parts, "one.py") == side_of(parts, "two.py")


def near_copies(n: int) -> list[SourceText]:
    text = "".join(f"value_{number} = compute(value_{number - 1}, {number})\n" for number in range(80))
    return [source(f"copy_{number}.py", f"{text}tail_{number} = {number}\n") for number in range(n)]


@pytest.mark.parametrize("seed", range(12))
def test_a_large_group_is_learned_from(seed: int) -> None:
    parts = split(NOWHERE, [*sources(20), *near_copies(30)], seed=seed)
    assert side_of(parts, "copy_0.py") == 0 and len(parts.heldout) <= 16 and len(parts.validation) <= 8


@pytest.mark.parametrize("n_others", [0, 1])
def test_what_is_one_text_over_and_over_is_refused(n_others: int) -> None:
    with pytest.raises(UserError, match=rf"{n_others + 5} files share .* at least 3"):
        split(NOWHERE, [*sources(n_others), *near_copies(5)])


@pytest.mark.parametrize("seed", range(12))
def test_small_files_alone_neither_choose_nor_judge(seed: int) -> None:
    small = [source(f"small_{number}.py", f"from shop import part_{number}\n" * 2) for number in range(8)]
    large = [source(f"large_{n}.py", "".join(f"large_{n}_{i} = {i}\n" for i in range(90))) for n in range(5)]
    parts = split(NOWHERE, [*small, *large], seed=seed)
    for part in (parts.train, parts.validation, parts.heldout):
        assert sum(len(file.text) for file in part) >= MIN_PART_BYTES


def test_the_files_that_changed_last_can_judge(tmp_path: Path) -> None:
    files = [source(f"file_{number}.py", mtime_ns=number) for number in range(20)]
    assert paths(split(NOWHERE, files, "newest").heldout) == {"file_17.py", "file_18.py", "file_19.py"}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    for number in (5, 3, 9):
        (tmp_path / f"file_{number}.py").write_text("x\n")
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", "x"], check=True)
    assert paths(split(tmp_path, files, "newest").heldout) == {"file_5.py", "file_3.py", "file_9.py"}
