"""Packages that no corpus contains, pinned, fetched once into the user's cache folder.

They are among those that pretraining leaves out for ever, so a model has not seen them. `QUALITY` only reports, what is
fitted (thresholds, weights, gates) is fitted on `TUNING`. Fetched with pip and npm as they are configured here; never
put into the repository.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
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
    form: Literal["source distribution", "wheel"] = "source distribution"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


TWEEPY = Package(
    "python", "tweepy", "4.17.0", "c232e9fffa0b15b81d5ff8ec59d46af85e330285ffc3e64614d2418fb9af71b5", "tweepy"
)
FABRIC = Package(
    "python", "fabric", "3.2.3", "dcbd2c47ad87688facaef5cc11aab6d1ec9ed05645fed97a5de7204d5d17cc44", "fabric"
)
PYCHROMECAST = Package(
    "python",
    "pychromecast",
    "14.0.10",
    "f05a1c8d727d4f104c8c731688053033e05157f2ab81bc8eef50ec0c62f9373c",
    "pychromecast",
)
MITMPROXY = Package(
    "python",
    "mitmproxy",
    "11.0.2",
    "95db7b57b21320a0c76e59e1d6644daaa431291cdf89419608301424651199b4",
    "mitmproxy",
    "wheel",
)
STREAMLINK = Package(
    "python",
    "streamlink",
    "8.6.3",
    "d3602a2629b62d935a7ddc2f31dcea7797b3780654dcccbd5c3dd5b5f7e380c8",
    "src/streamlink",
)
# The root: the library's code is in two folders, `beets` and `beetsplug`.
BEETS = Package("python", "beets", "2.14.1", "b25dc7bf8ed093d8b6e043e88013736902c1082c958b81a598af5db5275539a5", ".")
SOCO = Package("python", "soco", "0.32.0", "b2896b1a98d65828cc11bbb372b3424e06fb1f943671a3ab793d9423317a0d63", "soco")
NIKOLA = Package(
    "python", "nikola", "8.3.3", "636d7d6ffc2ab24f4c2649e8695f8bb5604e309153ea4b60b786facae03ab1c7", "nikola"
)
PYMODBUS = Package(
    "python", "pymodbus", "3.16.1", "19e571826dff37860afc31c845c1fd2fb72acffca02a233506b32d94fa022c33", "pymodbus"
)
RXJS = Package("npm", "rxjs", "7.8.1", "c532167725ab7d085123209156c93cef22f2479cb9c8527060f1cd903aa9d149", "src")
# Not measured on: its declarations say which names JavaScript and browsers have by themselves.
TYPESCRIPT = Package(
    "npm", "typescript", "5.9.3", "10e108c9cf7d5f2879053dff18515fb405abf2ccef63eaaf017d9c571687a1d3", "lib"
)

QUALITY = (STREAMLINK, BEETS, SOCO, NIKOLA, PYMODBUS, RXJS)
TUNING = (TWEEPY, MITMPROXY, FABRIC, PYCHROMECAST)
HELD_OUT = (TWEEPY, FABRIC, PYCHROMECAST, RXJS)  # for the parts that need files and no repository


def cache_folder() -> Path:
    """Where packages and results are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_path("loracle", appauthor=False)) / "bench"


def servers_folder() -> Path:
    """The cache folder of servers that are measured in repositories: no index of the user's own makes room for theirs.

    One for all runs, so that a model is converted once.
    """
    return cache_folder() / "servers"


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
        refused = "--no-binary" if package.form == "source distribution" else "--only-binary"
        options = ["--no-deps", refused, ":all:", "--quiet", "--dest", str(folder)]
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
    archives = [path for path in folder.iterdir() if path.name.endswith((".tar.gz", ".tgz", ".whl"))]
    if done.returncode or len(archives) != 1:
        says = [line.strip() for line in done.stderr.split("\n") if line.strip()]
        raise FetchError(f"{package}: not fetched: {says[-1] if says else 'no archive came'}")
    return archives[0]


def _unpack(archive: Path, target: Path, aside: Path) -> None:
    """Puts the content of the archive's root at `target`, all of it or nothing. A wheel has no folder around all."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(aside)
            root = aside
        else:
            with tarfile.open(archive, "r:gz") as tar:
                tar.extractall(aside, filter="data")
            (root,) = [path for path in aside.iterdir() if path.is_dir()]
    except (tarfile.TarError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise FetchError(f"{archive.name} cannot be unpacked: {error}") from error
    try:
        os.replace(root, target)
    except OSError:
        if not target.is_dir():  # another run may have been faster
            raise
