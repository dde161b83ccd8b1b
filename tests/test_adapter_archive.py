"""Adapters as zip files: what is carried, and that nothing comes back in that is damaged or could not serve."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetune.__main__ import main
from finetune.evaluating import Evaluation
from finetune.options import EXIT_ERROR, EXIT_PUBLISHED
from server.lm.adapter_manifest import (
    ADAPTER_FILES,
    MANIFEST_FILE,
    SOURCE_SCORES,
    AdapterError,
    BaseIdentity,
    file_hashes,
    read_manifest,
    write_manifest,
)
from server.lm.adapter_store import AdapterStore
from server.lm.checkpoint import Weights, open_checkpoint
from server.lm.errors import UserError
from server.lm.model import base_identity
from server.lm.tokenizer import load_tokenizer
from tests.adapters import random_adapter


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "work" / "shop", tmp_path / "data")


@pytest.fixture
def exported(store: AdapterStore, tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A zip file of an adapter that fits `tiny_checkpoint`."""
    folder = tmp_path / "fitting"
    case = {
        "path": "shop.py",
        "line": 3,
        "typed": "total = ",
        "target": "secret_sauce(basket)",
        "before": "",
        "after": "x",
    }
    evaluation = {"bits_before": 2.0, "bits_after": 1.5, "won": [case], "lost": [case]}
    manifest = replace(random_adapter(folder, tiny_checkpoint), scores={"evaluation": evaluation})
    store.publish(folder, replace(manifest, trained_files={"shop.py": "0" * 64}))
    store.export(tmp_path / "adapter.zip")
    return tmp_path / "adapter.zip"


def base_of(checkpoint: Path) -> tuple[BaseIdentity, Weights]:
    opened = open_checkpoint(checkpoint)
    return base_identity(opened, load_tokenizer(checkpoint)), opened.weights


def rewritten(exported: Path, change: Callable[[Path], None], *, name_the_files: bool = True) -> Path:
    """The zip file with its files changed, and with checksums that fit them."""
    folder, changed = exported.with_name("rewritten"), exported.with_name("rewritten.zip")
    with zipfile.ZipFile(exported) as archive:
        archive.extractall(folder)
    change(folder)
    if name_the_files:
        write_manifest(folder, replace(read_manifest(folder), files=file_hashes(folder)))
    with zipfile.ZipFile(changed, "w") as archive:
        for each in sorted(folder.iterdir()):
            archive.write(each, each.name)
    return changed


