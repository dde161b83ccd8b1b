"""A build of a workspace's index in a child process: neither the interpreter lock nor a crash gets in anyone's way.

The child is `server.index.build`, at low priority. It says how far it is, one JSON object a line, then the result or a
problem. Whatever becomes of it, the former index stays in use until a whole new one takes its place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from server.lm.errors import UserError

Stage = Literal["scan", "read", "sort", "done"]


class BuildError(UserError):
    """The index of a workspace cannot be built."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is."""

    stage: Stage
    done: int  # of `total`: files, or bytes while sorting
    total: int
    percent: int  # of the whole build


@dataclass(frozen=True, slots=True)
class Result:
    """What a build has put in use."""

    generation: str
    n_files: int
    n_bytes: int
    unchanged: bool  # it was in use before
    dropped: dict[str, int] = field(default_factory=dict)  # files of the workspace that were left out, by reason
    limit_reached: str | None = None  # for the user


class BuildProcess:
    """A build in a child process; owned by one caller, who reads `events` to their end or calls `stop`."""

    def __init__(self, process: subprocess.Popen[str], root: Path) -> None:
        self._process = process
        self._root = root

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def events(self) -> Iterator[Progress | Result]:
        """Progress as it comes, then the result. BuildError when there will be none."""
        try:
            for line in self._process.stdout or ():
                event = json.loads(line)
                if "problem" in event:
                    raise BuildError(event["problem"])
                if "result" in event:
                    yield Result(**event["result"])
                    return
                yield Progress(**event)
        except ValueError as error:  # the end of a line is missing, or the pipe was closed under us
            raise self._ended() from error
        finally:
            self.stop()
        raise self._ended()

    def stop(self) -> None:
        """Ends the child if it still runs; the former index stays in use."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ended(self) -> BuildError:
        return BuildError(
            f"the process that builds the index of {self._root} ended early, with status {self._process.returncode}; "
            "what was indexed before stays in use, and the next start tries again"
        )


def start_build(
    root: Path, folder: Path, exclude: Iterable[str] = (), environments: Iterable[Path] = ()
) -> BuildProcess:
    """A build of the index of `root` into `folder`, started. BuildError where no process can be had."""
    command = [sys.executable, "-P", "-m", "server.index.build", "--root", str(root), "--output", str(folder)]
    command += [f"--exclude={glob}" for glob in exclude]
    command += [f"--environment={environment}" for environment in environments]
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            cwd=Path(__file__).parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # sorting leaves the other cores to typing
            creationflags=flags,
        )
    except OSError as error:
        raise BuildError(f"cannot start the process that builds the index of {root}: {error}") from error
    return BuildProcess(process, root)
