"""Who learns, who chooses, who judges: every file once, copies on one side, the same in every run."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.collect import SourceText
from finetune.split import MIN_PART_BYTES, Split, split
from server.lm.errors import UserError
from server.repository.duplicates import Fingerprint, fingerprint

NOWHERE = Path("/nowhere")


def source(path: str, text: str | None = None, mtime_ns: int = 0) -> SourceText:
    text = text or "".join(f"{path}_{number} = {number}\n" for number in range(30))
    return SourceText(path, text, "python", mtime_ns, 0, fingerprint(text))


def sources(n: int) -> list[SourceText]:
    return [source(f"file_{number}.py") for number in range(n)]


def paths(part: Sequence[SourceText]) -> set[str]:
    return {file.path for file in part}


@given(st.integers(4, 60), st.integers(0, 3))
def test_every_file_is_in_one_part_and_no_part_is_empty(n: int, seed: int) -> None:
    parts = split(NOWHERE, sources(n), seed=seed)
    found = [paths(part) for part in (parts.train, parts.validation, parts.heldout)]
    assert all(found) and sum(map(len, found)) == n and len(set.union(*found)) == n
    assert len(found[0]) >= max(len(found[1]), len(found[2])) or n < 5
    assert len(found[2]) >= 2


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


@pytest.mark.parametrize("n_others", [0, 1, 2])
def test_what_is_one_text_over_and_over_is_refused(n_others: int) -> None:
    with pytest.raises(UserError, match=rf"{n_others + 5} files share .* {n_others + 1} group.* at least 4"):
        split(NOWHERE, [*sources(n_others), *near_copies(5)])


@pytest.mark.parametrize("seed", range(12))
def test_two_texts_judge_however_few_there_are(seed: int) -> None:
    for files in (sources(5), [*sources(3), *near_copies(5)], [*sources(3), *near_copies(2)]):
        parts = split(NOWHERE, files, seed=seed)
        assert len({path.startswith("copy") or path for path in paths(parts.heldout)}) >= 2


@pytest.mark.parametrize("seed", range(12))
def test_a_small_file_is_not_one_of_two_that_judge(seed: int) -> None:
    large = [source(f"large_{n}.py", "".join(f"large_{n}_{i} = {i}\n" for i in range(90))) for n in range(5)]
    parts = split(NOWHERE, [source("__init__.py", "import shop\n"), *large], seed=seed)
    assert sum(len(file.text) >= MIN_PART_BYTES for file in parts.heldout) >= 2


def drawn(path: str, signature: np.ndarray) -> SourceText:
    """A file whose text does not matter."""
    return SourceText(path, "x" * 900, "python", 0, 0, Fingerprint(path.encode(), signature.astype(np.uint32)))


@pytest.mark.parametrize("seed", range(4))
def test_copies_are_found_in_other_folders_of_a_large_repository(seed: int) -> None:
    rng = np.random.default_rng(seed)
    signatures = rng.integers(0, 2**32, (5_000, 120))
    signatures[4_999, :70] = signatures[0, :70]
    files = [drawn(f"folder_{number}/file.py", each) for number, each in enumerate(signatures)]
    parts = split(NOWHERE, files, seed=seed)
    assert side_of(parts, files[0].path) == side_of(parts, files[4_999].path)


@pytest.mark.parametrize("seed", range(12))
def test_copies_are_found_beside_others_that_begin_alike(seed: int) -> None:
    # The first triple is that of all of them; the two that are alike differ in each of the others.
    rng = np.random.default_rng(seed)
    signatures = rng.integers(0, 2**32, (20, 120))
    signatures[:, :3] = 7
    signatures[3:5, 3:] = signatures[3, 3:]
    signatures[4, 3::3] += 1
    files = [drawn(f"file_{number}.py", each) for number, each in enumerate(signatures)]
    assert side_of(parts := split(NOWHERE, files, seed=seed), "file_3.py") == side_of(parts, "file_4.py")


@pytest.mark.parametrize("seed", range(12))
def test_small_files_alone_neither_choose_nor_judge(seed: int) -> None:
    small = [source(f"small_{number}.py", f"from shop import part_{number}\n" * 2) for number in range(8)]
    large = [source(f"large_{n}.py", "".join(f"large_{n}_{i} = {i}\n" for i in range(90))) for n in range(5)]
    parts = split(NOWHERE, [*small, *large], seed=seed)
    for part in (parts.train, parts.validation, parts.heldout):
        assert sum(len(file.text) for file in part) >= MIN_PART_BYTES


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def committed(root: Path, numbers: Sequence[int]) -> Path:
    """A repository with a commit for each of these files, in this order."""
    root.mkdir(exist_ok=True)
    git(root, "init", "-q")
    for number in numbers:
        (root / f"file_{number}.py").write_text(f"x = {number}\n" * 30)
        git(root, "add", "-A")
        git(root, "commit", "-qm", "x")
    return root


def test_the_files_that_changed_last_can_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [source(f"file_{number}.py", mtime_ns=number) for number in range(20)]
    assert paths(split(NOWHERE, files, "newest").heldout) == {f"file_{number}.py" for number in range(16, 20)}
    root = committed(tmp_path / "one", (5, 3, 9))
    assert paths(split(root, files, "newest").heldout) == {"file_5.py", "file_3.py", "file_9.py", "file_19.py"}
    # As in a hook of another repository.
    monkeypatch.setenv("GIT_DIR", str(committed(tmp_path / "other", (1, 2, 4)) / ".git"))
    assert paths(split(root, files, "newest").heldout) == {"file_5.py", "file_3.py", "file_9.py", "file_19.py"}


def test_what_a_partial_clone_lacks_is_not_fetched(tmp_path: Path) -> None:
    origin, clone = committed(tmp_path / "origin", (5, 3, 9)), tmp_path / "clone"
    git(origin, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=tree:0", origin.as_uri(), str(clone))
    before = set((clone / ".git" / "objects").rglob("*"))
    files = [source(f"file_{number}.py", mtime_ns=number) for number in range(20)]
    assert paths(split(clone, files, "newest").heldout) == {f"file_{number}.py" for number in range(16, 20)}
    assert set((clone / ".git" / "objects").rglob("*")) == before


def test_no_program_of_the_repository_is_started(tmp_path: Path) -> None:
    root = committed(tmp_path / "one", (5, 3, 9))
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    program.chmod(0o755)
    commit = subprocess.run(
        ["git", "-C", str(root), "cat-file", "commit", "HEAD"], check=True, capture_output=True, text=True
    ).stdout
    head, _, message = commit.partition("\n\n")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ==\n -----END PGP SIGNATURE-----"
    signed = subprocess.run(
        ["git", "-C", str(root), "hash-object", "-t", "commit", "-w", "--stdin"],
        input=f"{head}\n{signature}\n\n{message}", check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    git(root, "update-ref", "HEAD", signed)
    for name, value in (("log.showSignature", "true"), ("gpg.program", str(program)), ("core.fsmonitor", str(program))):
        git(root, "config", name, value)
    files = [source(f"file_{number}.py", mtime_ns=number) for number in range(20)]
    assert paths(split(root, files, "newest").heldout) == {"file_5.py", "file_3.py", "file_9.py", "file_19.py"}
    assert not (tmp_path / "ran").exists()
