"""Training rows in compressed shards, each usable alone, so that they can travel one by one.

A folder of shards holds `shard-000.xz`, ... (each an .npy file under xz) and `shards.json`, which names all of them
with size and sha256. Runs of neighbouring rows are dealt out at random: every shard is a fair sample of all packages,
and what neighbours have in common still compresses.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import lzma
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetune.pretrain.provenance import Provenance, ProvenanceError, parse_provenance, read_provenance
from server.lm.errors import UserError

logger = logging.getLogger(__name__)

SHARDS_FILE = "shards.json"
MEGABYTE = 1 << 20
MAX_RUN_ROWS = 32  # neighbours that stay together, fewer where a shard would hold less than `MIN_RUNS` runs
MIN_RUNS = 64
SAMPLE_SHARE, MIN_SAMPLE_ROWS = 32, 256  # one part in so many is compressed to guess the number of shards
# Ids are two bytes wide, which `lp` and `pb` tell the coder. It saves 0.8 % on rows of 513 ids of a 4,096-entry
# vocabulary; to measure again, compress some thousand rows with the plain preset.
XZ_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1}]

Rows = NDArray[np.uint16]  # (rows, length + 1)


class ShardError(UserError):
    """Shards cannot be made, or a folder does not hold any that can be used."""


class DamagedShard(ShardError):
    """A shard's file is there in full size and is not what the manifest says."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One compressed file of rows."""

    name: str
    n_bytes: int
    sha256: str
    n_rows: int


