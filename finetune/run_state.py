"""The state of a training on disk: the best adapter so far, and all that is needed to go on.

Written aside and renamed: whenever the writer is killed, the next run finds a whole state, or begins anew.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from finetune.lora import LoraModel
from server.lm.errors import UserError

logger = logging.getLogger(__name__)

STATE_FILE, BEST_FOLDER, FORMER_FOLDER = "state.pt", "best", "best.former"
LAST_FOLDER = "last"  # the last one, where it is better still: no part of the state


@dataclass(slots=True)
class RunState:
    """What a resumed run needs beside weights and optimizer."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float = math.inf  # validation loss
    best_step: int = 0
    first: float = math.nan  # of the base model
    n_worse: int = 0  # looks since the best one
    history: list[tuple[int, float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of the steps since the last look


def keep_best(folder: Path, model: LoraModel, name: str = BEST_FOLDER) -> Path:
    """Puts the adapter as it is now in the place of the best one; its folder. UserError when the disk refuses."""
    aside, best, former = folder / f"{name}.partial", folder / name, folder / f"{name}.former"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        model.save(aside)
        shutil.rmtree(former, ignore_errors=True)
        if best.exists():
            best.rename(former)  # a kill here is mended by `load_state`
        aside.rename(best)
        shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        raise _refused(folder, error) from error
    return best


def save_state(
    folder: Path, model: LoraModel, optimizer: torch.optim.Optimizer, state: RunState, identity: str
) -> None:
    """Keeps what is needed to go on. UserError when the disk refuses."""
    partial = folder / f"{STATE_FILE}.partial"
    values = {
        "identity": identity,
        "state": asdict(state),
        "weights": model.values(),
        "optimizer": optimizer.state_dict(),
    }
    try:
        with partial.open("wb") as stream:
            torch.save(values, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, folder / STATE_FILE)
    except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise _refused(folder, error) from error


def load_state(
    folder: Path, model: LoraModel, optimizer: torch.optim.Optimizer, identity: str, *, cleans: bool = True
) -> RunState:
    """The state of the folder, put into model and optimizer, if it belongs to this run; else a new one.

    What cannot be gone on from is removed by the process that `cleans`.
    """
    state = RunState()
    former, best = folder / FORMER_FOLDER, folder / BEST_FOLDER
    with suppress(OSError):
        if cleans and former.is_dir() and not best.exists():
            former.rename(best)
    try:
        values = torch.load(folder / STATE_FILE, weights_only=True, map_location="cpu")
        if values["identity"] != identity or not best.is_dir():
            raise ValueError("it belongs to another run")
        model.set_values(values["weights"])
        optimizer.load_state_dict(values["optimizer"])
        for name, value in values["state"].items():
            setattr(state, name, [tuple(each) for each in value] if name == "history" else value)
    except FileNotFoundError:
        if cleans:
            shutil.rmtree(folder, ignore_errors=True)
        return RunState()
    except Exception as error:  # whatever a damaged file makes torch raise: it begins anew
        logger.info("the state in %s is not used: %s", folder, error)
        if cleans:
            shutil.rmtree(folder, ignore_errors=True)
        return RunState()
    logger.info("going on from step %d", state.step)
    return state


def _refused(folder: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"cannot keep the state of the training in {folder} ({reason}); free some space, or make the folder writable; "
        f"the adapter in force is as it was"
    )
