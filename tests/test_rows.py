"""The files of training rows: which corpus files are taken, how they are written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.pretrain import rows, samples
from finetune.pretrain.manifest import Manifest, write_manifest
from finetune.pretrain.provenance import provenance_path, read_provenance
from finetune.pretrain.rows import RowPlan, by_package, make_rows, read_files
from finetune.pretrain.samples import SourceFile
from server.lm.errors import UserError
from server.lm.tokenizer import load_tokenizer

FILES = [
    SourceFile(package, f"{package}/{name}.py", f"def {name}(first, second):\n    return first + second\n" * 20)
    for package in ("alpha", "beta", "gamma")
    for name in ("one", "two", "three")
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_split(folder, "train", FILES)
    write_manifest(Manifest("feed", "3.11", ()), folder / "manifest.json")
    return folder


def write_split(folder: Path, split: str, files: Sequence[SourceFile]) -> None:
    entries = ({"package": file.package, "path": file.path, "text": file.text} for file in files)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.fixture
def plan(corpus: Path, tiny_checkpoint: Path, tmp_path: Path) -> RowPlan:
    return RowPlan(corpus, tiny_checkpoint, tmp_path / "new" / "rows.npy", length=128)


def names(packages: Sequence[Sequence[SourceFile]]) -> list[str]:
    return [file.path for package in packages for file in package]


def test_files_are_read_as_they_were_written(corpus):
    assert list(read_files(corpus, "train")) == FILES


@pytest.mark.parametrize("content", [None, "{", '{"package": "a", "path": "b"}\n', "[]\n", "1\n"])
def test_a_missing_or_damaged_corpus_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "train.jsonl").write_text(content)
    with pytest.raises(UserError, match=f"cannot read the corpus file {tmp_path}/train.jsonl"):
        list(read_files(tmp_path, "train"))


def test_the_order_follows_from_the_seed_and_the_names_alone():
    assert names(by_package(FILES, 10**6, 1)) == names(by_package(FILES[::-1], 10**6, 1))
    assert names(by_package(FILES, 10**6, 1)) != names(by_package(FILES, 10**6, 2))
    assert sorted(names(by_package(FILES, 10**6, 1))) == sorted(file.path for file in FILES)


def test_a_large_package_is_capped():
    size = max(len(file.text) for file in FILES)
    packages = by_package(FILES, size + 1, 1)
    assert [len(package) for package in packages] == [2, 2, 2]
    assert all(len({file.package for file in package}) == 1 for package in packages)


def test_rows_are_written_whole(plan):
    n_rows = make_rows(plan, processes=1)
    table = np.load(plan.output)
    assert table.dtype == np.uint16
    assert table.shape == (n_rows, 129)
    assert n_rows > 20
    assert sorted(plan.output.parent.iterdir()) == [plan.output, provenance_path(plan.output)]


def test_beside_the_rows_stands_where_they_come_from(plan):
    make_rows(replace(plan, seed=3, max_package_bytes=5_000), processes=1)
    found = read_provenance(plan.output)
    assert found is not None
    assert (found.corpus, found.length, found.seed, found.max_package_bytes) == ("feed", 128, 3, 5_000)
    assert found.tokenizer == load_tokenizer(plan.tokenizer).fingerprint
    assert found.shares["infilling"] == samples.SHARE_INFILLING


def test_rows_never_stand_beside_the_origin_of_former_rows(plan, monkeypatch):
    make_rows(plan, processes=1)

    def fail(path: Path, provenance: object) -> None:
        raise UserError("killed")

    monkeypatch.setattr(rows, "write_provenance", fail)
    with pytest.raises(UserError, match="killed"):
        make_rows(replace(plan, seed=2), processes=1)
    assert read_provenance(plan.output) is None


def test_a_corpus_without_a_manifest_is_named(plan):
    (plan.corpus / "manifest.json").unlink()
    with pytest.raises(UserError, match=f"manifest {plan.corpus}/manifest.json cannot be read"):
        make_rows(plan, processes=1)


def test_the_number_of_processes_changes_nothing(plan):
    make_rows(plan, processes=1)
    one = np.load(plan.output)
    make_rows(plan, processes=2)
    assert np.array_equal(np.load(plan.output), one)


@pytest.mark.parametrize("max_tokens, n_rows", [(1, 1), (5 * 128, 5), (6 * 128 - 1, 5)])
def test_the_budget_is_kept(plan, max_tokens, n_rows):
    limited = RowPlan(plan.corpus, plan.tokenizer, plan.output, plan.length, max_tokens)
    assert make_rows(limited, processes=1) == n_rows
    assert len(np.load(plan.output)) == n_rows


@pytest.mark.parametrize("files", [[], [SourceFile("a", "a.py", "x")]])
def test_a_corpus_that_gives_no_rows_is_named(plan, files):
    write_split(plan.corpus, "train", files)
    with pytest.raises(UserError, match=f"the corpus in {plan.corpus} gives no rows"):
        make_rows(plan, processes=1)
    assert not plan.output.exists()


def test_a_tokenizer_without_markers_is_refused(plan, tiny_checkpoint, tmp_path):
    document = json.loads((tiny_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    document["added_tokens"] = document["added_tokens"][:1]
    for name in ("<|doc|>", "<|pad|>"):
        token_id = document["model"]["vocab"].pop(name)
        document["model"]["vocab"][f"{name[2:5]}"] = token_id
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="has no prompt markers"):
        make_rows(RowPlan(plan.corpus, tmp_path, plan.output), processes=1)


def test_a_vocabulary_that_a_row_cannot_hold_is_refused(plan, monkeypatch):
    monkeypatch.setattr(rows, "MAX_VOCAB_SIZE", 400)
    with pytest.raises(UserError, match="has 440 entries, rows hold ids below 400"):
        make_rows(plan, processes=1)


def test_a_folder_that_cannot_be_written_is_named(plan, tmp_path):
    (tmp_path / "new").write_text("a file is in the way")
    with pytest.raises(UserError, match=f"cannot write {plan.output}"):
        make_rows(plan, processes=1)
