"""Which workspaces may choose the model and bring an adapter along: those that the user has named, once and for all."""

from __future__ import annotations

import json
import os
from pathlib import Path

from server.lm.errors import UserError

TRUST_FILE = "trusted.json"


def is_trusted(root: Path) -> bool:
    """Whether the user has trusted the folder."""
    return str(root.resolve()) in _read()


def trust(root: Path) -> None:
    """Trusts the folder from now on. UserError when that cannot be kept."""
    file = _file()
    partial = file.with_name(f"{TRUST_FILE}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(sorted({*_read(), str(root.resolve())}), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        raise UserError(
            f"cannot write {file} ({error.strerror or error}), so {root} is not trusted; make the folder writable"
        ) from error


def _read() -> frozenset[str]:
    try:
        names = json.loads(_file().read_text(encoding="utf-8"))
        return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
    except (OSError, ValueError):
        return frozenset()


def _file() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_path("loracle", appauthor=False)) / TRUST_FILE
