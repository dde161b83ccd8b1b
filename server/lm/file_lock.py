"""A lock on a file that the system itself takes back from a process that ends, however it ends.

Locks by `flock`, on Windows by a locked byte; the file says which process holds it, and stays when nobody does.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK_SECONDS = 0.05
# On Windows nobody else can read a byte that is locked, so it lies behind the number of the process.
_LOCKED_BYTE = 4096


class HeldError(Exception):
    """Somebody else holds the lock."""

    def __init__(self, process_id: int | None) -> None:
        self.holder = "another process" if process_id is None else f"process {process_id}"
        self.process_id = process_id  # None: it cannot be read
        super().__init__(f"held by {self.holder}")


@contextmanager
def held(file: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the lock of a file until the block or the process ends; never twice, in one process or in two.

    HeldError where somebody else still holds it after `wait_s`, OSError where the file cannot be made or locked.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while not _take(descriptor):
            if time.monotonic() >= deadline:
                raise HeldError(_holder(file))
            time.sleep(LOOK_SECONDS)
        try:
            _write(descriptor, str(os.getpid()))
            yield
        finally:
            with suppress(OSError):  # the disk may be full; that the lock goes is what counts
                _write(descriptor, "")
            _give_back(descriptor)
    finally:
        os.close(descriptor)


def _holder(file: Path) -> int | None:
    try:
        text = file.read_bytes()[:20].decode("ascii", "replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text.encode("ascii"))


def _take(descriptor: int) -> bool:
    """Whether the lock was free and is ours now."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _give_back(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)
