"""What a Python name refers to beyond its own file, by jedi, in a child process that reads and never runs a repository.

`StaticAnalysis` owns that process. jedi cannot be interrupted and shares neither locks nor imports well, so it runs
apart: a search that hangs is ended, typing does not compete with it for the interpreter lock, and the compiled modules
it looks at never enter the server. The child is this server's own interpreter, isolated (`-I`); an interpreter that
lies in a workspace is never started, its packages are found by their folders.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from server.jedi_process import standard_library
from server.source_file import line_and_column

logger = logging.getLogger(__name__)

LIMIT_S = 15.0  # for one search; the first look into a large package takes jedi one or two seconds
MAX_ANALYSED_CHARACTERS = 400_000
MAX_KEPT_ANSWERS = 128
MAX_FAILED_STARTS = 3


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a name leads, and what jedi knows of it."""

    name: str
    kind: str  # function, method, class, module, statement, param, property, instance, ...
    signatures: tuple[str, ...]
    docstring: str
    path: Path | None  # None: built in, or known from a stub alone
    line: int  # 1-based; 0 without a path
    column: int  # 0-based, in characters
    module: str


class StaticAnalysis:
    """The jedi process of one workspace, started at the first question, and the answers already given."""

    def __init__(self, root: Path | None, *, limit_s: float = LIMIT_S) -> None:
        self._root = root
        self._limit_s = limit_s
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loracle-jedi")
        self._lock = threading.Lock()  # guards the four below
        self._answers: OrderedDict[tuple[object, ...], Future[Reference | None]] = OrderedDict()
        self._process: subprocess.Popen[str] | None = None
        self._n_failed_starts = 0
        self._closed = False

    def find(
        self, path: Path | None, text: str, offset: int, root: Path | None = None
    ) -> Future[Reference | None] | None:
        """The coming answer for the name at `offset`; the same question joins the same answer.

        `root` is the workspace folder of the file, where that is another than the first.
        A late answer is kept for the next time. A question that still waits behind another is dropped for a newer
        one. None where nothing will come: closed, jedi is missing, or the text is too long.
        """
        key = (path, hash(text), offset, root)
        with self._lock:
            if self._closed or self._n_failed_starts >= MAX_FAILED_STARTS or len(text) > MAX_ANALYSED_CHARACTERS:
                return None
            kept = self._answers.get(key)
            if kept is not None and not kept.cancelled():
                self._answers.move_to_end(key)
                return kept
            for waiting in self._answers.values():
                waiting.cancel()
            answer = self._answers[key] = self._executor.submit(self._ask, path, text, offset, root)
            while len(self._answers) > MAX_KEPT_ANSWERS:
                self._answers.popitem(last=False)
            return answer

    def warm_up(self) -> None:
        """Starts the process and lets jedi read the built-in names, so that the first hover need not wait for it."""
        self.find(None, "print\n", 0)

    def close(self) -> None:
        """Ends the process, also in the middle of a search."""
        with self._lock:
            self._closed = True
            process = self._process
        self._executor.shutdown(wait=False, cancel_futures=True)
        if process is not None:
            process.kill()
        self._executor.shutdown(wait=True)
        if process is not None:
            _dispose(process)

    def _ask(self, path: Path | None, text: str, offset: int, root: Path | None) -> Reference | None:
        """One question to the process and its answer; runs in the executor's thread alone."""
        process = self._running_process()
        if process is None or process.stdin is None or process.stdout is None:
            return None
        root = self._root_of(path, root)
        line, column = line_and_column(text, offset)
        question = {
            "text": text,
            "path": None if path is None else str(path),
            "line": line,
            "column": column,
            "root": str(root),
            "search_path": search_path(root),
        }
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except (OSError, ValueError):  # ValueError: the pipe was closed under us
            reply = ""
        if not reply:
            self._forget(process)
            return None
        with self._lock:
            self._n_failed_starts = 0
        return _reference(json.loads(reply))

    def _root_of(self, path: Path | None, root: Path | None) -> Path:
        """Where the modules of a file are looked up first: the workspace, or for a file outside of it, its folder."""
        root = root or self._root
        if path is not None and (root is None or not path.is_relative_to(root)):
            return path.parent
        return root or Path.home()

    def _running_process(self) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._process is None and not self._closed:
                self._n_failed_starts += 1  # taken back by the first answer
                self._process = _start(self._limit_s)
            return self._process

    def _forget(self, process: subprocess.Popen[str]) -> None:
        """Another process answers the next question. Three in a row that never answered are enough."""
        with self._lock:
            self._process = None
            closed, n_failed_starts = self._closed, self._n_failed_starts
        if not closed:
            process.kill()
            _dispose(process)
            logger.info("the jedi process ended without an answer, n_failed_starts=%d", n_failed_starts)


def search_path(root: Path) -> list[str]:
    """Folders in which modules are looked up: standard library, then the workspace's packages.

    The server's own stand in for them where the workspace has no environment.
    """
    environments = [root / name for name in (".venv", "venv", "env", ".env")]
    environments += [Path(os.environ[name]) for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(name)]
    sources = [str(root / "src")] if (root / "src").is_dir() else []
    packages: list[str] = []
    for environment in environments:
        packages += map(str, sorted(environment.glob("lib/python3*/site-packages")))
        packages += map(str, environment.glob("Lib/site-packages"))
    return list(dict.fromkeys([*standard_library(), *sources, *(packages or _own_packages())]))


def _own_packages() -> list[str]:
    """The server's import path without the folder it was started in, which may be a repository."""
    started_in = os.path.realpath(os.curdir)
    return [path for path in sys.path if os.path.isabs(path) and os.path.realpath(path) != started_in]


def _start(limit_s: float) -> subprocess.Popen[str] | None:
    """A child that answers questions; None when jedi is not installed or no process can be had."""
    jedi = PathFinder.find_spec("jedi", _own_packages())
    if jedi is None or jedi.origin is None:
        return None
    script = str(Path(__file__).with_name("jedi_process.py"))
    command: Sequence[str] = (sys.executable, "-I", script, str(limit_s), str(Path(jedi.origin).parents[1]))
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            cwd=Path(__file__).parent,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        logger.warning("cannot start the jedi process: %s", error)
        return None


def _dispose(process: subprocess.Popen[str]) -> None:
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                pass  # unsent text for a process that is gone


def _reference(answer: dict[str, Any] | None) -> Reference | None:
    if answer is None:
        return None
    return Reference(
        name=answer["name"],
        kind=answer["kind"],
        signatures=tuple(answer["signatures"]),
        docstring=answer["docstring"],
        path=None if answer["path"] is None else Path(answer["path"]),
        line=answer["line"] or 0,
        column=answer["column"] or 0,
        module=answer["module"],
    )
