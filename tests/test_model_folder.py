"""Where a model lies: what a name means, and that a model that is missing is named with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.lm import model_folder
from server.lm.checkpoint import CheckpointError
from server.lm.model_folder import resolve_model


def in_hub_cache(home: Path, name: str, commit: str = "abc123") -> Path:
    """An empty snapshot folder in the hub cache of this test."""
    snapshot = home / ".cache/huggingface/hub" / f"models--{name.replace('/', '--')}" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return snapshot


def test_home_folder_is_understood(user_directory: Path) -> None:
    (user_directory / "models").mkdir()
    assert resolve_model("~/models") == user_directory / "models"


def test_hub_name_resolves_to_the_snapshot_of_main(user_directory: Path) -> None:
    in_hub_cache(user_directory, "org/name", "new")
    wanted = in_hub_cache(user_directory, "org/name", "of-main")
    refs = wanted.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("of-main\n")
    assert resolve_model("org/name") == wanted


def test_hub_name_without_branch_resolves_to_its_snapshot(user_directory: Path) -> None:
    snapshot = in_hub_cache(user_directory, "org/name")
    assert resolve_model("org/name") == snapshot


@pytest.mark.parametrize(
    "variables, hub",
    [
        ({"HF_HUB_CACHE": "a", "HF_HOME": "b", "XDG_CACHE_HOME": "c"}, "a"),
        ({"HF_HOME": "b", "XDG_CACHE_HOME": "c"}, "b/hub"),
        ({"XDG_CACHE_HOME": "c"}, "c/huggingface/hub"),
        ({"HOME": "d"}, "d/.cache/huggingface/hub"),
    ],
    ids=["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"],
)
def test_hub_cache_is_where_the_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], hub: str
) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    snapshot = tmp_path / hub / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    assert resolve_model("org/name") == snapshot


@pytest.mark.parametrize("name", ["org/name", "gpt2"])
def test_unknown_name_says_how_to_download_it(name: str, user_directory: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model(name)
    assert f"`hf download {name}`" in str(caught.value)
    assert str(user_directory) in str(caught.value)


@pytest.mark.parametrize("name", ["/nowhere/model", "a/b/c", "../model", "two words", ""])
def test_what_cannot_be_a_hub_name_is_called_a_missing_folder(name: str) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        resolve_model(name)


def test_a_bare_name_means_the_hub_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_directory: Path
) -> None:
    for folder in ("gpt2", "org/name", "two words"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"gpt2 is not in the hub cache .*; for the folder, name \./gpt2"):
        resolve_model("gpt2")
    snapshot = in_hub_cache(user_directory, "gpt2")
    assert resolve_model("gpt2") == snapshot
    for name in ("./gpt2", "gpt2/", str(tmp_path / "gpt2")):
        assert resolve_model(name) == tmp_path / "gpt2"
    for name in ("org/name", "two words"):
        assert resolve_model(name) == tmp_path / name


@pytest.mark.parametrize("name", ["~no-such-user-here/model", "/" + 5000 * "x", 5000 * "x/"])
def test_a_name_that_the_system_refuses_is_a_problem_in_words(name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be looked for") as caught:
        resolve_model(name)
    assert len(str(caught.value)) < 400


def test_a_folder_that_may_not_be_looked_at_is_a_problem_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(CheckpointError, match=r"'/secret/model' cannot be looked for \(Permission denied\)"):
        resolve_model("/secret/model")


def test_default_is_the_model_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(model_folder.__file__).parents[1]
    assert model_folder._BASE_MODEL.relative_to(package) == Path("base_model")
    monkeypatch.setattr(model_folder, "_BASE_MODEL", tmp_path)
    with pytest.raises(CheckpointError, match=r"base model is missing: .*reinstall loracle.*--model"):
        resolve_model("default")
    (tmp_path / "config.json").write_text("{}")
    assert resolve_model("default") == tmp_path
