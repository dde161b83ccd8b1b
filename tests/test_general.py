"""The general code that ships: two parts that share nothing, with its licences."""

from __future__ import annotations

from pathlib import Path

from finetune.base import open_base
from finetune.general import FOLDER, MAX_BYTES, choosing_files, choosing_rows, judging_files


def test_the_general_code_has_its_licences() -> None:
    packages = [folder for folder in FOLDER.iterdir() if folder.is_dir()]
    assert len(packages) >= 2
    for folder in packages:
        assert any("licen" in path.name.lower() for path in folder.rglob("*"))


def test_what_chooses_does_not_judge() -> None:
    judging, choosing = dict(judging_files()), dict(choosing_files())
    assert judging and choosing and not judging.keys() & choosing.keys()
    assert all(path.endswith(".py") for path in (*judging, *choosing))
    for part in (judging, choosing):
        assert MAX_BYTES / 2 < sum(map(len, part.values())) <= MAX_BYTES
    assert dict(judging_files()) == judging


def test_rows_hold_all_of_the_text(tiny_checkpoint: Path) -> None:
    base = open_base(str(tiny_checkpoint))
    rows = choosing_rows(base, 200)
    assert rows.shape[1] == 201 and (rows[:, 0] == base.special.file).all()
    text = base.tokenizer.decode([int(token) for token in rows.flatten()])
    assert all(part[1][:300].split("\n")[0] in text for part in choosing_files())
