"""Packages to measure on are the pinned ones or none: fetched once, checked, and named when they cannot be had."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import repositories
from tests.bench.repositories import HELD_OUT, QUALITY, TUNING, FetchError, Package, fetch, fetch_all

EXCLUDED = Path(__file__).resolve().parents[1] / "finetune" / "pretrain" / "excluded_packages.txt"


def archive(folder: Path, *names: str) -> Path:
    """A source distribution with the given files under its root."""
    path = folder / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(f"demo-1.0/{name}")
            member.size = 4
            tar.addfile(member, io.BytesIO(b"x=1\n"))
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package whose registry is a file beside us."""
    made = archive(tmp_path, "demo/__init__.py", "setup.py")
    monkeypatch.setattr(repositories, "_download", copying(made))
    return Package("python", "demo", "1.0", hashlib.sha256(made.read_bytes()).hexdigest(), "demo")


def copying(made: Path) -> Callable[[Package, Path], Path]:
    def download(package: Package, folder: Path) -> Path:
        target = folder / made.name
        target.write_bytes(made.read_bytes())
        return target

    return download


def test_a_package_is_fetched_once(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = fetch(package, tmp_path / "cache")
    assert (sources / "__init__.py").read_text() == "x=1\n"
    monkeypatch.setattr(repositories, "_download", None)
    assert fetch(package, tmp_path / "cache") == sources
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [sources.parent.name]


def test_another_file_than_the_pinned_one_is_refused(package: Package, tmp_path: Path) -> None:
    other = Package("python", "demo", "1.0", "0" * 64, "demo")
    with pytest.raises(FetchError, match=f"demo 1.0: .*{package.sha256}.*{'0' * 64}"):
        fetch(other, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_missing_folder_is_named(package: Package, tmp_path: Path) -> None:
    other = Package("python", "demo", "1.0", package.sha256, "elsewhere")
    with pytest.raises(FetchError, match="no folder elsewhere"):
        fetch(other, tmp_path / "cache")


def test_nothing_is_unpacked_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = archive(tmp_path, "../../escaped.py")
    monkeypatch.setattr(repositories, "_download", copying(made))
    package = Package("python", "demo", "1.0", hashlib.sha256(made.read_bytes()).hexdigest(), "demo")
    with pytest.raises(FetchError, match="cannot be unpacked"):
        fetch(package, tmp_path / "cache")
    assert not list(tmp_path.rglob("escaped.py"))


def test_a_wheel_is_an_archive_of_sources_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as wheel:
        wheel.writestr("demo/__init__.py", "x=1\n")
        wheel.writestr("demo-1.0.dist-info/METADATA", "")
    monkeypatch.setattr(repositories, "_download", copying(made))
    package = Package("python", "demo", "1.0", hashlib.sha256(made.read_bytes()).hexdigest(), "demo", "wheel")
    assert (fetch(package, tmp_path / "cache") / "__init__.py").read_text() == "x=1\n"


def test_all_that_can_be_had_is_and_the_rest_is_named(package: Package) -> None:
    other = Package("npm", "other", "2.0", "0" * 64, "src")
    found, problems = fetch_all([other, package])
    assert list(found) == [package]
    assert len(problems) == 1 and problems[0].startswith("other 2.0: ")


def test_without_npm_a_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FetchError, match="rxjs 7.8.1: npm is not installed"):
        fetch(HELD_OUT[-1], tmp_path / "cache")


def test_no_corpus_contains_what_is_measured_on() -> None:
    excluded = EXCLUDED.read_text(encoding="utf-8").split()
    assert {package.name for package in (*HELD_OUT, *QUALITY, *TUNING)} <= set(excluded)
