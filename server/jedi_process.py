"""jedi in a process of its own: a question per line on stdin, an answer per line on stdout, both JSON.

`server.static_analysis` starts this file by its path with `python -I`. It imports nothing of `server`, and nothing that
lies in a repository: the workspace and its installed packages are folders to read, never to import from. A question
that takes too long ends the process; the asker starts another.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from typing import Any, TextIO


def main(limit_s: float, jedi_folder: str) -> None:
    """Answers until stdin ends. `jedi_folder` is where jedi lies when the isolated interpreter does not see it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    if hasattr(os, "nice"):
        os.nice(5)  # typing comes first on a small machine
    if jedi_folder not in sys.path:
        sys.path.append(jedi_folder)
    serve(sys.stdin, answers, limit_s)


def serve(questions: TextIO, answers: TextIO, limit_s: float) -> None:
    """Reads, answers, repeats. A question that cannot be answered gets `null`."""
    from jedi import settings

    settings.auto_import_modules = []  # jedi would import these instead of reading them
    if not _is_writable(settings.cache_directory):
        # Every question would fail at the attempt to keep what was parsed.
        settings.cache_directory = tempfile.mkdtemp(prefix="loracle-jedi-")
        atexit.register(shutil.rmtree, settings.cache_directory, ignore_errors=True)
    for line in questions:
        # Also ends the process when it is left alone in an endless search: jedi cannot be interrupted.
        faulthandler.dump_traceback_later(limit_s, exit=True)
        try:
            answer = find(**json.loads(line))
        except Exception:  # jedi raises many kinds on code it does not expect
            answer = None
        faulthandler.cancel_dump_traceback_later()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _is_writable(folder: str) -> bool:
    """Whether files can be put in `folder`, which is made where it is missing."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def find(text: str, path: str | None, line: int, column: int, root: str, search_path: list[str]) -> Any:
    """What the name at `line` (1-based) and `column` (0-based, in characters) refers to, as a dict; None if unknown.

    Keys: name, kind (jedi's type, and "method"), signatures, docstring, path, line, column, module. `path` is None for
    what is built in or known from a stub alone.
    """
    import jedi

    project = jedi.Project(root, sys_path=search_path, smart_sys_path=True, load_unsafe_extensions=False)
    environment = _reading_environment()
    script = jedi.Script(text, path=path, project=project, environment=environment)
    names = script.goto(line, column, follow_imports=True, follow_builtin_imports=True)
    names = names or script.infer(line, column)
    if not names:
        return None
    name = min(names, key=lambda found: (found.is_stub(), found.line or 0))
    if name.module_name == "ntpath" and os.path.__name__ == "posixpath":
        # jedi takes the first branch of `os.path`, whatever the platform.
        there = jedi.Script(f"import posixpath\nposixpath.{name.name}", project=project, environment=environment)
        name = next(iter(there.goto(2, len("posixpath."), follow_imports=True)), name)
    kind = name.type
    if kind == "function" and name.parent() is not None and name.parent().type == "class":
        kind = "method"
    in_file = name.module_path is not None and not name.is_stub()
    signatures = [signature.to_string() for signature in name.get_signatures()[:3]]
    return {
        "name": name.name,
        "kind": kind,
        "signatures": signatures if kind in ("function", "method", "class") else [name.description[:500]],
        "docstring": name.docstring(raw=True, fast=False),
        "path": str(name.module_path) if in_file else None,
        "line": name.line if in_file else None,
        "column": name.column if in_file else None,
        "module": name.module_name,
    }


def _reading_environment() -> Any:
    """jedi's environment without a second process, which may import from the standard library alone.

    jedi imports compiled modules to look at them. From the standard library that is harmless and gives the docstrings
    of built-in functions; everything else is read as text or not at all.
    """
    from jedi.api.environment import InterpreterEnvironment

    class ReadingEnvironment(InterpreterEnvironment):  # type: ignore[misc]
        def get_sys_path(self) -> list[str]:
            return standard_library()

    return ReadingEnvironment()


def standard_library() -> list[str]:
    """The folders of the running interpreter's own library, without any installed package."""
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return [path for path in sys.path if path in folders or os.path.basename(path) == "lib-dynload"]


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
