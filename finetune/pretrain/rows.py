"""Makes the files of training rows: corpus in, one array of token ids out.

Which files are taken follows from the seed and their names alone. Packages are capped, so that a family of generated
clients does not crowd out everything else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune.pretrain.manifest import Split, read_manifest
from finetune.pretrain.provenance import Provenance, provenance_path, write_provenance
from finetune.pretrain.samples import RowBuilder, SourceFile
from finetune.pretrain.shards import Rows
from server.lm.errors import UserError
from server.lm.tokenizer import Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

MAX_VOCAB_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Which rows to make from a corpus folder."""

    corpus: Path
    tokenizer: Path  # folder with tokenizer.json
    output: Path  # .npy
    length: int = 512
    max_tokens: int | None = None
    max_package_bytes: int = 2_000_000
    seed: int = 1
    split: Split = "train"


def read_files(corpus: Path, split: str) -> Iterator[SourceFile]:
    """The files of `train` or `heldout`, in the order of the corpus."""
    path = corpus / f"{split}.jsonl"
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                yield SourceFile(entry["package"], entry["path"], entry["text"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read the corpus file {path}: {error}; make it with `finetune.pretrain corpus`"
        ) from error


def by_package(files: Iterable[SourceFile], max_package_bytes: int, seed: int) -> list[list[SourceFile]]:
    """The files grouped by package, packages and files in an order drawn by hash, each package cut at the cap."""
    groups: dict[str, list[SourceFile]] = {}
    for file in files:
        groups.setdefault(file.package, []).append(file)
    packages = []
    for name in sorted(groups, key=lambda name: _draw(seed, name)):
        kept, size = [], 0
        for file in sorted(groups[name], key=lambda file: _draw(seed, f"{name}/{file.path}")):
            if size < max_package_bytes:
                kept.append(file)
                size += len(file.text)
        packages.append(kept)
    return packages


def make_rows(plan: RowPlan, processes: int = 2) -> int:
    """Writes the rows, and beside them where they come from; returns how many, at most `max_tokens`.

    The trainer shuffles them. Raises UserError.
    """
    provenance = Provenance(
        tokenizer=_checked_tokenizer(plan.tokenizer).fingerprint,
        corpus=read_manifest(plan.corpus / "manifest.json").identity,
        length=plan.length,
        seed=plan.seed,
        max_package_bytes=plan.max_package_bytes,
        split=plan.split,
    )
    packages = by_package(read_files(plan.corpus, plan.split), plan.max_package_bytes, plan.seed)
    wanted = None if plan.max_tokens is None else max(plan.max_tokens // plan.length, 1)
    made: list[Rows] = []
    n_rows = 0
    for rows in _built(plan, packages, processes):
        made.append(rows)
        n_rows += len(rows)
        if wanted is not None and n_rows >= wanted:
            break
    if n_rows == 0:
        raise UserError(f"the corpus in {plan.corpus} gives no rows; make it with `finetune.pretrain corpus`")
    table = np.concatenate(made)[:wanted]
    _write(table, plan.output)
    write_provenance(plan.output, provenance)
    logger.info("%d rows of %d tokens from %d packages in %s", len(table), plan.length, len(made), plan.output)
    return len(table)


def _checked_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = load_tokenizer(folder)
    if tokenizer.special is None:
        raise UserError(
            f"the tokenizer in {folder} has no prompt markers; make one with `finetune.pretrain vocabulary`"
        )
    if tokenizer.vocab_size > MAX_VOCAB_SIZE:
        raise UserError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} entries, rows hold ids below {MAX_VOCAB_SIZE}; "
            f"learn a smaller vocabulary"
        )
    return tokenizer


def _built(plan: RowPlan, packages: list[list[SourceFile]], processes: int) -> Iterator[Rows]:
    """The rows of each package, in the order of the packages."""
    tasks = [(plan, package) for package in packages]
    if processes < 2 or len(tasks) < 2:
        yield from map(_package_rows, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_package_rows, tasks)


def _package_rows(task: tuple[RowPlan, list[SourceFile]]) -> Rows:
    plan, package = task
    tokenizer = load_tokenizer(plan.tokenizer)  # a few hundredths of a second, a package takes seconds
    seed = int.from_bytes(_draw(plan.seed, package[0].package)[:6], "big")
    rows = list(RowBuilder(tokenizer, plan.length, seed).rows(package))
    return np.array(rows, dtype=np.uint16).reshape(-1, plan.length + 1)


def _write(table: Rows, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            np.save(stream, table)
        provenance_path(path).unlink(missing_ok=True)  # that of former rows
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path} ({error.strerror}); free some space or name another file") from error


def _draw(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
