"""Which files are learned from, which choose the best state, and which judge. Copies of one text are on one side.

By hash of the path, so that the same files judge in the next run, or the files that were changed last. At least two
texts judge, four where there are sixteen: one tells nothing of others, and no interval over it would ever let an
adapter be published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from finetune.collect import SourceText
from server.lm.errors import UserError
from server.repository.listing import git_says

HELD_OUT_SHARE, VALIDATION_SHARE = 0.15, 0.08
MIN_HELD_OUT_GROUPS, FEW_HELD_OUT_GROUPS = 2, 4  # the fewer judge, the surer all of them must be
MIN_GROUPS = MIN_HELD_OUT_GROUPS + 2  # one to choose, and one to learn from
MIN_PART_BYTES = 600  # of the files that choose or judge: fewer give no row
SAME = 0.5  # of their runs of words: files that share so much are on one side
N_COMPARED = 4  # files before it that a file is compared with, of all that share three hashes with it

Holdout = Literal["hash", "newest"]


@dataclass(frozen=True, slots=True)
class Split:
    """Every file is in one of them, by path."""

    train: tuple[SourceText, ...]
    validation: tuple[SourceText, ...]
    heldout: tuple[SourceText, ...]

    @property
    def parts(self) -> tuple[tuple[SourceText, ...], ...]:
        """All three, in this order."""
        return self.train, self.validation, self.heldout


def split(root: Path, files: Sequence[SourceText], holdout: Holdout = "hash", seed: int = 0) -> Split:
    """The parts; none is empty. UserError where files that share much of their text are fewer than `MIN_GROUPS`."""
    groups = _groups(files)
    if len(groups) < MIN_GROUPS:
        raise UserError(
            f"{len(files)} files share so much of their text that they are {len(groups)} group"
            f"{'s' * (len(groups) != 1)}, at least {MIN_GROUPS} are needed: one to learn from, one to choose the best "
            f"state, {MIN_HELD_OUT_GROUPS} to judge"
        )
    if holdout == "newest":
        newest = {path: -number for number, path in enumerate(_newest_first(root, files))}
        groups.sort(key=lambda group: -max(newest[file.path] for file in group))
    else:
        groups.sort(key=lambda group: _drawn(seed, group[0].path))
    n_heldout, n_validation = (round(share * len(files)) for share in (HELD_OUT_SHARE, VALIDATION_SHARE))
    n_judging = min(max(len(groups) // 4, MIN_HELD_OUT_GROUPS), FEW_HELD_OUT_GROUPS)
    heldout, groups = _taken(groups, n_heldout, n_groups=n_judging, n_kept=2)
    validation, groups = _taken(groups, n_validation, n_groups=1, n_kept=1)
    train = [file for group in groups for file in group]
    return Split(*(tuple(sorted(part, key=lambda file: file.path)) for part in (train, validation, heldout)))


def _taken(
    groups: Sequence[list[SourceText]], n_files: int, n_groups: int, n_kept: int
) -> tuple[list[SourceText], list[list[SourceText]]]:
    """About `n_files` files of the first groups that are not too large, and the other groups, at least `n_kept`.

    The files are of at least `n_groups` groups. ValueError where there are fewer than that and `n_kept` together.
    """
    if len(groups) < n_groups + n_kept:
        raise ValueError(f"{len(groups)} groups, {n_groups} are to be taken and {n_kept} kept")
    n_files = max(n_files, n_groups)
    taken: list[list[SourceText]] = []
    others: list[list[SourceText]] = []
    for number, group in enumerate(groups):
        n_others, n_taken = len(others) + len(groups) - number - 1, sum(map(len, taken))
        is_wanted = n_taken < n_files or len(taken) < n_groups
        if is_wanted and n_taken + len(group) <= 2 * n_files and n_others >= n_kept:
            taken.append(group)
        else:
            others.append(group)
    while len(taken) < n_groups:
        taken.append(others.pop(min(range(len(others)), key=lambda number: len(others[number]))))
    while not _is_enough(taken, n_groups) and len(others) > n_kept:
        large = [number for number, group in enumerate(others) if _size(group) >= MIN_PART_BYTES]
        if not large:
            break
        taken.append(others.pop(min(large, key=lambda number: _size(others[number]))))
    return [file for group in taken for file in group], others


def _is_enough(groups: Sequence[Sequence[SourceText]], n_groups: int) -> bool:
    """Whether there is text beside the `n_groups` - 1 largest groups too."""
    sizes = sorted(map(_size, groups))
    return sum(sizes[: len(sizes) - n_groups + 1]) >= MIN_PART_BYTES


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

    for one, other in _alike(files):
        parent[root_of(other)] = root_of(one)
    groups: dict[int, list[SourceText]] = {}
    for number, file in enumerate(files):
        groups.setdefault(root_of(number), []).append(file)
    return list(groups.values())


def _alike(files: Sequence[SourceText]) -> Iterator[tuple[int, int]]:
    """Pairs of files that share much of their text; chains of pairs reach nearly all that do."""
    if len(files) < 2:
        return
    signatures = np.stack([file.fingerprint.signature for file in files])
    # Of two files that share half of their runs, one of forty triples of hashes is nearly always the same.
    for band in range(0, signatures.shape[1] - 2, 3):
        triples = signatures[:, band : band + 3]
        order = np.lexsort(triples.T)
        for distance in range(1, N_COMPARED + 1):
            ones, others = order[:-distance], order[distance:]  # none where there are fewer files
            is_candidate = (triples[ones] == triples[others]).all(axis=1)
            ones, others = ones[is_candidate], others[is_candidate]
            is_same = (signatures[ones] == signatures[others]).mean(axis=1) >= SAME
            yield from zip(ones[is_same].tolist(), others[is_same].tolist(), strict=True)


def _newest_first(root: Path, files: Sequence[SourceText]) -> list[str]:
    """The paths, those of the newest commits first; by time of change where git says nothing."""
    # Renames are looked for in the files' content, and a signature would be checked by a program of the user's choice.
    command = ["log", "--name-only", "--format=", "--relative", "-z", "-n", "2000", "--no-renames"]
    said = git_says(root, [*command, "--no-show-signature"]) or ""
    by_time = [file.path for file in sorted(files, key=lambda file: -file.mtime_ns)]
    wanted = set(by_time)
    named = (name for name in said.replace("\n", "\0").split("\0") if name in wanted)
    return list(dict.fromkeys([*named, *by_time]))


def _drawn(seed: int, path: str) -> bytes:
    return hashlib.sha256(f"{seed}/{path}".encode("utf-8", "surrogatepass")).digest()
