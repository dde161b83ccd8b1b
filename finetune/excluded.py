"""What the settings of the server exclude, in the user's file and in the repository's: it is not learned either."""

from __future__ import annotations

from pathlib import Path

from server.lm.errors import UserError
from server.settings import read_settings
from server.settings_files import file_layers


def excluded(repository: Path) -> tuple[str, ...]:
    """The globs of `exclude`, of all files together. UserError where one cannot be read: it might exclude something."""
    layers, problems = file_layers([repository])
    globs: list[str] = []
    for layer in layers:
        settings, wrong = read_settings([layer])
        globs += settings.exclude
        problems += tuple(each for each in wrong if ".exclude " in each)
    if problems:
        raise UserError(f"{problems[0]}; mend it: what it excludes must not be learned")
    return tuple(dict.fromkeys(globs))
