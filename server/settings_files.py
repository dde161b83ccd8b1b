"""Settings that lie in files: the user's own, and `[tool.loracle]` of a workspace. What they mean, `settings` knows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from server.settings import SECTION, Layer
from server.trust import is_trusted

USER_FILE = "config.toml"
PROJECT_FILE = "pyproject.toml"


def file_layers(roots: Iterable[Path]) -> tuple[list[Layer], tuple[str, ...]]:
    """The layers of the user's file and of each workspace, later ones winning, and in words which cannot be read.

    The first folder of several is the main one and wins. What a workspace says counts in full once it is trusted.
    """
    problems: list[str] = []
    user_file = user_settings_file()
    layers = [Layer(f"user settings {user_file}", _toml(user_file, problems))]
    for root in reversed(list(roots)):
        project_file = root / PROJECT_FILE
        values = _table(_table(_toml(project_file, problems), "tool"), SECTION)
        layers.append(Layer(str(project_file), values, from_repository=not is_trusted(root)))
    return layers, tuple(problems)


def user_settings_file() -> Path:
    """Where the user's own settings are read from, whether there is such a file or not."""
    import platformdirs

    return platformdirs.user_config_path("loracle", appauthor=False) / USER_FILE


def _toml(path: Path, problems: list[str]) -> Mapping[str, Any]:
    """The content of a TOML file; empty if there is none, or if it cannot be read, which goes to `problems`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror or error}); its settings are not used")
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or a number of thousands of digits
        problems.append(f"{path} is not valid TOML ({error}); its settings are not used")
    return {}


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = values.get(name)
    return table if isinstance(table, Mapping) else {}
