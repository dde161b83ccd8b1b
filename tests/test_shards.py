"""Rows in shards: nothing is lost, every shard stands alone, and what is damaged is named."""

from __future__ import annotations

import io
import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from finetune.pretrain import shards
from finetune.pretrain.provenance import Provenance, write_provenance
from finetune.pretrain.shards import DamagedShard, ShardError, load_rows, read_shards, unpacked, write_shards

LIMIT = 6_000
ORIGIN = Provenance(corpus="feed", tokenizer="beef", length=16, seed=1, max_package_bytes=1_000)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Six hundred different rows, the first id telling the package: ten of them, one after another."""
    table = np.random.default_rng(0).integers(8, 3_000, size=(600, 17)).astype(np.uint16)
    table[:, 0] = np.arange(600) // 60
    np.save(tmp_path / "rows.npy", table)
    write_provenance(tmp_path / "rows.npy", ORIGIN)
    return tmp_path / "rows.npy"


@pytest.fixture
def folder(rows: Path, tmp_path: Path) -> Path:
    write_shards(rows, tmp_path / "shards", LIMIT)
    return tmp_path / "shards"


def in_order(table: np.ndarray) -> np.ndarray:
    return table[np.lexsort(table.T)]


def test_all_rows_come_back_and_no_shard_is_too_large(rows, folder, tmp_path):
    made = read_shards(folder)
    assert len(made.shards) >= 3
    assert (made.length, made.n_rows, made.provenance) == (16, 600, ORIGIN)
    parts = []
    for shard in made.shards:
        assert (folder / shard.name).stat().st_size == shard.n_bytes <= LIMIT
        parts.append(np.load(unpacked(folder, shard, made.length, tmp_path / "cache")))
        assert len(parts[-1]) == shard.n_rows
    assert np.array_equal(in_order(np.concatenate(parts)), in_order(np.load(rows)))


def test_a_shard_is_an_array_that_needs_nothing_else(rows, folder):
    content = lzma.decompress((folder / "shard-000.xz").read_bytes())
    assert np.load(io.BytesIO(content)).shape[1] == 17
    assert np.array_equal(load_rows(folder / "shard-000.xz"), np.load(io.BytesIO(content)))


def test_every_shard_is_a_sample_of_all_packages(folder):
    for shard in read_shards(folder).shards:
        counts = np.bincount(load_rows(folder / shard.name)[:, 0], minlength=10)
        assert (counts > 0).all()


def test_the_same_seed_gives_the_same_shards_and_another_others(rows, folder, tmp_path):
    again = write_shards(rows, tmp_path / "again", LIMIT)
    assert again == read_shards(folder)
    assert write_shards(rows, tmp_path / "other", LIMIT, seed=2).identity != again.identity


def test_a_former_set_is_replaced(rows, folder):
    n_before = len(read_shards(folder).shards)
    made = write_shards(rows, folder, 10 * LIMIT)
    assert len(made.shards) < n_before
    assert sorted(path.name for path in folder.iterdir()) == [*(shard.name for shard in made.shards), "shards.json"]


@pytest.mark.parametrize("n_kept", [None, 0, 1, 100])
def test_a_shard_that_has_not_arrived_whole_is_not_there_yet(folder, tmp_path, n_kept):
    shard = read_shards(folder).shards[1]
    path = folder / shard.name
    content = path.read_bytes()
    path.unlink()
    if n_kept is not None:
        path.write_bytes(content[:n_kept])
    assert unpacked(folder, shard, 16, tmp_path / "cache") is None
    path.write_bytes(content)
    assert unpacked(folder, shard, 16, tmp_path / "cache") is not None


def test_a_shard_that_was_unpacked_may_leave(folder, tmp_path):
    shard = read_shards(folder).shards[0]
    path = unpacked(folder, shard, 16, tmp_path / "cache")
    (folder / shard.name).unlink()
    assert unpacked(folder, shard, 16, tmp_path / "cache") == path


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + b"?", lambda data: data + b"?"])
def test_a_damaged_shard_is_named(folder, tmp_path, damage):
    shard = read_shards(folder).shards[0]
    path = folder / shard.name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedShard, match=f"{path} is damaged: .*; copy it again"):
        unpacked(folder, shard, 16, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_disk_that_is_full_is_named_and_leaves_nothing_half(rows, folder, tmp_path, monkeypatch):
    made = read_shards(folder)
    kept = {path.name for path in folder.iterdir()}

    def fail(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ShardError, match=r"cannot unpack .*shard-000\.xz .*No space left on device.*free some space"):
        unpacked(folder, made.shards[0], 16, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    assert {path.name for path in folder.iterdir()} == kept
    with pytest.raises(ShardError, match="cannot write shards into .*No space left on device"):
        write_shards(rows, tmp_path / "new", LIMIT)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    "content, reason",
    [(None, r"no shards\.json in"), ("", "cannot read"), ("[]", "cannot read"), ('{"length": 1}', "cannot read")],
)
def test_a_folder_without_a_whole_manifest_is_named(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "shards.json").write_text(content)
    with pytest.raises(ShardError, match=reason):
        read_shards(tmp_path)


def test_an_empty_manifest_is_named(folder):
    data = json.loads((folder / "shards.json").read_text())
    (folder / "shards.json").write_text(json.dumps({**data, "shards": []}))
    with pytest.raises(ShardError, match="names no shard"):
        read_shards(folder)


def test_a_size_that_holds_no_row_is_named(rows, tmp_path):
    with pytest.raises(ShardError, match=r"more than a shard may have \(20\); allow more with --megabytes"):
        write_shards(rows, tmp_path / "new", 20)
    assert not (tmp_path / "new").exists()


def test_neighbours_stay_together_where_there_are_enough_rows():
    numbers = next(shards._dealt(10_000, 2, 1))
    assert (np.diff(numbers) == 1).mean() > 0.9
