"""Where the trainer's batches come from: one file of rows, or a folder of shards that may still be filling.

The order follows from the seed, from how many rows were taken and, with shards, from which were taken before; all of it
is in the saved state, so a resumed run sees what an unbroken one would have seen. Knows nothing of torch.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finetune.pretrain.provenance import Provenance, read_provenance
from finetune.pretrain.shards import DamagedShard, Rows, ShardError, load_rows, read_shards, unpacked

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run takes from its rows."""

    batch_tokens: int
    seed: int
    vocab_size: int
    n_positions: int
    cache: Path  # where shards are unpacked


class RowSource(Protocol):
    """Batches of rows, all of one length."""

    path: Path
    provenance: Provenance | None
    length: int
    batch_rows: int

    def batch(self, first: int, visits: list[int]) -> Rows:
        """The rows that come as the `first`-th and after it: (rows, length + 1).

        `visits` are the shards taken so far, by number, in order; one that is begun is added.
        """

    def record(self) -> dict[str, object]:
        """What a recipe says of the rows: their number, and where they come from if that is known."""


def open_rows(path: Path, wanted: Wanted) -> RowSource:
    """The rows of an .npy file or of a folder of shards. Raises `UserError`."""
    return ShardedRows(path, wanted) if path.is_dir() else FileRows(path, wanted)


def length_of(path: Path) -> int:
    """Tokens a row of what `open_rows` opens. Raises `UserError`."""
    return read_shards(path).length if path.is_dir() else int(load_rows(path).shape[1]) - 1


class FileRows:
    """The rows of one file, in an order that the seed draws anew for each pass over them."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._rows = load_rows(path)
        self.path, self.provenance = path, read_provenance(path)
        self.n_rows, self.length = len(self._rows), self._rows.shape[1] - 1
        _check_length(path, self.length, wanted)
        self.batch_rows = max(wanted.batch_tokens // self.length, 1)
        self._wanted = wanted
        self._n_pass, self._order = -1, np.zeros(0, dtype=np.int64)

    def batch(self, first: int, visits: list[int]) -> Rows:
        rows = np.stack([self._rows[self.row_at(first + i)] for i in range(self.batch_rows)])
        return _checked(rows, self.path, self._wanted)

    def record(self) -> dict[str, object]:
        return {"rows": self.n_rows, **_known(self.provenance), "length": self.length}

    def row_at(self, number: int) -> int:
        """Which row of the file comes as the `number`-th."""
        n_pass, place = divmod(number, self.n_rows)
        if n_pass != self._n_pass:
            self._n_pass = n_pass
            self._order = np.random.default_rng([self._wanted.seed, n_pass, self.n_rows]).permutation(self.n_rows)
        return int(self._order[place])


class ShardedRows:
    """The rows of a folder of shards, one shard after another, each in an order that the seed draws for the visit.

    Next comes, of the shards that have arrived, the one visited least, of these the first.
    """

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._set = read_shards(path)
        self.path, self.provenance, self.length = path, self._set.provenance, self._set.length
        _check_length(path, self.length, wanted)
        self.batch_rows = max(wanted.batch_tokens // self.length, 1)
        self._wanted = wanted
        self._named: set[str] = set()  # damaged ones that the log has told
        self._open: tuple[int, Rows, NDArray[np.int64]] | None = None  # number of the visit, rows, order

    def batch(self, first: int, visits: list[int]) -> Rows:
        picked: list[Rows] = []
        n_left = self.batch_rows
        start = sum(self._set.shards[number].n_rows for number in visits[:-1])
        while n_left:
            if not visits or first >= start + self._set.shards[visits[-1]].n_rows:
                start += self._set.shards[visits[-1]].n_rows if visits else 0
                visits.append(self._next(visits))
            rows, order = self._visit(visits)
            places = order[first - start : first - start + n_left]
            picked.append(rows[places])
            first, n_left = first + len(places), n_left - len(places)
        return _checked(np.concatenate(picked), self.path, self._wanted)

    def record(self) -> dict[str, object]:
        counts = {"rows": self._set.n_rows, "shards": len(self._set.shards), "shards_sha256": self._set.identity}
        return {**counts, **_known(self.provenance), "length": self.length}

    def _next(self, visits: list[int]) -> int:
        """The number of the shard to take next. Raises `ShardError` when none has arrived whole."""
        n_visits = Counter(visits)
        missing = []
        for number in sorted(range(len(self._set.shards)), key=lambda number: (n_visits[number], number)):
            found = self._unpacked(number)
            if isinstance(found, Path):
                logger.info("shard %s, visit %d", self._set.shards[number].name, n_visits[number] + 1)
                return number
            missing.append(found)
        raise ShardError(f"no shard of {self.path} can be used: {'; '.join(missing)}; copy at least one there")

    def _visit(self, visits: list[int]) -> tuple[Rows, NDArray[np.int64]]:
        """Rows and order of the visit that is under way."""
        n_visit = len(visits) - 1
        if self._open is None or self._open[0] != n_visit:
            found = self._unpacked(visits[-1])
            if isinstance(found, str):
                raise ShardError(f"the run is in the midst of a shard of {self.path}: {found}; copy it there again")
            rows = load_rows(found)
            order = np.random.default_rng([self._wanted.seed, n_visit, len(rows)]).permutation(len(rows))
            self._open = (n_visit, rows, order)
        return self._open[1:]

    def _unpacked(self, number: int) -> Path | str:
        """The file with the shard's rows, or what is wrong with the shard; damage is told in the log once."""
        shard = self._set.shards[number]
        try:
            found = unpacked(self.path, shard, self.length, self._wanted.cache)
        except DamagedShard as error:
            if shard.name not in self._named:
                self._named.add(shard.name)
                logger.warning("%s", error)
            return str(error).partition(";")[0]
        return found or f"{shard.name} is not there"


def _check_length(path: Path, length: int, wanted: Wanted) -> None:
    if not 1 <= length <= wanted.n_positions:
        raise ShardError(f"{path} holds rows of {length} tokens, the model takes at most {wanted.n_positions} tokens")


def _checked(rows: Rows, path: Path, wanted: Wanted) -> Rows:
    if rows.max() >= wanted.vocab_size:
        raise ShardError(
            f"{path} holds token id {rows.max()}, the model has {wanted.vocab_size}; "
            f"make the rows with the tokenizer of this run"
        )
    return rows


def _known(provenance: Provenance | None) -> dict[str, object]:
    return {} if provenance is None else asdict(provenance)
