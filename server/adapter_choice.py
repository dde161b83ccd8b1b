"""Which adapter is to serve: the one that was published for the workspace, one that its repository brings, or none.

Looks at a few small files; what is in an adapter, and whether it fits, is found out when it is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from server.lm.adapter_manifest import MANIFEST_FILE
from server.lm.adapter_store import AdapterStore
from server.lm.errors import UserError
from server.trust import is_trusted

REPOSITORY_FOLDER = Path(".loracle", "adapter")  # one that a repository brings along


def chosen_adapter(setting: str, roots: Sequence[Path]) -> Path | None:
    """The folder of the adapter to serve; None for the base model alone.

    `setting` is "off", "auto" or a folder. "auto" is what was published for the first of the workspace folders, else
    what that folder brings in `.loracle/adapter`, if the user trusts it. UserError for a folder that is none.
    """
    if setting == "off":
        return None
    if setting != "auto":
        folder = Path(setting).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"no adapter folder {setting}, the base model serves alone; name one that `loracle-finetune` made, "
                f"or `auto`"
            )
        return folder
    if not roots:
        return None
    published = AdapterStore(roots[0]).current()
    return published if published is not None else _brought(roots[0])


def content_of(folder: Path) -> str | None:
    """What tells one adapter in a folder from the next that is put there; None where its manifest cannot be read."""
    try:
        return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    except OSError:
        return None


def untrusted_adapter(root: Path) -> Path | None:
    """An adapter that the repository brings and that does not count, since the user has not trusted the folder."""
    folder = root / REPOSITORY_FOLDER
    return folder if (folder / MANIFEST_FILE).is_file() and not is_trusted(root) else None


def _brought(root: Path) -> Path | None:
    folder = root / REPOSITORY_FOLDER
    return folder if (folder / MANIFEST_FILE).is_file() and is_trusted(root) else None
