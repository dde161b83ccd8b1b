"""Which files are learned from, which choose the best state, and which judge. Copies of one text are on one side.

By hash of the path, so that the same files judge in the next run, or the files that were changed last.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune.collect import SourceText
from server.lm.errors import UserError
from server.repository.duplicates import similarity

HELD_OUT_SHARE, VALIDATION_SHARE = 0.15, 0.08
MIN_PART_BYTES = 600  # of the files that choose or judge: fewer give no row
SAME = 0.5  # of their runs of words: files that share so much are on one side
MAX_COMPARED = 3_000  # files; beyond that only those of one folder are compared

Holdout = Literal["hash", "newest"]


@dataclass(frozen=True, slots=True)
class Split:
    """Every file is in one of them, by path."""

    train: tuple[SourceText, ...]
    validation: tuple[SourceText, ...]
    heldout: tuple[SourceText, ...]


def split(root: Path, files: Sequence[SourceText], holdout: Holdout = "hash", seed: int = 0) -> Split:
    """The parts; none is empty. UserError where files that share much of their text are fewer than three groups."""
    groups = _groups(files)
    if len(groups) < 3:
        raise UserError(
            f"{len(files)} files share so much of their text that they are {len(groups)} group"
            f"{'s' * (len(groups) != 1)}, at least 3 are needed to learn, to choose and to judge apart from each other"
        )
    if holdout == "newest":
        newest = {path: -number for number, path in enumerate(_newest_first(root, files))}
        groups.sort(key=lambda group: -max(newest[file.path] for file in group))
    else:
        groups.sort(key=lambda group: _drawn(seed, group[0].path))
    n_heldout, n_validation = (max(round(share * len(files)), 1) for share in (HELD_OUT_SHARE, VALIDATION_SHARE))
    heldout, groups = _taken(groups, n_heldout, n_kept=2)
    validation, groups = _taken(groups, n_validation, n_kept=1)
    train = [file for group in groups for file in group]
    return Split(*(tuple(sorted(part, key=lambda file: file.path)) for part in (train, validation, heldout)))


def _taken(
    groups: Sequence[list[SourceText]], n_files: int, n_kept: int
) -> tuple[list[SourceText], list[list[SourceText]]]:
    """About `n_files` files of the first groups that are not too large, and the other groups, at least `n_kept`."""
    taken: list[SourceText] = []
    others: list[list[SourceText]] = []
    for number, group in enumerate(groups):
        n_others = len(others) + len(groups) - number - 1
        if len(taken) < n_files and len(taken) + len(group) <= 2 * n_files and n_others >= n_kept:
            taken += group
        else:
            others.append(group)
    if not taken:
        taken += others.pop(min(range(len(others)), key=lambda number: len(others[number])))
    if _size(taken) < MIN_PART_BYTES and len(others) > n_kept:
        large = [number for number, group in enumerate(others) if _size(group) >= MIN_PART_BYTES]
        if large:
            taken += others.pop(min(large, key=lambda number: _size(others[number])))
    return taken, others


def _size(files: Sequence[SourceText]) -> int:
    return sum(len(file.text) for file in files)


def _groups(files: Sequence[SourceText]) -> list[list[SourceText]]:
    """Files that share much of their text, together; the others alone."""
    parent = list(range(len(files)))

    def root_of(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    by_band: dict[bytes, list[int]] = {}
    for number, file in enumerate(files):
        folder = file.path.rpartition("/")[0].encode() if len(files) > MAX_COMPARED else b""
        # Of two files that share half of their runs, one of forty triples of hashes is nearly always the same.
        signature = file.fingerprint.signature
        for band in range(0, len(signature) - 2, 3):
            by_band.setdefault(folder + bytes([band]) + signature[band : band + 3].tobytes(), []).append(number)
    for numbers in by_band.values():
        for number in numbers[1:]:
            if similarity(files[numbers[0]].fingerprint, files[number].fingerprint) >= SAME:
                parent[root_of(number)] = root_of(numbers[0])
    groups: dict[int, list[SourceText]] = {}
    for number, file in enumerate(files):
        groups.setdefault(root_of(number), []).append(file)
    return list(groups.values())


def _newest_first(root: Path, files: Sequence[SourceText]) -> list[str]:
    """The paths, those of the newest commits first; by time of change where git says nothing."""
    command = ["git", "-C", str(root), "log", "--name-only", "--format=", "--relative", "-z", "-n", "2000"]
    by_time = [file.path for file in sorted(files, key=lambda file: -file.mtime_ns)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return by_time
    names = done.stdout.replace("\n", "\0").split("\0") if done.returncode == 0 else []
    wanted = set(by_time)
    return list(dict.fromkeys([*(name for name in names if name in wanted), *by_time]))


def _drawn(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}/{path}".encode("utf-8", "surrogatepass")).digest()
