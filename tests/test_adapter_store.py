"""Adapters on disk: the one in force is whole at any moment, versions stay, and what does not fit is refused."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from server.lm import adapter_store
from server.lm.adapter import AdapterError
from server.lm.adapter_manifest import (
    ADAPTER_FILES,
    BaseIdentity,
    Manifest,
    check_fits,
    check_whole,
    file_hashes,
    read_manifest,
    write_manifest,
)
from server.lm.adapter_store import POINTER_FILE, AdapterStore
from server.lm.errors import UserError

BASE = BaseIdentity("f" * 64, "t" * 64, 1)


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "work" / "shop", tmp_path / "data")


@pytest.fixture
def candidate(tmp_path: Path) -> Callable[[str], tuple[Path, Manifest]]:
    """`candidate("one")`: an adapter folder with that content, and its manifest."""

    def make(content: str) -> tuple[Path, Manifest]:
        folder = tmp_path / f"candidate-{content}"
        folder.mkdir()
        for name in ADAPTER_FILES:
            (folder / name).write_text(f"{name} {content}")
        return folder, Manifest(BASE, "2026-01-02T03:04:05Z", "shop", "abc123", file_hashes(folder))

    return make


def served(store: AdapterStore) -> str | None:
    """What the version in force holds."""
    folder = store.current()
    return None if folder is None else (folder / ADAPTER_FILES[1]).read_text().split()[-1]


def test_nothing_is_in_force_before_something_is_published(store: AdapterStore) -> None:
    assert store.current() is None and store.versions() == []
    assert not store.folder.exists()


def test_what_is_published_is_in_force_and_former_versions_stay(store: AdapterStore, candidate) -> None:
    first = store.publish(*candidate("one"))
    second = store.publish(*candidate("two"))
    assert served(store) == "two"
    assert [each.version for each in store.versions()] == [second, first]
    assert [each.is_current for each in store.versions()] == [True, False]
    assert store.versions()[0].manifest == read_manifest(store.versions()[0].folder)


def test_versions_keep_their_order_though_the_clock_stands_still_or_goes_back(
    store: AdapterStore, candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [store.publish(*candidate("0"))]
    monkeypatch.setattr(adapter_store.time, "strftime", lambda *_: "20200101-000000")
    made += [store.publish(*candidate(str(number))) for number in range(1, 4)]
    assert [each.version for each in store.versions()] == made[::-1]
    assert served(store) == "3"


def test_rolling_back_goes_one_version_back_until_there_is_none(store: AdapterStore, candidate) -> None:
    for content in ("one", "two", "three"):
        store.publish(*candidate(content))
    store.rollback()
    assert served(store) == "two"
    store.rollback()
    assert served(store) == "one"
    with pytest.raises(UserError, match="no earlier adapter"):
        store.rollback()
    assert served(store) == "one"


def test_rolling_back_passes_a_damaged_version_over(store: AdapterStore, candidate) -> None:
    for content in ("one", "two", "three"):
        store.publish(*candidate(content))
    (store.versions()[1].folder / ADAPTER_FILES[1]).write_text("half")
    store.rollback()
    assert served(store) == "one"


def test_a_candidate_that_is_not_what_its_manifest_says_changes_nothing(store: AdapterStore, candidate) -> None:
    store.publish(*candidate("one"))
    folder, manifest = candidate("two")
    (folder / ADAPTER_FILES[1]).write_text("other")
    with pytest.raises(AdapterError, match="checksum"):
        store.publish(folder, manifest)
    assert served(store) == "one" and len(store.versions()) == 1


@pytest.mark.parametrize("failing", ["copyfile", "rename", "replace", "write_manifest"])
def test_a_disk_that_refuses_leaves_the_former_adapter_and_says_so(
    store: AdapterStore, candidate, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store.publish(*candidate("one"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    owner = {"copyfile": adapter_store.shutil, "rename": Path, "replace": os, "write_manifest": adapter_store}[failing]
    monkeypatch.setattr(owner, failing, refuse)
    with pytest.raises(UserError, match="No space left on device.*as it was"):
        store.publish(*candidate("two"))
    assert served(store) == "one"


def test_what_a_killed_publication_left_is_cleaned_up(store: AdapterStore, candidate) -> None:
    store.publish(*candidate("one"))
    left = store.folder / "versions" / ".partial-killed"
    left.mkdir()
    assert len(store.versions()) == 1
    store.publish(*candidate("two"))
    assert not left.exists()


@pytest.mark.parametrize("pointer", ["", "gone", "../../elsewhere", "\udcff"])
def test_a_pointer_to_nothing_is_no_adapter(store: AdapterStore, candidate, pointer: str) -> None:
    store.publish(*candidate("one"))
    (store.folder / POINTER_FILE).write_bytes(pointer.encode("utf-8", "surrogateescape"))
    assert store.current() is None


def test_an_exported_adapter_can_be_imported_elsewhere(store: AdapterStore, candidate, tmp_path: Path) -> None:
    store.publish(*candidate("one"))
    store.export(tmp_path / "adapter.zip")
    other = AdapterStore(tmp_path / "other", tmp_path / "data")
    other.import_(tmp_path / "adapter.zip", BASE)
    assert served(other) == "one"
    with pytest.raises(UserError, match="no adapter is in force"):
        AdapterStore(tmp_path / "third", tmp_path / "data").export(tmp_path / "none.zip")


def test_an_import_is_checked_before_anything_is_touched(store: AdapterStore, candidate, tmp_path: Path) -> None:
    store.publish(*candidate("one"))
    store.export(tmp_path / "adapter.zip")
    with pytest.raises(AdapterError, match=r"prompt_version = 1, this model has 2"):
        store.import_(tmp_path / "adapter.zip", replace(BASE, prompt_version=2))
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../evil", "x")
    for name in ("bad.zip", "missing.zip"):
        with pytest.raises(UserError, match="no exported adapter"):
            store.import_(tmp_path / name, BASE)
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(UserError, match="no exported adapter"):
        store.import_(tmp_path / "text.zip", BASE)
    assert len(store.versions()) == 1


def test_repositories_of_one_name_have_adapters_of_their_own(tmp_path: Path, candidate) -> None:
    one, other = (AdapterStore(tmp_path / place / "shop", tmp_path / "data") for place in ("a", "b"))
    one.publish(*candidate("one"))
    assert other.current() is None


@pytest.mark.parametrize("field", ["fingerprint", "tokenizer_fingerprint", "prompt_version"])
def test_an_adapter_for_something_else_is_refused_by_field_and_both_values(tmp_path: Path, candidate, field) -> None:
    folder, manifest = candidate("one")
    other = replace(BASE, **{field: 7 if field == "prompt_version" else "other" * 9})
    with pytest.raises(AdapterError, match=f"{field} = .*this model has (7|otherotherot); train"):
        check_fits(folder, manifest, other)
    check_fits(folder, manifest, BASE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"base": {}}', '{"base": {"fingerprint": "a"}, "files": {}}'])
def test_a_damaged_manifest_is_refused_by_its_path(candidate, text: str) -> None:
    folder, manifest = candidate("one")
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    (folder / "manifest.json").write_text(text)
    with pytest.raises(AdapterError, match="manifest.json"):
        read_manifest(folder)


def test_an_adapter_that_lacks_a_file_is_not_whole(candidate) -> None:
    folder, manifest = candidate("one")
    check_whole(folder, manifest)
    (folder / ADAPTER_FILES[0]).unlink()
    with pytest.raises(AdapterError, match="not whole"):
        check_whole(folder, manifest)
