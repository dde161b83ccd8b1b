"""What a training run leaves in its folder: state, log and recipe while it goes on, then checkpoint and evaluation.

All but the log are written aside and renamed: a run that is killed leaves whole files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from finetune.pretrain.gpt2 import GPT2, Shape
from server.lm.checkpoint import open_checkpoint
from server.lm.errors import UserError

STATE_FILE, LOG_FILE, RECIPE_FILE = "state.pt", "log.jsonl", "recipe.json"
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
PROGRESS_FILE = "progress.json"  # what is left of the state where a checkpoint has travelled without it
STAGED_FILE = "staged.json"  # figures of a run on a lent machine
EVALUATION_FILE, CARD_FILE = "evaluation.json", "MODEL_CARD.md"


class TrainingError(UserError):
    """Rows, checkpoint or disk do not allow the run to go on."""


@dataclass(slots=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    rows_taken: dict[str, int] = field(default_factory=lambda: {"rows": 0, "long_rows": 0})
    # The shards that were begun, by number, in order; empty for rows that are one file.
    visits: dict[str, list[int]] = field(default_factory=lambda: {"rows": [], "long_rows": []})


def save_state(folder: Path, model: GPT2, parts: Sequence[torch.optim.Optimizer], progress: Progress) -> None:
    """Everything that `load_state` needs to go on from here. Raises `TrainingError`."""
    path = folder / STATE_FILE
    state = {
        "shape": asdict(model.shape),
        "model": model.state_dict(),
        "optimizers": [part.state_dict() for part in parts],
        "progress": asdict(progress),
    }
    try:
        torch.save(state, path.with_suffix(".partial"))
        os.replace(path.with_suffix(".partial"), path)
    except (OSError, RuntimeError) as error:
        raise TrainingError(f"cannot write {path}: {error}; the last state that was saved is whole") from error


def load_state(folder: Path, model: GPT2, parts: Sequence[torch.optim.Optimizer]) -> Progress:
    """Puts model and optimizers into the saved state, if there is one. Raises `TrainingError`."""
    path = folder / STATE_FILE
    if not path.is_file():
        return Progress()
    state = _read_state(path)
    try:
        if state["shape"] != asdict(model.shape):
            raise TrainingError(
                f"{path} is of shape {state['shape']}, this run wants {asdict(model.shape)}; "
                "give another --output or the same shape"
            )
        model.load_state_dict(state["model"])
        for part, saved in zip(parts, state["optimizers"], strict=True):
            part.load_state_dict(saved)
        return Progress(**state["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from error


def read_progress(folder: Path) -> Progress:
    """How far the run has come. Raises `TrainingError`."""
    path = folder / STATE_FILE
    finished = folder / PROGRESS_FILE
    try:
        if finished.is_file() and not path.is_file():
            return Progress(**json.loads(finished.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"cannot read {finished}: {error}; restore the file") from error
    try:
        return Progress(**_read_state(path)["progress"])
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise _damaged(path, error) from error
    return state


def _damaged(path: Path, error: Exception) -> TrainingError:
    reason = str(error).split("\n")[0]
    return TrainingError(f"cannot resume from {path}: {reason}; move the file away to start anew")


def write_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    """Notes what the run was told to do; makes the folder if need be. Raises `TrainingError`."""
    _write(folder / RECIPE_FILE, (json.dumps(recipe, indent=2) + "\n").encode())


def has_recipe(folder: Path) -> bool:
    """Whether a run has noted its recipe in the folder."""
    return (folder / RECIPE_FILE).is_file()


def read_recipe(folder: Path) -> dict[str, Any]:
    """What `write_recipe` noted. Raises `TrainingError`."""
    path = folder / RECIPE_FILE
    try:
        recipe: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot read {path}: {error}; `finetune.pretrain train` writes it") from error
    return recipe


def append_to_log(folder: Path, entry: dict[str, float]) -> None:
    """One more entry for `read_log`. Raises `TrainingError`."""
    path = folder / LOG_FILE
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error}; the last state that was saved is whole") from error


def read_log(folder: Path) -> list[dict[str, float]]:
    """The entries of the run's log, oldest first. Raises `TrainingError`.

    Of steps that were taken twice, after a kill, the second take counts; a line that the kill cut short is left out.
    """
    path = folder / LOG_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot read {path}: {error}; `finetune.pretrain train` writes it") from error
    entries: list[dict[str, float]] = []
    for line in lines:
        try:
            entry: dict[str, float] = json.loads(line)
        except ValueError:
            continue
        while entries and entries[-1]["step"] >= entry["step"]:
            entries.pop()
        entries.append(entry)
    return entries


def save_progress(folder: Path, progress: Progress) -> None:
    """How far the run came, as `read_progress` finds it where there is no state. Raises `TrainingError`."""
    _write(folder / PROGRESS_FILE, (json.dumps(asdict(progress)) + "\n").encode())


def save_checkpoint(model: GPT2, folder: Path) -> None:
    """`config.json` and `model.safetensors` (fp16), as `GPT2LMHeadModel.from_pretrained` reads them."""
    from safetensors.torch import save

    weights = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in model.state_dict().items()}
    config = json.dumps(model.shape.config(), indent=2, sort_keys=True) + "\n"
    _write(folder / WEIGHTS_FILE, save(weights, metadata={"format": "pt"}))
    _write(folder / CONFIG_FILE, config.encode())


def load_checkpoint(folder: Path) -> GPT2:
    """The model that `save_checkpoint` wrote, in fp32. Raises `CheckpointError`."""
    from safetensors.torch import load_file

    config = open_checkpoint(folder).config
    model = GPT2(Shape(**{name: getattr(config, name) for name in asdict(Shape())}))
    model.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS_FILE).items()})
    return model


def start_from(folder: Path, model: GPT2) -> None:
    """Gives the model the weights of a checkpoint, which must be of its shape. Raises `UserError`."""
    config = open_checkpoint(folder).config
    found = {name: getattr(config, name) for name in asdict(model.shape)}
    if found != asdict(model.shape):
        raise TrainingError(
            f"the checkpoint in {folder} is of shape {found}, this run wants {asdict(model.shape)}; "
            f"name another checkpoint, or give the same shape"
        )
    model.load_state_dict(load_checkpoint(folder).state_dict())


def trained_tokens(folder: Path) -> int:
    """How many tokens the weights of a checkpoint have seen in all; 0 where nobody noted it. Raises `TrainingError`."""
    try:
        noted = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("loracle") or {}
    except (OSError, ValueError, AttributeError) as error:
        raise TrainingError(f"cannot read {folder / CONFIG_FILE}: {error}; restore the file") from error
    if "trained_tokens" in noted:
        return int(noted["trained_tokens"])
    if not (folder / STATE_FILE).is_file() and not (folder / PROGRESS_FILE).is_file():
        return 0
    before = (read_recipe(folder).get("from") or {}) if has_recipe(folder) else {}
    return read_progress(folder).tokens + int(before.get("trained_tokens", 0))


def weights_sha256(folder: Path) -> str:
    """sha256 of the weights' file: an evaluation belongs to weights, not to a folder."""
    with (folder / WEIGHTS_FILE).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_evaluation(folder: Path, figures: Mapping[str, Any]) -> None:
    """Keeps the figures of an evaluation. Raises `TrainingError`."""
    _write(folder / EVALUATION_FILE, (json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode())


def write_staged(folder: Path, figures: Mapping[str, Any]) -> None:
    """Keeps what was measured on the machine that trained. Raises `TrainingError`."""
    _write(folder / STAGED_FILE, (json.dumps(figures, indent=1) + "\n").encode())


def write_card(folder: Path, card: str) -> None:
    """Keeps a model card. Raises `TrainingError`."""
    _write(folder / CARD_FILE, card.encode())


def _write(path: Path, content: bytes) -> None:
    """Writes a file aside and renames it; its folder is made if need be."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error}; free some space or name another folder") from error
