"""Which adapter serves: the published one, one that a trusted repository brings, the named one, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from server.adapter_choice import REPOSITORY_FOLDER, chosen_adapter, untrusted_adapter
from server.lm.adapter_manifest import write_manifest
from server.lm.adapter_store import AdapterStore
from server.lm.errors import UserError
from server.lm.model import load_model
from server.loading import ModelChoice, load_chosen
from server.session import Session
from server.settings import Settings
from server.settings_files import file_layers
from server.trust import is_trusted, trust
from tests.adapters import random_adapter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def published(root: Path, checkpoint: Path, tmp_path: Path, seed: int = 0) -> Path:
    """The folder of an adapter that was published for `root`."""
    store = AdapterStore(root)
    store.publish(tmp_path / f"candidate-{seed}", random_adapter(tmp_path / f"candidate-{seed}", checkpoint, seed))
    folder = store.current()
    assert folder is not None
    return folder


def test_what_was_published_for_the_first_folder_serves(root: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert chosen_adapter("auto", []) is None and chosen_adapter("auto", [root]) is None
    folder = published(root, tiny_checkpoint, tmp_path)
    assert chosen_adapter("auto", [root, tmp_path]) == folder
    assert chosen_adapter("auto", [tmp_path, root]) is None
    assert chosen_adapter("off", [root]) is None


def test_a_named_folder_serves_and_one_that_is_none_is_refused(root: Path, tmp_path: Path) -> None:
    assert chosen_adapter(str(root), []) == root
    with pytest.raises(UserError, match="no adapter folder .*missing"):
        chosen_adapter(str(tmp_path / "missing"), [root])


def test_what_a_repository_brings_counts_once_it_is_trusted(root: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    brought = root / REPOSITORY_FOLDER
    write_manifest(brought, random_adapter(brought, tiny_checkpoint))
    assert chosen_adapter("auto", [root]) is None and untrusted_adapter(root) == brought
    trust(root)
    assert is_trusted(root) and not is_trusted(tmp_path)
    assert chosen_adapter("auto", [root]) == brought and untrusted_adapter(root) is None
    assert chosen_adapter("auto", [root]) != published(root, tiny_checkpoint, tmp_path)
    assert chosen_adapter("auto", [root]) != brought  # what the user trained comes first


def test_a_trusted_workspace_chooses_its_model(root: Path) -> None:
    (root / "pyproject.toml").write_text('[tool.loracle]\nmodel = "./theirs"\n')
    assert file_layers([root])[0][-1].from_repository
    trust(root)
    assert not file_layers([root])[0][-1].from_repository


def test_trust_that_cannot_be_kept_is_a_sentence(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write .*trusted\.json .* is not trusted"):
        trust(root)


def test_an_adapter_changes_the_model_and_its_fingerprint(root: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folders = [published(root, tiny_checkpoint, tmp_path, seed) for seed in (1, 2)]
    base = load_model(str(tiny_checkpoint), precision="fp32", threads=1)
    adapted = [load_model(str(tiny_checkpoint), precision="fp32", threads=1, adapter=folder) for folder in folders]
    assert len({model.fingerprint for model in (base, *adapted)}) == 3
    logits = [model.completion_cache.advance([5, 9, 20], n_keep=1).logits for model in (base, *adapted)]
    assert all(each is not None for each in logits)
    assert abs(logits[0] - logits[1]).max() > 1e-3 < abs(logits[1] - logits[2]).max()


@pytest.mark.parametrize("change", ["other base", "damaged", "gone"])
def test_an_adapter_that_cannot_serve_leaves_the_base_model_to_serve(
    root: Path, tiny_checkpoint: Path, tmp_path: Path, change: str
) -> None:
    folder = tmp_path / "adapter"
    manifest = random_adapter(folder, tiny_checkpoint)
    if change == "other base":
        manifest = replace(manifest, base=replace(manifest.base, fingerprint="0" * 64))
    write_manifest(folder, manifest)
    if change == "damaged":
        (folder / "adapter_config.json").write_text("{}")
    elif change == "gone":
        (folder / "adapter_model.safetensors").unlink()
    model = load_chosen(ModelChoice(str(tiny_checkpoint), "auto", 1, folder))
    assert model.adapter is None and model.adapter_problem is not None
    said = {"other base": "fingerprint = 000000000000, this model has", "damaged": "checksum", "gone": "not whole"}
    assert said[change] in model.adapter_problem and "train it again" in model.adapter_problem


async def test_another_adapter_in_the_same_folder_is_loaded(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    write_manifest(folder, random_adapter(folder, tiny_checkpoint, seed=1))
    session, settings = Session(), Settings(model=str(tiny_checkpoint), adapter=str(folder), threads=1)
    fingerprints = set()
    try:
        for seed in (1, 2):  # as `git pull` brings one, or `--output` writes it
            write_manifest(folder, random_adapter(folder, tiny_checkpoint, seed=seed))
            assert seed == 1 or session.has_other_adapter()
            loading = session.configure(settings, ()) if seed == 1 else session.choose_model()
            assert loading is not None
            await loading
            assert session.model is not None and session.model.adapter == folder
            fingerprints.add(session.model.fingerprint)
            assert not session.has_other_adapter() and session.choose_model() is None
        assert len(fingerprints) == 2
    finally:
        session.close()
