"""The doctor: every problem is found, with its remedy, and none hides the next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from server import doctor
from server.doctor import Finding, examine, look
from server.lm.adapter_store import AdapterStore
from server.settings_files import user_settings_file
from tests.adapters import random_adapter


@pytest.fixture(autouse=True)
def fewer_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "N_COMPLETIONS", 3)


def findings(**command_line: object) -> dict[str, Finding]:
    return {finding.name: finding for finding in look({"threads": 1, **command_line})}


def test_a_healthy_installation(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine({"model": str(tiny_checkpoint), "threads": 1}, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(":")[0].split()[1] for line in lines[:-1] if line.startswith("ok")]
    assert names == ["installation", "cache", "index", "settings", "syntax", "model", "adapter", "completions"]
    assert lines[-1] == "all is well"


def test_json_says_the_same(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine({"model": str(tiny_checkpoint), "threads": 1}, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert Path(report["package"]) == Path(doctor.__file__).parent
    assert {finding["name"] for finding in report["findings"]} >= {"installation", "model", "completions"}


def test_each_problem_has_its_remedy_and_the_others_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.LIBRARIES, "no_such_library", "no-such-library")
    monkeypatch.setattr("server.lm.syntax.n_errors", lambda *_: None)
    user_settings_file().parent.mkdir(parents=True)
    user_settings_file().write_text("threads = 'many'\n")
    found = findings(model="nobody/no-such-model")
    problems = {name: finding for name, finding in found.items() if not finding.is_fine}
    assert set(problems) == {"installation", "settings", "syntax", "model"}
    assert all(finding.remedy for finding in problems.values())
    assert "no-such-library" in problems["installation"].says
    assert "threads" in problems["settings"].says
    assert "hf download nobody/no-such-model" in problems["model"].remedy
    assert found["cache"].is_fine
    assert "completions" not in found  # there is no model to ask


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file"))  # a file where a folder is needed: refused to root as well
    finding = doctor.look_at_cache()
    assert not finding.is_fine
    assert "cannot write" in finding.says
    assert finding.remedy


def test_the_index_of_the_current_folder_is_named_or_its_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.index.build import build
    from server.index.store import index_folder, read_current

    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "module.py").write_text("def add(first, second):\n    return first + second\n" * 3)
    monkeypatch.chdir(tmp_path)
    assert "nothing is kept" in doctor.look_at_indexes().says
    build(tmp_path, index_folder(tmp_path))
    finding = doctor.look_at_indexes()
    assert finding.is_fine
    assert f"{tmp_path}: 1 files" in finding.says
    generation = read_current(index_folder(tmp_path))
    assert generation is not None
    (generation.folder / "manifest.json").write_text("{")
    finding = doctor.look_at_indexes()
    assert not finding.is_fine
    assert str(index_folder(tmp_path)) in finding.remedy


def test_the_adapter_of_the_current_folder_is_named_with_its_age(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    (root / "pyproject.toml").touch()
    monkeypatch.chdir(root)
    manifest = random_adapter(tmp_path / "candidate", tiny_checkpoint)
    store = AdapterStore(root)
    store.publish(tmp_path / "candidate", manifest)
    found = findings(model=str(tiny_checkpoint))["adapter"]
    assert found.is_fine and found.remedy == "" and str(store.current()) in found.says
    assert found.says.endswith("0 of 0 learned files changed, 0 new: no new run is needed")
    store.publish(tmp_path / "candidate", replace(manifest, trained_files={"gone.py": "0" * 64}))
    found = findings(model=str(tiny_checkpoint))["adapter"]
    assert found.is_fine and "1 of 1 learned files have changed" in found.remedy and "train it again" in found.remedy


def test_a_damaged_model_is_a_problem_and_no_traceback(make_checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert not examine({"model": str(folder), "threads": 1}, as_json=False)
    printed = capsys.readouterr()
    assert "PROBLEM model:" in printed.out
    assert printed.out.splitlines()[-1] == "there are problems; see above"
    assert "Traceback" not in printed.out + printed.err


def test_whatever_a_library_raises_is_a_finding() -> None:
    def fail() -> Finding:
        raise ZeroDivisionError("in somebody's library")

    finding = doctor.attempted("something", fail)
    assert not finding.is_fine
    assert finding.says == "ZeroDivisionError: in somebody's library"
    assert finding.remedy


def test_a_slow_machine_is_told_what_to_change(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.figures.percentile", lambda values, percent: 10.0 * percent)
    finding = findings(model=str(tiny_checkpoint))["completions"]
    assert finding.is_fine
    assert "completion.deadlineMs" in finding.remedy


def test_the_example_has_enough_cursors() -> None:
    from server.lm.context import Document
    from server.lm.languages import language_for

    text = doctor.EXAMPLE.read_text(encoding="utf-8")
    offsets = list(doctor.example_offsets(Document("", "", language_for("python"), text)))
    assert len(offsets) == doctor.N_COMPLETIONS
    assert offsets == sorted(set(offsets))
    assert all(text[offset - 1].strip() and text[offset].isspace() for offset in offsets)
