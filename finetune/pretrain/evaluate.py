"""How good a base model is on packages it has never seen, beside compressors and counts that know no code.

Every bits-per-byte figure is over the same files and counts the same bytes.
"""

from __future__ import annotations

import logging
import lzma
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import functional

from finetune.pretrain import heldout, trials
from finetune.pretrain.gpt2 import GPT2
from finetune.pretrain.manifest import read_manifest
from finetune.pretrain.ngram import NGram
from finetune.pretrain.rows import read_files
from finetune.pretrain.run_folder import load_checkpoint, weights_sha256
from finetune.pretrain.samples import SourceFile
from server.lm.errors import UserError
from server.lm.model import load_model
from server.lm.prompt import file_header
from server.lm.tokenizer import BytePairTokenizer, load_tokenizer

logger = logging.getLogger(__name__)

WINDOW_TOKENS = 512  # what a completion prompt usually shows
NGRAM_ORDER = 5
N_SHOWN = 20  # trials of each kind that are kept word for word

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is judged, and on how much."""

    checkpoint: Path  # config.json, model.safetensors, tokenizer.json
    corpus: Path
    n_bytes: int = 400_000  # of held-out text for bits per byte
    n_ngram_bytes: int = 20_000_000  # of training text for the n-gram model
    n_lines: int = 300
    n_functions: int = 200
    threads: int = 2


@dataclass(frozen=True, slots=True)
class BitsPerByte:
    """A figure with what it was taken over."""

    bits: float
    n_bytes: int

    @property
    def value(self) -> float:
        """Bits per byte of source text."""
        return self.bits / max(self.n_bytes, 1)


def evaluate(plan: EvaluationPlan) -> dict[str, Any]:
    """All figures of a checkpoint, with trials word for word; ready for JSON. Raises `UserError`."""
    model = load_checkpoint(plan.checkpoint).eval()
    tokenizer = load_tokenizer(plan.checkpoint)
    torch.set_num_threads(plan.threads)
    packages = heldout.heldout_packages(plan.corpus)
    files = heldout.judged_files(packages, plan.n_bytes)
    of_model = _timed("bits per byte of the model", lambda: model_bits(model, tokenizer, files))
    of_xz = _timed("bits per byte of xz", lambda: xz_bits(files))
    training = _timed("reading training text", lambda: training_sample(plan.corpus, plan.n_ngram_bytes))
    of_ngram = _timed("bits per byte of n-grams", lambda: ngram_bits(NGRAM_ORDER, tokenizer, training, files))
    served = load_model(str(plan.checkpoint), threads=plan.threads)
    drawn_lines = heldout.judged_lines(packages, plan.n_lines)
    lines = _timed("next lines", lambda: trials.write_lines(served, drawn_lines))
    functions = heldout.judged_functions(packages, plan.n_functions)
    sentences = _timed("explanations", lambda: trials.write_sentences(served, functions))
    return {
        "weights_sha256": weights_sha256(plan.checkpoint),
        "tokenizer_sha256": tokenizer.fingerprint,
        "precision": served.precision,
        "bits_per_byte": {
            "packages": len({file.package for file in files}),
            "files": len(files),
            "bytes": of_model.n_bytes,
            "model": of_model.value,
            "xz": of_xz.value,
            "ngram": of_ngram.value,
            "ngram_order": NGRAM_ORDER,
            "ngram_training_bytes": sum(len(file.text.encode()) for file in training),
        },
        "next_line": {"lines": len(lines), "exact_match": _mean([trial.is_exact for trial in lines])},
        "explanation": {
            "functions": len(sentences),
            "chrf": _mean([trial.chrf for trial in sentences]),
            "name_chrf": _mean([trial.name_chrf for trial in sentences]),
        },
        "completions": [asdict(trial) for trial in lines[:N_SHOWN]],
        "explanations": [asdict(trial) for trial in sentences[:N_SHOWN]],
    }


@torch.no_grad()
def model_bits(
    model: GPT2, tokenizer: BytePairTokenizer, files: Sequence[SourceFile], window: int = WINDOW_TOKENS
) -> BitsPerByte:
    """Bits of the files' text under the model: left to right behind the path, in windows that overlap by half."""
    special = tokenizer.special
    if special is None:
        raise UserError("the tokenizer has no prompt markers; evaluate a checkpoint that `finetune.pretrain` made")
    bits, n_bytes = 0.0, 0
    for file in files:
        header = [*file_header(file.path, tokenizer, special), special.fim_prefix]
        ids = tokenizer.encode(file.text)
        n_bytes += len(file.text.encode("utf-8"))
        n_shown = window - len(header)
        first = 0
        while first < len(ids):
            past = max(first - n_shown // 2, 0)
            end = min(past + n_shown, len(ids))
            row = torch.tensor([[*header, *ids[past:end]]])
            n_new = end - first
            logits = model.head(model.hidden(row[:, :-1])[0, -n_new:])
            bits += float(functional.cross_entropy(logits, row[0, -n_new:], reduction="sum")) / math.log(2)
            first = end
    return BitsPerByte(bits, n_bytes)


def xz_bits(files: Sequence[SourceFile]) -> BitsPerByte:
    """Bits that xz at its strongest (`xz -9e`) spends on all files in one stream."""
    data = b"".join(file.text.encode("utf-8") for file in files)
    return BitsPerByte(8.0 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)), len(data))


def ngram_bits(
    order: int, tokenizer: BytePairTokenizer, training: Sequence[SourceFile], files: Sequence[SourceFile]
) -> BitsPerByte:
    """Bits of the files' text under an n-gram model of the training files, with the same tokens as the model."""
    model = NGram(order, tokenizer.vocab_size, [tokenizer.encode(file.text) for file in training])
    bits = -sum(float(np.log2(model.probabilities(tokenizer.encode(file.text))).sum()) for file in files)
    return BitsPerByte(bits, sum(len(file.text.encode("utf-8")) for file in files))


def training_sample(corpus: Path, n_bytes: int) -> list[SourceFile]:
    """Training files of about `n_bytes` in all, drawn by hash from the whole corpus."""
    share = n_bytes / max(read_manifest(corpus / "manifest.json").totals()["train"]["bytes"], 1)
    return [file for file in read_files(corpus, "train") if heldout.share_of(file) < share]


def _timed(what: str, compute: Callable[[], T]) -> T:
    started = time.monotonic()
    result = compute()
    logger.info("%s: %.0f s", what, time.monotonic() - started)
    return result


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
