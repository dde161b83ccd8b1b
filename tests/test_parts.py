"""Parts of a run: the same files come back, from any folders, or every part that is wrong is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from finetune.pretrain.parts import PARTS_FILE, PartsError, join_parts, write_parts

CONTENTS = {"config.json": b"{}", "empty": b"", "model.safetensors": os.urandom(2_500_000), "log.jsonl": b"x" * 999}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with three parts of at most a million bytes and their manifest."""
    files = [tmp_path / name for name in CONTENTS]
    for path in files:
        path.write_bytes(CONTENTS[path.name])
    write_parts(files, tmp_path / "parts", 1_000_000)
    return tmp_path / "parts"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_cut_is_joined(parts, tmp_path):
    names = sorted(path.name for path in parts.iterdir())
    assert names == ["part-1-of-3", "part-2-of-3", "part-3-of-3", PARTS_FILE]
    assert [(parts / name).stat().st_size for name in names[:3]] == [1_000_000, 1_000_000, 501_001]
    assert join_parts([parts], tmp_path / "run") == list(CONTENTS)
    assert files_of(tmp_path / "run") == CONTENTS


def test_parts_may_come_in_two_journeys(parts, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    shutil.move(parts / "part-2-of-3", second)
    with pytest.raises(PartsError, match=r"part-2-of-3 is missing; copy it again"):
        join_parts([parts], tmp_path / "run")
    join_parts([second, parts], tmp_path / "run")
    assert files_of(tmp_path / "run") == CONTENTS


def test_a_whole_part_is_preferred_to_a_damaged_one_elsewhere(parts, tmp_path):
    second = tmp_path / "second"
    shutil.copytree(parts, second)
    (parts / "part-1-of-3").write_bytes(b"half")
    join_parts([parts, second], tmp_path / "run")
    assert files_of(tmp_path / "run") == CONTENTS


def test_every_missing_or_damaged_part_is_named_and_nothing_is_written(parts, tmp_path):
    (parts / "part-1-of-3").unlink()
    whole = (parts / "part-3-of-3").read_bytes()
    (parts / "part-3-of-3").write_bytes(whole[:-1] + b"?")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(PartsError, match=rf"part-1-of-3 is missing; {parts}/part-3-of-3 is damaged; copy them again"):
        join_parts([parts], tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_run_that_is_there_is_left_alone(parts, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kept").write_text("kept")
    with pytest.raises(PartsError, match="is there already"):
        join_parts([parts], tmp_path / "run")
    assert files_of(tmp_path / "run") == {"kept": b"kept"}


@pytest.mark.parametrize("content", [None, "", "{}", '{"files": [], "parts": [{"name": 1}]}'])
def test_a_missing_or_damaged_manifest_is_named(parts, tmp_path, content):
    (parts / PARTS_FILE).unlink()
    if content is not None:
        (parts / PARTS_FILE).write_text(content)
    with pytest.raises(PartsError, match=PARTS_FILE):
        join_parts([parts], tmp_path / "run")


def test_parts_of_two_runs_are_not_mixed(parts, tmp_path):
    write_parts([tmp_path / "log.jsonl"], tmp_path / "other", 1_000_000)
    with pytest.raises(PartsError, match="are of two runs"):
        join_parts([parts, tmp_path / "other"], tmp_path / "run")


def test_a_manifest_writes_into_its_own_folder_only(parts, tmp_path):
    manifest = json.loads((parts / PARTS_FILE).read_text())
    manifest["files"][0]["name"] = "../outside"
    (parts / PARTS_FILE).write_text(json.dumps(manifest))
    with pytest.raises(PartsError, match="no plain file name"):
        join_parts([parts], tmp_path / "run")


def test_a_disk_that_is_full_leaves_the_parts_and_no_run(parts, tmp_path, monkeypatch):
    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PartsError, match="No space left on device.*the parts are whole"):
        join_parts([parts], tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(PartsError, match="cannot write parts into .*No space left on device"):
        write_parts([tmp_path / "log.jsonl"], tmp_path / "other", 1_000)
    assert not list((tmp_path / "other").iterdir())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PartsError, match=f"cannot read {tmp_path}/model.safetensors"):
        write_parts([tmp_path / "model.safetensors"], tmp_path / "parts", 1_000)
