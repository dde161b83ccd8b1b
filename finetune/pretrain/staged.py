"""Training on a lent machine, by one command: in the background, from shards that may still be arriving.

    OUTPUT/staged.log   what the background run says
    OUTPUT/run/         the run's folder, with checkpoint, log and recipe at the end
    OUTPUT/parts/       the same in parts that can travel; complete when parts.json is there

The same command again watches, or goes on after a kill. Whether a run is alive is told by a lock on OUTPUT/staged.lock,
which the system takes back however the run ends. Needs a Unix.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import finetune
from finetune.pretrain.shards import DamagedShard, read_shards, unpacked
from server.lm.errors import UserError

logger = logging.getLogger(__name__)

LOG_FILE, LOCK_FILE, RUN_FOLDER, PARTS_FOLDER = "staged.log", "staged.lock", "run", "parts"
N_LINES_SHOWN = 5  # of what was there before somebody watched
POLL_SECONDS = 0.2


class StagedError(UserError):
    """A staged run cannot be started, or has ended without a result."""


@dataclass(frozen=True, slots=True)
class Finish:
    """What is done when the training is over."""

    tokenizer: Path  # folder with tokenizer.json
    heldout: Path | None  # rows of held-out packages: .npy, or one shard
    n_heldout_rows: int
    part_bytes: int


def start(output: Path, shards: Path, cache: Path, arguments: Sequence[str]) -> None:
    """Unpacks the shards that are there and starts `finetune.pretrain staged` in the background, if it is not running.

    Returns at once; `arguments` are the command's own. Raises `UserError`.
    """
    if is_finished(output):
        logger.info("finished; the parts are in %s; for another run name another --output", output / PARTS_FOLDER)
        return
    _unpack(shards, cache)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with (output / LOCK_FILE).open("a") as lock, (output / LOG_FILE).open("ab") as log:
            if not _locked(lock.fileno()):
                logger.info("the training is running")
                return
            root = str(Path(finetune.__file__).resolve().parents[1])
            command = [sys.executable, "-P", "-m", "finetune.pretrain", *arguments, "--foreground"]
            path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
            # The lock lives as long as the file is open in any process: the run inherits it and need not know.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
                env={**os.environ, "PYTHONPATH": path},
            )
    except OSError as error:
        raise StagedError(f"cannot start a run in {output}: {error}; free some space or name another folder") from error
    logger.info("training in the background as process %d, its log is %s", process.pid, output / LOG_FILE)


def watch(output: Path, seconds: float) -> None:
    """Prints what the run logs until it ends, at most so long. Raises `StagedError` when it ended without a result."""
    until = time.monotonic() + seconds
    path = output / LOG_FILE
    shown = 0
    while True:
        over = not is_running(output)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        shown = shown or max(len(lines) - N_LINES_SHOWN, 0)
        for line in lines[shown:]:
            print(line, flush=True)
        shown = len(lines)
        if over or time.monotonic() > until:
            break
        time.sleep(POLL_SECONDS)
    if over and not is_finished(output):
        raise StagedError(f"the training has ended without a result, see {path}; the same command goes on")


def is_running(output: Path) -> bool:
    """Whether a run in the background holds the lock."""
    try:
        with (output / LOCK_FILE).open("a") as lock:
            return not _locked(lock.fileno())
    except OSError:
        return False


def is_finished(output: Path) -> bool:
    """Whether all parts are written."""
    from finetune.pretrain.parts import PARTS_FILE

    return (output / PARTS_FOLDER / PARTS_FILE).is_file()


def finish(output: Path, figures: Mapping[str, object], plan: Finish) -> list[Path]:
    """Judges the trained model on held-out rows, notes the figures and writes the parts. Raises `UserError`."""
    import torch

    from finetune.pretrain.accelerator import find_device
    from finetune.pretrain.parts import write_parts
    from finetune.pretrain.run_folder import (
        CONFIG_FILE,
        LOG_FILE,
        PROGRESS_FILE,
        RECIPE_FILE,
        STAGED_FILE,
        WEIGHTS_FILE,
        write_staged,
    )

    run = output / RUN_FOLDER
    heldout = None if plan.heldout is None else heldout_figures(run, plan)
    write_staged(run, {**figures, "torch": torch.__version__, "device": find_device().name, "heldout": heldout})
    names = (CONFIG_FILE, RECIPE_FILE, PROGRESS_FILE, LOG_FILE, STAGED_FILE, "tokenizer.json", WEIGHTS_FILE)
    paths = write_parts([run / name for name in names], output / PARTS_FOLDER, plan.part_bytes)
    logger.info("%d parts in %s", len(paths) - 1, output / PARTS_FOLDER)
    return paths


def heldout_figures(run: Path, plan: Finish) -> dict[str, float]:
    """Nats a token and bits a byte over rows of held-out packages, as they were laid out for training.

    Every id but padding is predicted; markers count as text of no bytes. A quick look while the machine is there, and
    not to be compared with the figures of `evaluate`, which reads plain text.
    """
    import torch

    from finetune.pretrain.accelerator import find_device
    from finetune.pretrain.gpt2 import IGNORED
    from finetune.pretrain.run_folder import TrainingError, load_checkpoint
    from finetune.pretrain.shards import load_rows
    from finetune.pretrain.trainer import PAD_ID
    from server.lm.tokenizer import load_tokenizer

    assert plan.heldout is not None
    tokenizer, device = load_tokenizer(plan.tokenizer), find_device()
    model = load_checkpoint(run).to(device.kind).eval()
    rows = load_rows(plan.heldout)[: plan.n_heldout_rows]
    if rows.max() >= model.shape.vocab_size or rows.shape[1] - 1 > model.shape.n_positions:
        raise TrainingError(
            f"{plan.heldout} holds {rows.shape[1] - 1} tokens a row and ids up to {rows.max()}, the model takes "
            f"{model.shape.n_positions} and ids below {model.shape.vocab_size}; make rows for this model"
        )
    sizes = torch.tensor([len(tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.vocab_size)])
    nats, n_tokens, n_bytes = 0.0, 0, 0
    for first in range(0, len(rows), 16):
        batch = device.put(rows[first : first + 16])
        wanted = batch[:, 1:]
        counted = wanted != PAD_ID
        with torch.no_grad(), device.autocast():
            loss = model.loss(batch[:, :-1], wanted.masked_fill(~counted, IGNORED))
        n_counted = int(counted.sum())
        nats, n_tokens = nats + float(loss) * n_counted, n_tokens + n_counted
        n_bytes += int(sizes[wanted[counted].cpu()].sum())
    figures = {
        "rows": len(rows),
        "tokens": n_tokens,
        "bytes": n_bytes,
        "nats_per_token": round(nats / max(n_tokens, 1), 4),
        "bits_per_byte": round(nats / math.log(2) / max(n_bytes, 1), 4),
    }
    logger.info("held-out rows: %s", json.dumps(figures))
    return figures


def _unpack(folder: Path, cache: Path) -> None:
    """Unpacks whatever has arrived, so that the run finds it without waiting and the shards may leave."""
    for shard in (found := read_shards(folder)).shards:
        try:
            path = unpacked(folder, shard, found.length, cache)
            logger.info("%s: %s", shard.name, "here" if path else "not here yet")
        except DamagedShard as error:
            logger.warning("%s", error)


def _locked(descriptor: int) -> bool:
    """Takes the lock if nobody has it; whether it was taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
