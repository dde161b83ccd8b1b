"""Where the index of a workspace lies between two starts: whole generations in the user's cache folder.

    <cache>/loracle/index/<hash of the root>/
        current                       the name of the generation in use
        <name>/manifest.json          what it was built of
        <name>/repository/            a segment: the workspace's own files
        <name>/dependencies/          a segment: files of installed packages

A generation is named after what it was built of. It is written aside and renamed, then the pointer is replaced: whoever
is killed in between leaves the former generation in use, and whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from server.lm.errors import UserError

if TYPE_CHECKING:
    from server.index.segment import Segment

FORMAT = 1
MAX_KEPT_ROOTS = 16  # workspaces; the index of the one that was opened longest ago goes first
ASIDE_LIFETIME_S = 3600  # what was written aside longer ago belongs to a build that was killed

REPOSITORY_FOLDER, DEPENDENCIES_FOLDER = "repository", "dependencies"
POINTER_FILE, _MANIFEST_FILE = "current", "manifest.json"
_ASIDE, _OLD = "partial-", "old-"

TierName = Literal["repository", "dependencies"]


class StoreError(UserError):
    """An index cannot be kept."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file that a generation was built of, or that was read and left out."""

    path: str  # as in the segment
    n_bytes: int  # on disk
    mtime_ns: int
    tier: TierName
    dropped: str | None = None  # why it is not in the segment


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a generation was built of."""

    name: str  # hash of what decides the content
    root: str
    rule_version: int
    repository_hash: str  # of the list of the workspace's own files
    wanted_python: tuple[str, ...]  # packages that the workspace imports
    wanted_script: tuple[str, ...]
    files: tuple[FileRecord, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)  # files left out, by reason
    limit_reached: str | None = None  # a sentence for the user

    @property
    def n_files(self) -> int:
        """How many files the segments hold."""
        return sum(1 for file in self.files if file.dropped is None)


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole index on disk."""

    folder: Path
    manifest: Manifest

    @property
    def repository(self) -> Path:
        """The folder of the segment of the workspace's own files."""
        return self.folder / REPOSITORY_FOLDER

    @property
    def dependencies(self) -> Path:
        """The folder of the segment of installed packages."""
        return self.folder / DEPENDENCIES_FOLDER


def index_folder(root: Path) -> Path:
    """Where the index of a workspace lies in the user's cache folder, whether it exists or not."""
    import platformdirs

    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    return platformdirs.user_cache_path("loracle", appauthor=False) / "index" / digest


def current_name(folder: Path) -> str | None:
    """The name of the generation in use: cheap to ask, to see whether there is a newer one."""
    try:
        name = (folder / POINTER_FILE).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return name if name.isalnum() else None


def read_current(folder: Path) -> Generation | None:
    """The generation in use; None where there is none, or none that this version can read."""
    name = current_name(folder)
    return None if name is None else read_generation(folder, name)


def read_generation(folder: Path, name: str) -> Generation | None:
    """The generation of that name; None if it is missing, damaged, or of another version."""
    inner = folder / name
    try:
        document = json.loads((inner / _MANIFEST_FILE).read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT or document["name"] != name:
            return None
        files = tuple(FileRecord(*record) for record in document.pop("files"))
        python, script = tuple(document.pop("wanted_python")), tuple(document.pop("wanted_script"))
        manifest = Manifest(files=files, wanted_python=python, wanted_script=script, **document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Generation(inner, manifest)


def write_generation(folder: Path, manifest: Manifest, repository: Segment, dependencies: Segment) -> None:
    """Keeps a generation and puts it in use. StoreError where the disk does not take it; the former one then stays."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the text of a private repository lies in here
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=folder))
        try:
            _fill(aside, manifest, repository, dependencies)
            _move_in(aside, folder / manifest.name)
            _point(folder, manifest.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"cannot keep the index of {manifest.root} in {folder}: {error.strerror or error}; what was indexed before "
            "stays in use. Make room there or make it writable, or set XDG_CACHE_HOME to another folder"
        ) from error


def use_generation(folder: Path, name: str) -> None:
    """Puts a generation that is already kept in use. StoreError where nothing can be written."""
    try:
        _point(folder, name)
    except OSError as error:
        raise StoreError(
            f"cannot change the index in {folder}: {error.strerror or error}; what was indexed before stays in use. "
            "Make it writable, or set XDG_CACHE_HOME to another folder"
        ) from error


def prune(folder: Path, keep: Iterable[str]) -> None:
    """Removes all generations but those named, and what killed builds have left. Never raises."""
    kept = {*keep, POINTER_FILE}
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if path.name.startswith(_ASIDE):
                if _age_s(path) > ASIDE_LIFETIME_S:
                    _remove(path)
            elif path.name not in kept:
                _remove(path)


def prune_roots(folder: Path, max_kept: int = MAX_KEPT_ROOTS) -> None:
    """Removes the indexes of the workspaces opened longest ago, beyond `max_kept`. `folder` holds one for each."""
    with suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda path: min(_age_s(path / POINTER_FILE), _age_s(path)))[
            max_kept:
        ]:
            _remove(path)


def _fill(folder: Path, manifest: Manifest, repository: Segment, dependencies: Segment) -> None:
    for name, segment in ((REPOSITORY_FOLDER, repository), (DEPENDENCIES_FOLDER, dependencies)):
        (folder / name).mkdir()
        segment.save(folder / name)
    document = {"format": FORMAT} | {part.name: getattr(manifest, part.name) for part in fields(manifest)}
    # As rows: a hundred thousand of them are three times smaller without their keys.
    document["files"] = [(file.path, file.n_bytes, file.mtime_ns, file.tier, file.dropped) for file in manifest.files]
    (folder / _MANIFEST_FILE).write_text(json.dumps(document), encoding="utf-8")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _flush(path)


def _point(folder: Path, name: str) -> None:
    """Replaces the pointer in one step."""
    handle, aside = tempfile.mkstemp(prefix=_ASIDE, dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(name)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, folder / POINTER_FILE)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _move_in(aside: Path, path: Path) -> None:
    """Gives a generation its name. What has that name already is moved away: it would be in use if it could be read."""
    if path.exists():
        path.rename(Path(tempfile.mkdtemp(prefix=_OLD, dir=path.parent)) / path.name)
    try:
        aside.rename(path)
    except OSError:
        if read_generation(path.parent, path.name) is None:  # else another build of the same was faster
            raise


def _remove(path: Path) -> None:
    """Removes a folder at once or not at all: whoever sees its name sees all of it."""
    with suppress(OSError):
        if path.is_dir() and not path.name.startswith((_OLD, _ASIDE)):
            aside = Path(tempfile.mkdtemp(prefix=_OLD, dir=path.parent))
            path.rename(aside / path.name)  # refused by Windows while somebody has it mapped
            path = aside
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _flush(path: Path) -> None:
    """Sees to it that the content is on disk before the name that makes it count."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _age_s(path: Path) -> float:
    """Seconds since the last change; endless for what is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