@dataclass(frozen=True, slots=True)
class ShardSet:
    """What `shards.json` says."""

    length: int  # tokens a row; a row holds one id more
    seed: int
    shards: tuple[Shard, ...]
    provenance: Provenance | None

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.n_rows for shard in self.shards)

    @property
    def identity(self) -> str:
        """sha256 over the shards' own sums, in order."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()


def write_shards(rows: Path, output: Path, max_bytes: int, seed: int = 1) -> ShardSet:
    """Deals the rows of an .npy file out to shards of at most `max_bytes` and writes them with their manifest.

    As few shards as will do, all of about one size. Those of a former set in `output` are replaced. Raises `UserError`.
    """
    table, provenance = load_rows(rows), read_provenance(rows)
    packed = _packed(table, max_bytes, seed)
    manifest = output / SHARDS_FILE
    try:
        output.mkdir(parents=True, exist_ok=True)
        manifest.unlink(missing_ok=True)
        for path in output.glob("shard-*.xz"):
            path.unlink()
        shards = []
        for number, (data, n_rows) in enumerate(packed):
            name = f"shard-{number:03d}.xz"
            _write(output / name, data)
            shards.append(Shard(name, len(data), hashlib.sha256(data).hexdigest(), n_rows))
        made = ShardSet(table.shape[1] - 1, seed, tuple(shards), provenance)
        _write(manifest, (json.dumps({"format": 1, **asdict(made)}, indent=1) + "\n").encode())
    except OSError as error:
        raise ShardError(
            f"cannot write shards into {output}: {error}; free some space or name another folder"
        ) from error
    logger.info("%d rows in %d shards of %s", made.n_rows, len(shards), output)
    return made


def read_shards(folder: Path) -> ShardSet:
    """The manifest of a folder of shards. Raises `ShardError`."""
    path = folder / SHARDS_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = ShardSet(
            int(data["length"]),
            int(data["seed"]),
            tuple(Shard(**shard) for shard in data["shards"]),
            None if data["provenance"] is None else parse_provenance(data["provenance"]),
        )
    except FileNotFoundError as error:
        raise ShardError(
            f"no {SHARDS_FILE} in {folder}: not a folder of shards; make them with `finetune.pretrain shard`, and copy "
            f"{SHARDS_FILE} along with the first one"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, ProvenanceError) as error:
        raise ShardError(f"cannot read {path}: {error}; copy it again, or make the shards again") from error
    if not found.shards:
        raise ShardError(f"{path} names no shard; make the shards again")
    return found


def unpacked(folder: Path, shard: Shard, length: int, cache: Path) -> Path | None:
    """The .npy file with the rows of a shard, unpacked into `cache` if it is not there; None while it has not arrived.

    Once unpacked, a shard may leave its folder. Raises `DamagedShard`, and `ShardError` where the cache is full.
    """
    target = cache / f"{shard.sha256}.npy"
    if target.is_file():
        return target
    path = folder / shard.name
    try:
        if not path.is_file() or path.stat().st_size < shard.n_bytes:
            return None
        data = path.read_bytes()
    except OSError as error:
        raise DamagedShard(f"{path} cannot be read: {error}; copy it again") from error
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise DamagedShard(f"{path} is damaged: its sha256 is not that in {SHARDS_FILE}; copy it again")
    try:
        content = lzma.decompress(data, lzma.FORMAT_XZ)
        rows = np.load(io.BytesIO(content), allow_pickle=False)
    except (lzma.LZMAError, ValueError, EOFError) as error:
        raise DamagedShard(f"{path} cannot be unpacked: {error}; make the shards again") from error
    if rows.shape != (shard.n_rows, length + 1) or rows.dtype != np.uint16:
        raise DamagedShard(f"{path} holds {rows.dtype} rows of shape {rows.shape}, not those of {SHARDS_FILE}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _write(target, content)
    except OSError as error:
        raise ShardError(
            f"cannot unpack {path} into {cache}: {error}; free some space, the same command goes on"
        ) from error
    return target


def load_rows(path: Path) -> Rows:
    """The rows of an .npy file or of a single shard, the former mapped from disk. Raises `ShardError`."""
    try:
        if path.suffix == ".xz":
            rows: Rows = np.load(io.BytesIO(lzma.decompress(path.read_bytes(), lzma.FORMAT_XZ)), allow_pickle=False)
        else:
            rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise ShardError(
            f"cannot read training rows {path}: {error}; make them with `finetune.pretrain rows`"
        ) from error
    if rows.ndim != 2 or 0 in rows.shape or rows.dtype != np.uint16:
        raise ShardError(f"{path} holds {rows.dtype} of shape {rows.shape}, no rows of ids; make them again")
    return rows


def _packed(table: Rows, max_bytes: int, seed: int) -> list[tuple[bytes, int]]:
    """The compressed shards with their numbers of rows, each of at most `max_bytes`."""
    n_shards = _guess(table, max_bytes)
    while True:
        packed: list[tuple[bytes, int]] = []
        for numbers in _dealt(len(table), n_shards, seed):
            packed.append((_compressed(table[numbers]), len(numbers)))
            if len(packed[-1][0]) > max_bytes:
                break
        else:
            return packed
        if n_shards >= len(table):
            raise ShardError(
                f"a row alone takes {len(packed[-1][0])} bytes, more than a shard may have ({max_bytes}); "
                f"allow more with --megabytes"
            )
        n_shards = min(max(n_shards + 1, n_shards * len(packed[-1][0]) // max_bytes), len(table))


def _guess(table: Rows, max_bytes: int) -> int:
    """How many shards it may take, from a run of rows in the middle."""
    n_sample = min(max(len(table) // SAMPLE_SHARE, MIN_SAMPLE_ROWS), len(table))
    first = (len(table) - n_sample) // 2
    n_bytes = len(_compressed(table[first : first + n_sample])) * len(table) / n_sample
    return min(max(1, -int(-n_bytes // max_bytes)), len(table))


def _dealt(n_rows: int, n_shards: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """For each shard the numbers of its rows, rising; runs of neighbours are dealt out in an order of the seed."""
    run = max(1, min(MAX_RUN_ROWS, n_rows // (MIN_RUNS * n_shards)))
    starts = np.arange(0, n_rows, run)
    for part in np.array_split(np.random.default_rng(seed).permutation(starts), n_shards):
        numbers = (np.sort(part)[:, None] + np.arange(run)).reshape(-1)
        yield numbers[numbers < n_rows]


def _compressed(rows: Rows) -> bytes:
    content = io.BytesIO()
    np.save(content, rows)
    return lzma.compress(content.getvalue(), format=lzma.FORMAT_XZ, filters=XZ_FILTERS)


def _write(path: Path, content: bytes) -> None:
    """Writes aside and renames; another process may do the same at the same time."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
