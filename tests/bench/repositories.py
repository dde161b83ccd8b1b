"""Source distributions that no corpus contains, pinned, fetched once into the user's cache folder.

The packages are among those that pretraining leaves out for ever, so a model has not seen them. Fetched with pip and
npm as they are configured here; never put into the repository.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.bench.table import BenchError

_TIMEOUT_S = 600


class FetchError(BenchError):
    """A package could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned release."""

    registry: Literal["python", "npm"]
    name: str
    version: str
    sha256: str  # of the archive
    sources: str  # the folder of the library's own code, below the archive's root

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


HELD_OUT = (
    Package("python", "tweepy", "4.17.0", "c232e9fffa0b15b81d5ff8ec59d46af85e330285ffc3e64614d2418fb9af71b5", "tweepy"),
    Package("python", "fabric", "3.2.3", "dcbd2c47ad87688facaef5cc11aab6d1ec9ed05645fed97a5de7204d5d17cc44", "fabric"),
    Package(
        "python",
        "pychromecast",
        "14.0.10",
        "f05a1c8d727d4f104c8c731688053033e05157f2ab81bc8eef50ec0c62f9373c",
        "pychromecast",
    ),
    Package("npm", "rxjs", "7.8.1", "c532167725ab7d085123209156c93cef22f2479cb9c8527060f1cd903aa9d149", "src"),
)


def cache_folder() -> Path:
    """Where packages and results are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_path("loracle", appauthor=False)) / "bench"


def fetch_all(packages: Iterable[Package] = HELD_OUT) -> tuple[dict[Package, Path], list[str]]:
    """The folder of each package's sources, and one sentence for each that could not be had."""
    found: dict[Package, Path] = {}
    problems = []
    for package in packages:
        try:
            found[package] = fetch(package, cache_folder())
        except FetchError as error:
            problems.append(str(error))
    return found, problems


def fetch(package: Package, cache: Path) -> Path:
    """The folder of the package's sources, fetched and unpacked unless it is there already. FetchError otherwise."""
    unpacked = cache / f"{package.name}-{package.version}-{package.sha256[:12]}"
    if not unpacked.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            archive = _download(package, Path(folder))
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            if digest != package.sha256:
                raise FetchError(
                    f"{package}: {archive.name} has the checksum {digest}, {package.sha256} was expected; "
                    f"the registry serves another file than the one that was pinned"
                )
            _unpack(archive, unpacked, Path(folder) / "unpacked")
    sources = unpacked / package.sources
    if not sources.is_dir():
        raise FetchError(f"{package}: no folder {package.sources} in {unpacked}; delete it to fetch it again")
    return sources


def _download(package: Package, folder: Path) -> Path:
    """The archive, put into `folder` by the registry's own client."""
    if package.registry == "python":
        wanted = f"{package.name}=={package.version}"
        options = ["--no-deps", "--no-binary", ":all:", "--quiet", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, wanted]
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise FetchError(f"{package}: npm is not installed; install Node.js to measure TypeScript")
        command = [npm, "pack", f"{package.name}@{package.version}", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, cwd=folder)
    except subprocess.TimeoutExpired:
        raise FetchError(f"{package}: not fetched within {_TIMEOUT_S} s") from None
    archives = [path for path in folder.iterdir() if path.name.endswith((".tar.gz", ".tgz"))]
    if done.returncode or len(archives) != 1:
        says = [line.strip() for line in done.stderr.split("\n") if line.strip()]
        raise FetchError(f"{package}: not fetched: {says[-1] if says else 'no archive came'}")
    return archives[0]


def _unpack(archive: Path, target: Path, aside: Path) -> None:
    """Puts the content of the archive's root folder at `target`, all of it or nothing."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(aside, filter="data")
        (root,) = [path for path in aside.iterdir() if path.is_dir()]
    except (tarfile.TarError, OSError, ValueError) as error:
        raise FetchError(f"{archive.name} cannot be unpacked: {error}") from error
    try:
        os.replace(root, target)
    except OSError:
        if not target.is_dir():  # another run may have been faster
            raise
