"""Puts a finished run into place as the base model of the server.

The files are checked together, written aside and swapped in whole.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import torch

from finetune.pretrain.loss_curve import LOSS_FILE
from finetune.pretrain.run_folder import (
    CARD_FILE,
    CONFIG_FILE,
    EVALUATION_FILE,
    WEIGHTS_FILE,
    load_checkpoint,
    weights_sha256,
)
from server.lm import checkpoint as checkpoints
from server.lm.errors import UserError
from server.lm.prompt import PROMPT_VERSION
from server.lm.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

COPIED_FILES = (WEIGHTS_FILE, "tokenizer.json", CARD_FILE, LOSS_FILE)
MIN_GAIN = 0.01  # new weights cost every clone of the repository their size, so they have to be worth it
BASE_MODEL = Path(checkpoints.__file__).resolve().parents[1] / "base_model"
PROBE = "def add(first, second):\n    return first + second\n"


class ShippingError(UserError):
    """The files of a run do not make a base model together."""


def ship(run: Path, output: Path = BASE_MODEL) -> None:
    """Copies configuration, weights, tokenizer and card of `run` to `output`, replacing what is there.

    Other weights there are replaced only by such that take at least `MIN_GAIN` fewer bits per byte. Raises `UserError`.
    """
    figures = _checked(run)
    _check_gain(figures, run, output)
    partial, former = (output.with_name(output.name + ending) for ending in (".partial", ".former"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in COPIED_FILES:
            shutil.copyfile(run / name, partial / name)
        (partial / CONFIG_FILE).write_text(_config(run, figures), encoding="utf-8")
        checkpoints.open_checkpoint(partial)
        shutil.rmtree(former, ignore_errors=True)
        if output.exists():
            output.rename(former)
        partial.rename(output)
        shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        raise ShippingError(f"cannot write {output}: {error}; free some space or name another folder") from error
    n_bytes = sum(path.stat().st_size for path in output.iterdir())
    logger.info("shipped %s: %.1f MB", output, n_bytes / 1e6)


def _checked(run: Path) -> dict[str, Any]:
    """The run's evaluation. Raises `UserError` where a file is missing, or two are not of the same model."""
    model = load_checkpoint(run).eval()
    tokenizer = load_tokenizer(run)
    if tokenizer.special is None or tokenizer.vocab_size != model.shape.vocab_size:
        raise ShippingError(
            f"the tokenizer in {run} has {tokenizer.vocab_size} entries, the model {model.shape.vocab_size}; "
            f"they are not of the same run: put the right tokenizer.json there"
        )
    with torch.no_grad():
        probed = float(model.logits(torch.tensor([tokenizer.encode(PROBE)])).abs().max())
    if not math.isfinite(probed):
        raise ShippingError(f"the weights in {run} give no numbers; train again with lower rates")
    try:
        figures: dict[str, Any] = json.loads((run / EVALUATION_FILE).read_text(encoding="utf-8"))
        for name in (CARD_FILE, LOSS_FILE):
            (run / name).read_bytes()
    except (OSError, ValueError) as error:
        raise ShippingError(
            f"{run} has not been evaluated ({error}); run `finetune.pretrain evaluate` first"
        ) from error
    found = (weights_sha256(run), tokenizer.fingerprint)
    if found != (figures.get("weights_sha256"), figures.get("tokenizer_sha256")):
        raise ShippingError(f"{run} was evaluated with other weights; run `finetune.pretrain evaluate` again")
    return figures


def _check_gain(figures: dict[str, Any], run: Path, output: Path) -> None:
    """Raises `ShippingError` unless the evaluation found the run better than the weights in `output`, if any."""
    if not (output / WEIGHTS_FILE).is_file():
        return
    replaced = weights_sha256(output)
    if replaced == figures["weights_sha256"]:
        return
    former = figures.get("former") or {}
    if former.get("weights_sha256") != replaced:
        raise ShippingError(
            f"{run} was not measured beside the weights in {output}; "
            f"run `finetune.pretrain evaluate` on it again, with `--former {output}`"
        )
    ours, theirs = figures["bits_per_byte"]["model"], former["bits_per_byte"]
    if not ours <= theirs * (1 - MIN_GAIN):
        raise ShippingError(
            f"the weights in {run} take {ours:.4f} bits per byte, those in {output} {theirs:.4f} on the same files; "
            f"new ones have to be {100 * MIN_GAIN:.0f} % better: train longer, or keep the former ones"
        )


def _config(run: Path, figures: dict[str, Any]) -> str:
    config = json.loads((run / CONFIG_FILE).read_text(encoding="utf-8"))
    config["loracle"] = {
        "prompt_version": PROMPT_VERSION,
        "trained_tokens": figures["trained_tokens"],
        "infilling": True,
        # Whether the server shows sentences by itself: only if they surely say more than the name spelled out.
        "explanations": figures["explanation"]["chrf"]["over_name"]["low"] > 0,
    }
    return json.dumps(config, indent=2, sort_keys=True) + "\n"