def test_an_exported_adapter_can_be_imported_elsewhere(
    store: AdapterStore, exported: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = AdapterStore(tmp_path / "other", tmp_path / "data")
    version = other.import_(exported, *base_of(tiny_checkpoint))
    there, here = other.current(), store.current()
    assert there is not None and there.name == version and here is not None
    assert file_hashes(there) == file_hashes(here)
    assert read_manifest(there).trained_files == {"shop.py": "0" * 64}
    with pytest.raises(UserError, match="no adapter is in force"):
        AdapterStore(tmp_path / "third", tmp_path / "data").export(tmp_path / "none.zip")


def test_an_export_carries_figures_but_no_line_of_the_repository(store: AdapterStore, exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert not any(b"secret_sauce" in content for content in contents.values())
    scores = json.loads(contents[MANIFEST_FILE])["scores"]
    assert scores == {"evaluation": {"bits_before": 2.0, "bits_after": 1.5}}
    here = store.versions()[0].manifest
    assert here is not None and here.scores["evaluation"]["won"]  # at home it stays


def test_all_that_an_evaluation_quotes_stays_out_of_an_export() -> None:
    quoting = {each.name for each in fields(Evaluation) if "Case" in str(each.type)}
    assert quoting == set(SOURCE_SCORES)


def with_fields(folder: Path, **values: object) -> None:
    path = folder / ADAPTER_FILES[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def with_tensor(folder: Path, ending: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Changes the first tensor whose name ends so."""
    tensors = load_file(folder / ADAPTER_FILES[1])
    name = next(name for name in sorted(tensors) if name.endswith(ending))
    save_file(tensors | {name: np.ascontiguousarray(change(tensors[name]))}, folder / ADAPTER_FILES[1])


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda folder: (folder / ADAPTER_FILES[0]).write_text("{"), "cannot read the adapter configuration"),
        (lambda folder: with_fields(folder, peft_type="IA3"), "peft_type = 'IA3'"),
        (lambda folder: with_fields(folder, lora_alpha=float("nan")), "no number"),
        (lambda folder: with_fields(folder, trainable_token_indices={"wte": [-1]}), "below 0"),
        (lambda folder: with_fields(folder, trainable_token_indices={"wte": ["x"]}), "cannot be merged"),
        (lambda folder: (folder / ADAPTER_FILES[1]).write_bytes(b"x" * 100), "cannot read the adapter"),
        (lambda folder: with_tensor(folder, "lora_B.weight", lambda value: value[:9]), "with shape"),
        (lambda folder: with_tensor(folder, "lora_A.weight", lambda value: value[:1]), "cannot be multiplied"),
        (lambda folder: with_tensor(folder, "lora_A.weight", lambda value: value[0]), "cannot be multiplied"),
        (lambda folder: with_tensor(folder, "lora_B.weight", lambda value: value * np.nan), "no number"),
    ],
)  # fmt: skip
def test_an_import_that_cannot_be_merged_is_refused(
    store: AdapterStore, exported: Path, tiny_checkpoint: Path, change: Callable[[Path], None], said: str
) -> None:
    before = store.current()
    with pytest.raises(AdapterError, match=said) as raised:
        store.import_(rewritten(exported, change), *base_of(tiny_checkpoint))
    assert "rewritten.zip" in str(raised.value) and "loracle-import-" not in str(raised.value)
    assert "train one here with" in str(raised.value) and "is as it was" in str(raised.value)
    assert store.current() == before and len(store.versions()) == 1


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda folder: (folder / ADAPTER_FILES[0]).write_text("{}"), "checksum"),
        (lambda folder: (folder / MANIFEST_FILE).write_text("[" * 100_000), "cannot read .*manifest.json"),
        (lambda folder: with_manifest(folder, trained_files=["a"]), "cannot read .*manifest.json"),
        (lambda folder: with_manifest(folder, created_at="soon"), "cannot read .*manifest.json"),
        (lambda folder: with_manifest(folder, commit=7), "cannot read .*manifest.json"),
        (lambda folder: with_manifest(folder, scores=[]), "cannot read .*manifest.json"),
    ],
)
def test_an_import_that_is_not_what_its_manifest_says_is_refused(
    store: AdapterStore, exported: Path, tiny_checkpoint: Path, change: Callable[[Path], None], said: str
) -> None:
    before = store.current()
    with pytest.raises(AdapterError, match=said):
        store.import_(rewritten(exported, change, name_the_files=False), *base_of(tiny_checkpoint))
    assert store.current() == before and len(store.versions()) == 1


def with_manifest(folder: Path, **values: object) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_import_for_another_base_is_refused(store: AdapterStore, exported: Path, tiny_checkpoint: Path) -> None:
    before = store.current()
    base, weights = base_of(tiny_checkpoint)
    with pytest.raises(AdapterError, match=r"prompt_version = \d, this model has 99"):
        store.import_(exported, replace(base, prompt_version=99), weights)
    assert store.current() == before and len(store.versions()) == 1


def test_what_is_no_export_is_refused_and_nothing_is_touched(
    store: AdapterStore, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil", "x")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for name in (*ADAPTER_FILES, MANIFEST_FILE):
            archive.writestr(name, "x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(MANIFEST_FILE, "x")
    (tmp_path / "text.zip").write_text("text")
    (tmp_path / "folder.zip").mkdir()
    for name in ("evil.zip", "twice.zip", "text.zip", "folder.zip", "missing.zip"):
        with pytest.raises(UserError, match=rf"{name} is no exported adapter.*make one with"):
            store.import_(tmp_path / name, *base_of(tiny_checkpoint))
    assert not (tmp_path / "evil").exists() and not store.folder.exists()


@pytest.mark.parametrize(
    "at, said",
    [(6, "encrypted"), (8, "compress")],
)
def test_a_zip_of_a_kind_that_is_not_read_is_refused(
    store: AdapterStore, exported: Path, tiny_checkpoint: Path, at: int, said: str
) -> None:
    content = bytearray(exported.read_bytes())
    for mark, offset in ((b"PK\x03\x04", at), (b"PK\x01\x02", at + 2)):
        start = content.find(mark)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(mark, start + 1)
    exported.write_bytes(content)
    with pytest.raises(UserError, match=said):
        store.import_(exported, *base_of(tiny_checkpoint))
    assert len(store.versions()) == 1


def test_whatever_byte_is_damaged_an_import_is_whole_or_refused(
    store: AdapterStore, exported: Path, tiny_checkpoint: Path
) -> None:
    whole, base = exported.read_bytes(), base_of(tiny_checkpoint)
    here = store.current()
    assert here is not None
    expected, draw = file_hashes(here), random.Random(5)
    places = {draw.randrange(len(whole)) for _ in range(80)} | {len(whole) - 1 - back for back in range(60)}
    n_refused = 0
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= draw.choice([0x01, 0x40, 0xFF])
        exported.write_bytes(damaged if draw.random() < 0.8 else damaged[:place])
        try:
            store.import_(exported, *base)
        except UserError:
            n_refused += 1
        current = store.current()
        assert current is not None and file_hashes(current) == expected
    assert n_refused > len(places) / 2


def test_the_command_line_imports_and_refuses_in_a_sentence(
    exported: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    command = [str(tmp_path / "mine"), "--base", str(tiny_checkpoint), "--import"]
    assert main([*command, str(exported)]) == EXIT_PUBLISHED
    current = AdapterStore(tmp_path / "mine").current()
    assert current is not None and capsys.readouterr().out == f"{current.name} is in force\n"
    exported.write_bytes(exported.read_bytes()[:-30])
    assert main([*command, str(exported)]) == EXIT_ERROR
    assert "no exported adapter, or damaged: " in capsys.readouterr().err
    assert AdapterStore(tmp_path / "mine").current() == current


def test_an_import_without_room_for_temporary_files_is_one_sentence(
    store: AdapterStore, exported: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("server.lm.adapter_store.tempfile.mkdtemp", refuse)
    with pytest.raises(UserError, match="no temporary folder can be made.*TMPDIR; the adapter in force is as it was"):
        store.import_(exported, *base_of(tiny_checkpoint))
