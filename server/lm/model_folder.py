"""Where a model lies on this machine: the folder that the setting `model` means.

Opens no connection: a model that is not on this machine is named together with the command that downloads it. Knows
nothing of what a checkpoint holds, only that its folder has a configuration.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from server.lm.checkpoint import CONFIG_FILE, CheckpointError

DEFAULT_MODEL = "default"

_BASE_MODEL = Path(__file__).resolve().parent.parent / "base_model"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def resolve_model(model: str) -> Path:
    """The checkpoint folder of `default`, of a folder, or of a name in this machine's hub cache, in this order.

    A bare name such as `gpt2` is always one of the hub: what it means must not depend on where the server was started.
    """
    try:
        return _resolve(model)
    except (OSError, RuntimeError) as error:  # RuntimeError: a `~` of nobody
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"the model {_short(model)} cannot be looked for ({reason}); name a folder that can be read, a hub name, "
            f"or `{DEFAULT_MODEL}`"
        ) from error


def _resolve(model: str) -> Path:
    if model == DEFAULT_MODEL:
        if not (_BASE_MODEL / CONFIG_FILE).is_file():
            raise CheckpointError(
                f"the base model is missing: no {CONFIG_FILE} in {_BASE_MODEL}; reinstall loracle, "
                f"or name another model with --model FOLDER"
            )
        return _BASE_MODEL
    is_hub_name = _HUB_NAME.fullmatch(model) is not None and not model.startswith(".")
    is_bare = is_hub_name and "/" not in model
    folder = Path(model).expanduser()
    is_folder = model != "" and folder.is_dir()
    if is_folder and not is_bare:
        return folder.resolve()
    if not is_hub_name:
        raise CheckpointError(
            f"no folder {_short(model)}: name an existing checkpoint folder, a hub name, or `{DEFAULT_MODEL}`"
        )
    snapshot = _hub_snapshot(model)
    if snapshot is None and is_folder:
        raise CheckpointError(f"model {model} is not in the hub cache {_hub_cache()}; for the folder, name ./{model}")
    if snapshot is None:
        raise CheckpointError(
            f"model {model} is neither a folder nor in the hub cache {_hub_cache()}; "
            f"download it once with `hf download {model}`, or name a checkpoint folder"
        )
    return snapshot


def _short(model: str) -> str:
    return repr(model if len(model) <= 100 else f"{model[:97]}...")


def _hub_cache() -> Path:
    """Where the hub's own tools keep downloads; the variables in the order that they give them."""
    environment = os.environ
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return Path(environment[name]).expanduser()
    if environment.get("HF_HOME"):
        return Path(environment["HF_HOME"]).expanduser() / "hub"
    return Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def _hub_snapshot(name: str) -> Path | None:
    """The snapshot that `main` points to, else the newest one, else None."""
    repository = _hub_cache() / f"models--{name.replace('/', '--')}"
    snapshots = repository / "snapshots"
    try:
        commit = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
        if commit and (snapshots / commit).is_dir():
            return snapshots / commit
    except OSError:
        pass  # downloaded by commit: there is no branch
    try:
        return max((entry for entry in snapshots.iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime)
    except (OSError, ValueError):
        return None
