"""The adapters of one repository, in the user's data folder: versions that stay, and a pointer to the one in force.

    <data>/adapters/<name and hash of the root>/
        versions/<name>/    an adapter with its manifest; names sort by age
        current             the version in force, and under it those to which a rollback goes, the nearest first
        run/                a training that has not ended
        run.lock            held by the process that trains
        change.lock         held while versions or pointer change

A version is written aside and renamed, then the pointer is replaced, and each is on the disk before the next begins:
whoever reads sees the former state or the next one, whenever the writer is killed or the power fails. A version that
was rolled back from is no longer in the pointer, so no later rollback returns to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server.lm.adapter_manifest import (
    ADAPTER_FILES,
    MANIFEST_FILE,
    AdapterError,
    BaseIdentity,
    Manifest,
    check_whole,
    read_manifest,
    write_manifest,
)
from server.lm.errors import UserError
from server.lm.file_lock import HeldError, held

if TYPE_CHECKING:
    from server.lm.checkpoint import Weights

POINTER_FILE = "current"
RUN_LOCK_FILE, CHANGE_LOCK_FILE = "run.lock", "change.lock"
CHANGE_WAIT_S = 30.0  # for another process that changes something, which takes it a moment
_ASIDE = ".partial-"
_NAME = re.compile(r"(\d{8}-\d{6})(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """One version."""

    version: str
    folder: Path
    manifest: Manifest | None  # None: it cannot be read
    problem: str | None
    is_current: bool
    is_withdrawn: bool  # it was rolled back from, or never came into force; a rollback does not go there


class AdapterStore:
    """The adapters of the repository at `root`. Making one reads and writes nothing."""

    def __init__(self, root: Path, data: Path | None = None) -> None:
        """`data` is the user's data folder unless told otherwise."""
        self._root = root = root.resolve()
        key = f"{root.name or 'root'}-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"
        self.folder = (data or _data_folder()) / "adapters" / key
        self.run_folder = self.folder / "run"  # its owner is whoever holds the lock
        self._versions = self.folder / "versions"

    def current(self) -> Path | None:
        """The folder of the version in force; None where there is none."""
        version = next(iter(self._pointers()), None)
        folder = self._versions / version if version else None
        return folder if folder is not None and (folder / MANIFEST_FILE).is_file() else None

    def version_of(self, folder: Path) -> str | None:
        """The version that lies in a folder; None for an adapter from elsewhere."""
        return folder.name if folder.parent == self._versions else None

    def versions(self) -> list[StoredAdapter]:
        """All versions, the newest first."""
        pointers, found = self._pointers(), []
        for name in self._names():
            folder = self._versions / name
            manifest, problem = None, None
            try:
                manifest = read_manifest(folder)
                check_whole(folder, manifest)
            except AdapterError as error:
                problem = str(error)
            is_current = name == next(iter(pointers), None)
            found.append(StoredAdapter(name, folder, manifest, problem, is_current, name not in pointers))
        return found

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other adaptations of this repository away until the block or the process ends, however it ends.

        UserError, with the number of the process, where one goes on; and where the folder cannot be written.
        """
        with ExitStack() as stack:
            with _told(self.folder):
                self._make()
                try:
                    stack.enter_context(held(self.folder / RUN_LOCK_FILE))
                except HeldError as error:
                    raise UserError(
                        f"{self._root} is being adapted already, by {error.holder}; wait until it has ended, or stop "
                        f"it with Ctrl-C where it runs{_stop_command(error)}: what it has learned is kept for --resume"
                    ) from None
            yield

    def publish(self, candidate: Path, manifest: Manifest) -> str:
        """Puts the adapter in the folder `candidate` in force; the name of its version. UserError when it cannot."""
        with self._changing(), _told(self.folder):
            self._versions.mkdir(exist_ok=True)
            for left in self._versions.glob(f"{_ASIDE}*"):  # by publications that were killed: nobody else is at work
                shutil.rmtree(left, ignore_errors=True)
            aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self._versions))
            try:
                for name in ADAPTER_FILES:
                    shutil.copyfile(candidate / name, aside / name)
                write_manifest(aside, manifest)
                check_whole(aside, manifest)
                for name in (*ADAPTER_FILES, MANIFEST_FILE):
                    _flush(aside / name)
                _flush_folder(aside)
                version = self._new_name()
                aside.rename(self._versions / version)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            _flush_folder(self._versions)
            _flush_folder(self.folder)
            try:
                self._point_to([version, *self._pointers()])
            except OSError:
                shutil.rmtree(self._versions / version, ignore_errors=True)  # the pointer is as it was
                raise
        return version

    def rollback(self) -> str:
        """Puts the version back that was in force before the one that is; its name. UserError where there is none.

        A damaged one is passed over, and so is what was rolled back from before, though it is newer.
        """
        if len(self._pointers()) > 1:
            with self._changing():
                former = self._pointers()[1:]
                for number, name in enumerate(former):
                    with suppress(AdapterError):
                        check_whole(self._versions / name, read_manifest(self._versions / name))
                        with _told(self.folder):
                            self._point_to(former[number:])
                        return name
        raise UserError(
            f"there is no earlier adapter to go back to in {self.folder}; `adapter: off` in the settings serves the "
            f"base model alone"
        )

    def export(self, file: Path) -> None:
        """Writes the version in force into a zip file. UserError where there is none, or the file cannot be written.

        The file carries weights, figures and the names of the files that were learned, but no source text.
        """
        from server.lm.adapter_archive import pack

        folder = self.current()
        if folder is None:
            raise UserError(f"no adapter is in force in {self.folder}; train one first with `loracle-finetune`")
        manifest = read_manifest(folder)
        check_whole(folder, manifest)
        with _told(file.parent):
            pack(folder, manifest, file)

    def import_(self, file: Path, base: BaseIdentity, weights: Weights) -> str:
        """Puts the adapter of a zip file in force, once all of it is checked; its version.

        `base` is the model that is to serve it, and `weights` are that model's: the adapter is merged into them to
        try it. UserError for whatever is wrong; nothing has changed then.
        """
        from server.lm.adapter_archive import check_serves, unpack

        with ExitStack() as stack:
            try:
                unpacked = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loracle-import-")))
            except OSError as error:
                raise UserError(
                    f"there is no room to unpack {file}: no temporary folder can be made ({error.strerror or error}); "
                    f"free some space, or name another one in TMPDIR; the adapter in force is as it was"
                ) from error
            with _told(unpacked):
                unpack(file, unpacked)
            try:
                manifest = check_serves(unpacked, base, weights)
            except AdapterError as error:
                says = str(error).replace(str(unpacked), str(file)).partition("; ")[0]
                raise AdapterError(
                    f"{says}; export it again where it was made, or train one here with `loracle-finetune "
                    f"{self._root}`; the adapter in force is as it was"
                ) from error
            return self.publish(unpacked, manifest)

    def _make(self) -> None:
        """Makes the folder, for the user alone: a run keeps the repository's text in it, and scores quote lines."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # of a disk without owners
            self.folder.chmod(0o700)

    def _pointers(self) -> list[str]:
        """The version in force, and those to which a rollback goes, the nearest first."""
        try:
            lines = (self.folder / POINTER_FILE).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        # What is no name stands for a version that is not there: those behind it are not in force.
        return [name if _NAME.fullmatch(name) else "" for name in map(str.strip, lines)]

    def _point_to(self, names: Sequence[str]) -> None:
        partial = self.folder / f"{POINTER_FILE}.partial"
        partial.write_text("".join(f"{name}\n" for name in names if name), encoding="utf-8")
        _flush(partial)
        os.replace(partial, self.folder / POINTER_FILE)
        _flush_folder(self.folder)

    def _names(self) -> list[str]:
        """The versions' names, the newest first."""
        try:
            names = [each.name for each in self._versions.iterdir() if _NAME.fullmatch(each.name)]
        except OSError:
            return []
        return sorted(names, key=_age, reverse=True)

    def _new_name(self) -> str:
        """A name behind all others, by the clock."""
        name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        newest = next(iter(self._names()), "")
        if not newest or _age(name) > _age(newest):
            return name
        stem, number = _age(newest)
        return f"{stem}.{number + 1:03}"

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Waits until nobody else changes versions or pointer, and keeps others from it. UserError where it is long."""
        with ExitStack() as stack:
            with _told(self.folder):
                self._make()
                try:
                    stack.enter_context(held(self.folder / CHANGE_LOCK_FILE, CHANGE_WAIT_S))
                except HeldError as error:
                    raise UserError(
                        f"the adapters in {self.folder} have been locked for {CHANGE_WAIT_S:.0f} s by {error.holder}; "
                        f"wait until it has ended, or end it, and try again; the adapter in force is as it was"
                    ) from None
            yield


def _age(name: str) -> tuple[str, int]:
    """Where a version's name stands among others, the greater the newer."""
    stem, _, number = name.partition(".")
    return stem, int(number or 0)


def _stop_command(error: HeldError) -> str:
    return "" if error.process_id is None or os.name == "nt" else f", or with `kill -INT {error.process_id}`"


def _data_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_path("loracle", appauthor=False))


def _flush(path: Path) -> None:
    """To the disk itself: after a power failure a renamed file must not be empty."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """The names in a folder to the disk itself, where the system can: what comes later must not be there without them.

    A refusal is no reason to stop: by then the names are changed for all who look.
    """
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
