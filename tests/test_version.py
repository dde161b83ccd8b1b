from importlib import metadata

import pytest

from server.version import NOT_INSTALLED, version_of


def test_the_version_is_that_of_the_installed_package() -> None:
    assert version_of() == metadata.version("loracle") and version_of("numpy") == metadata.version("numpy")


def test_sources_that_were_never_installed_have_no_version_and_raise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_found)
    assert version_of() == NOT_INSTALLED
