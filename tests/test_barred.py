"""Which files stay out of the model."""

from __future__ import annotations

import pytest

from server.repository.barred import is_barred_path


@pytest.mark.parametrize(
    "path, glob",
    [
        ("build/out.py", "build"),
        ("build/out.py", "build/"),
        ("app/build/out.py", "build/"),
        ("app/generated/out.py", "**/generated/**"),
        ("generated/out.py", "**/generated/**"),
        ("app/schema_pb2.py", "*_pb2.py"),
        ("app/models.py", "models.py"),
        ("vendor/a/b.py", "/vendor/**"),
        ("vendor/a/b.py", "/vendor"),
        ("vendor/a/b.py", "./vendor/"),
        ("a.py", "./a.py"),
        ("./a.py", "a.py"),
        ("src/../vendor/b.py", "/vendor"),
        ("vendor\\b.py", "vendor/*"),
        ("/opt/shared/b.py", "/opt/shared/**"),
        ("/opt/shared/b.py", "shared"),
    ],
)
def test_a_glob_means_a_path_a_name_or_a_folder(path: str, glob: str) -> None:
    assert is_barred_path(path, [glob])


@pytest.mark.parametrize(
    "path, glob",
    [
        ("app/vendor/b.py", "/vendor/**"),
        ("app/vendor/b.py", "./vendor"),
        ("vendor.py", "/vendor"),
        ("build", "build/"),  # a folder alone
        ("rebuild/a.py", "build"),
        ("a.py", ""),
        ("a.py", "/"),
        ("a.py", "./"),
        ("a.py", "."),
    ],
)
def test_a_glob_means_nothing_else(path: str, glob: str) -> None:
    assert not is_barred_path(path, [glob])


@pytest.mark.parametrize("path", [".env", "app/.env.local", "home/.ssh/config", "x/../.env"])
def test_secrets_are_barred_by_their_name(path: str) -> None:
    assert is_barred_path(path, [])
