"""The adapters of one repository, in the user's data folder: versions that stay, and a pointer to the one in force.

A version is written aside and renamed; the pointer is a file that is replaced. Whoever reads sees the former state or
the next one, never half of one, whenever the writer is killed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from server.lm.adapter_manifest import (
    ADAPTER_FILES,
    MANIFEST_FILE,
    AdapterError,
    BaseIdentity,
    Manifest,
    check_fits,
    check_whole,
    read_manifest,
    write_manifest,
)
from server.lm.errors import UserError

POINTER_FILE = "current"
_ASIDE = ".partial-"
_MAX_IMPORT_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """One version."""

    version: str
    folder: Path
    manifest: Manifest | None  # None: it cannot be read
    problem: str | None
    is_current: bool


class AdapterStore:
    """The adapters of the repository at `root`. Making one reads and writes nothing."""

    def __init__(self, root: Path, data: Path | None = None) -> None:
        """`data` is the user's data folder unless told otherwise."""
        root = root.resolve()
        key = f"{root.name or 'root'}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"
        self.folder = (data or _data_folder()) / "adapters" / key
        self.run_folder = self.folder / "run"  # of a training that has not ended; its owner is whoever trains
        self._versions = self.folder / "versions"

    def current(self) -> Path | None:
        """The folder of the version in force; None where there is none."""
        version = self._pointer()
        folder = self._versions / version if version else None
        return folder if folder is not None and (folder / MANIFEST_FILE).is_file() else None

    def versions(self) -> list[StoredAdapter]:
        """All versions, the newest first."""
        pointer, found = self._pointer(), []
        for name in self._names():
            folder = self._versions / name
            manifest, problem = None, None
            try:
                manifest = read_manifest(folder)
                check_whole(folder, manifest)
            except AdapterError as error:
                problem = str(error)
            found.append(StoredAdapter(name, folder, manifest, problem, name == pointer))
        return found

    def publish(self, candidate: Path, manifest: Manifest) -> str:
        """Puts the adapter in the folder `candidate` in force; the name of its version. UserError when it cannot."""
        with _told(self.folder):
            self._versions.mkdir(parents=True, exist_ok=True)
            self._clean_up()
            aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self._versions))
            try:
                for name in ADAPTER_FILES:
                    shutil.copyfile(candidate / name, aside / name)
                write_manifest(aside, manifest)
                check_whole(aside, manifest)
                for name in (*ADAPTER_FILES, MANIFEST_FILE):
                    _flush(aside / name)
                version = self._new_name()
                aside.rename(self._versions / version)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            self._point_to(version)
        return version

    def rollback(self) -> str:
        """Puts the version before the one in force back; its name. UserError where there is none."""
        names, pointer = self._names(), self._pointer()
        earlier = names[names.index(pointer) + 1 :] if pointer in names else []
        for name in earlier:
            with suppress(AdapterError):
                check_whole(self._versions / name, read_manifest(self._versions / name))
                with _told(self.folder):
                    self._point_to(name)
                return name
        raise UserError(
            f"there is no earlier adapter to go back to in {self.folder}; `adapter: off` in the settings serves the "
            f"base model alone"
        )

    def export(self, file: Path) -> None:
        """Writes the version in force into a zip file. UserError where there is none, or the file cannot be written."""
        folder = self.current()
        if folder is None:
            raise UserError(f"no adapter is in force in {self.folder}; train one first with `loracle-finetune`")
        check_whole(folder, read_manifest(folder))
        partial = file.with_name(file.name + ".partial")
        with _told(file.parent):
            try:
                with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                    for name in (*ADAPTER_FILES, MANIFEST_FILE):
                        archive.write(folder / name, name)
                os.replace(partial, file)
            finally:
                partial.unlink(missing_ok=True)

    def import_(self, file: Path, base: BaseIdentity) -> str:
        """Puts the adapter of a zip file in force, once all of it is checked; its version. UserError otherwise."""
        with tempfile.TemporaryDirectory(prefix="loracle-import-") as folder:
            unpacked = Path(folder)
            try:
                with zipfile.ZipFile(file) as archive:
                    if sorted(archive.namelist()) != sorted((*ADAPTER_FILES, MANIFEST_FILE)):
                        raise ValueError(f"it holds {archive.namelist()[:5]}")
                    if sum(info.file_size for info in archive.infolist()) > _MAX_IMPORT_BYTES:
                        raise ValueError("it is larger than any adapter")
                    archive.extractall(unpacked)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise UserError(
                    f"{file} is no exported adapter: {error}; make one with `loracle-finetune REPO --export FILE`"
                ) from error
            manifest = read_manifest(unpacked)
            check_whole(unpacked, manifest)
            check_fits(unpacked, manifest, base)
            return self.publish(unpacked, manifest)

    def _pointer(self) -> str | None:
        try:
            name = (self.folder / POINTER_FILE).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return name if name and name == Path(name).name else None

    def _point_to(self, version: str) -> None:
        partial = self.folder / f"{POINTER_FILE}.partial"
        partial.write_text(version + "\n", encoding="utf-8")
        _flush(partial)
        os.replace(partial, self.folder / POINTER_FILE)

    def _names(self) -> list[str]:
        """The versions' names, the newest first."""
        try:
            return sorted((each.name for each in self._versions.iterdir() if each.name[0] != "."), reverse=True)
        except OSError:
            return []

    def _new_name(self) -> str:
        """A name behind all others, by the clock."""
        name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        newest = next(iter(self._names()), "")
        if name > newest:
            return name
        stem, _, number = newest.partition(".")
        return f"{stem}.{int(number or 0) + 1:03}"

    def _clean_up(self) -> None:
        """Removes what killed publications left behind."""
        for each in self._versions.iterdir():
            if each.name.startswith(_ASIDE):
                shutil.rmtree(each, ignore_errors=True)


def _data_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_path("loracle", appauthor=False))


def _flush(path: Path) -> None:
    """To the disk itself: after a power failure a renamed file must not be empty."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What the disk refuses, as a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror or error}); free some space, or make the folder writable; "
            f"the adapter in force is as it was"
        ) from error
