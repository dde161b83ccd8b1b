"""Files that must stay out of the model: excluded by the settings, or known by their name to hold secrets.

A rule on paths alone. Knows nothing of settings, and reads no file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from fnmatch import fnmatchcase

from server.repository.secrets import is_secret_path


def is_barred_path(path: str, globs: Iterable[str]) -> bool:
    """Whether a file must stay out of the model: excluded by a glob, or a place for keys and passwords.

    `path` is relative to the workspace where the file lies in there.
    """
    path = posixpath.normpath(path.replace("\\", "/"))
    return is_secret_path(path) or any(_matches(path, glob) for glob in globs)


def _matches(path: str, glob: str) -> bool:
    """Whether a glob means the path, its name, or a folder that it lies in; `*` and `**` both cross folders.

    A glob that begins with `/` or `./` starts at the workspace, or means an absolute path.
    """
    inner = glob.removeprefix("./").lstrip("/")
    if not inner.strip("/."):
        return False
    wanted = [glob, inner, inner.removeprefix("**/")]
    if not glob.startswith(("/", "./")):
        wanted.append(f"*/{inner}")
    return any(fnmatchcase(path, each) or fnmatchcase(path, f"{each.rstrip('/')}/*") for each in wanted)
