"""What lies on disk is a whole generation, whatever happens while another is written."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from server.index import store
from server.index.segment import Segment, SegmentFile
from server.index.store import (
    FileRecord,
    Manifest,
    StoreError,
    current_name,
    index_folder,
    prune,
    prune_roots,
    read_current,
    use_generation,
    write_generation,
)


def manifest(name: str) -> Manifest:
    records = (FileRecord("a.py", 3, 17, "repository"), FileRecord("b.py", 5, 18, "repository", "binary"))
    return Manifest(name, "root", 1, "h", ("numpy",), ("react",), records, {"binary": 1}, "too much")


def write(folder: Path, name: str, text: bytes = b"x = 1\n") -> None:
    write_generation(folder, manifest(name), Segment.build([SegmentFile("a.py", text)]), Segment.build([]))


def text_of(folder: Path) -> bytes:
    generation = read_current(folder)
    assert generation is not None
    (file,) = Segment.load(generation.repository).files()
    return file.text


def test_what_was_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "index"
    write(folder, "abc")
    generation = read_current(folder)
    assert generation is not None and generation.manifest == manifest("abc")
    assert generation.manifest.n_files == 1
    assert text_of(folder) == b"x = 1\n"
    assert Segment.load(generation.dependencies).n_bytes == 0
    assert current_name(folder) == "abc"
    assert sorted(path.name for path in folder.iterdir()) == ["abc", "current"]


@pytest.mark.skipif(os.name != "posix", reason="other systems have other permissions")
def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    write(tmp_path / "index", "abc")
    assert (tmp_path / "index").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("name", ["mkdir", "fsync", "rename", "replace"])
def test_a_full_disk_leaves_the_former_generation_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(tmp_path, "one")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, name, fail)
        with pytest.raises(StoreError, match="No space left on device.*XDG_CACHE_HOME"):
            write(tmp_path, "two", b"y = 2\n")
    assert current_name(tmp_path) == "one"
    assert text_of(tmp_path) == b"x = 1\n"
    assert not list(tmp_path.glob("partial-*"))
    write(tmp_path, "two", b"y = 2\n")
    assert text_of(tmp_path) == b"y = 2\n"


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot keep the index of root in .*file"):
        write(tmp_path / "file" / "index", "one")
    with pytest.raises(StoreError, match="cannot change the index in .*missing"):
        use_generation(tmp_path / "missing", "one")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "one" / "manifest.json").write_text("{"),
        lambda folder: (folder / "one" / "manifest.json").write_text('{"format": 99}'),
        lambda folder: (folder / "one" / "manifest.json").write_text('{"format": 1, "name": "one", "files": [[1]]}'),
        lambda folder: (folder / "one" / "manifest.json").write_text("[]"),
        lambda folder: (folder / "one" / "manifest.json").unlink(),
        lambda folder: (folder / "current").write_text("../one"),
        lambda folder: (folder / "current").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "current").unlink(),
    ],
)
def test_what_is_damaged_counts_as_missing_and_is_written_over(tmp_path: Path, damage: object) -> None:
    write(tmp_path, "one")
    damage(tmp_path)  # type: ignore[operator]
    assert read_current(tmp_path) is None
    write(tmp_path, "one", b"z = 3\n")
    assert text_of(tmp_path) == b"z = 3\n"


def test_old_generations_go_and_what_is_being_written_stays(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write(tmp_path, name)
    (tmp_path / "partial-now").mkdir()
    (tmp_path / "partial-long-ago").mkdir()
    long_ago = time.time() - 2 * store.ASIDE_LIFETIME_S
    os.utime(tmp_path / "partial-long-ago", (long_ago, long_ago))
    prune(tmp_path, {"two", "three"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "partial-now", "three", "two"]


def test_a_generation_still_mapped_can_go(tmp_path: Path) -> None:
    write(tmp_path, "one")
    generation = read_current(tmp_path)
    assert generation is not None
    segment = Segment.load(generation.repository)
    write(tmp_path, "two")
    prune(tmp_path, {"two"})
    assert [file.text for file in segment.files()] == [b"x = 1\n"]


def test_a_former_generation_can_be_used_again(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two", b"y = 2\n")
    use_generation(tmp_path, "one")
    assert text_of(tmp_path) == b"x = 1\n"


def test_the_workspaces_opened_longest_ago_go_first(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "older", "oldest")):
        write(tmp_path / name, "one")
        then = time.time() - (age + 2) * store.ASIDE_LIFETIME_S
        for path in (tmp_path / name / "current", tmp_path / name):
            os.utime(path, (then, then))
    prune_roots(tmp_path, max_kept=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["newest", "older"]


def test_each_workspace_has_a_folder_of_its_own(tmp_path: Path, user_directory: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a").mkdir()
    folders = {index_folder(tmp_path / name) for name in ("a", "b", "link")}
    assert len(folders) == 2
    assert all(folder.is_relative_to(user_directory) for folder in folders)
