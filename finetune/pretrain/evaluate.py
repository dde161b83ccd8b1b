"""How good a base model is on packages it has never seen, beside compressors, counts and answers that know no code.

Every bits-per-byte figure is over the same files and counts the same bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from finetune.pretrain import heldout, trials
from finetune.pretrain.bits import Floats, byte_bits, model_bits, ngram_bits, token_bits, xz_bits
from finetune.pretrain.manifest import read_manifest
from finetune.pretrain.passages import Explained
from finetune.pretrain.rows import read_files
from finetune.pretrain.run_folder import WEIGHTS_FILE, load_checkpoint, weights_sha256
from finetune.pretrain.samples import SourceFile
from finetune.pretrain.sentences import sentence_figures
from finetune.pretrain.similar import SimilarFunctions, training_functions
from finetune.pretrain.token_kinds import KINDS, byte_kinds
from finetune.pretrain.trials import LineTrial
from server.lm.model import load_model
from server.lm.tokenizer import BytePairTokenizer, load_tokenizer

logger = logging.getLogger(__name__)

NGRAM_ORDER = 5
N_SHOWN = 40  # completions and explanations that are kept word for word

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is judged, and on how much."""

    checkpoint: Path  # config.json, model.safetensors, tokenizer.json
    corpus: Path
    former: Path | None = None  # the model that this one is to replace, with the same files
    n_bytes: int = 400_000  # of held-out text for bits per byte
    n_training_bytes: int = 20_000_000  # of training text for the n-gram model and the search for similar functions
    n_lines: int = 300  # whole ones, and as many ends of lines
    n_functions: int = 200
    threads: int = 2


def evaluate(plan: EvaluationPlan) -> dict[str, Any]:
    """All figures of a checkpoint, with trials word for word; ready for JSON. Raises `UserError`."""
    torch.set_num_threads(plan.threads)
    model, tokenizer = load_checkpoint(plan.checkpoint).eval(), load_tokenizer(plan.checkpoint)
    packages = heldout.heldout_packages(plan.corpus)
    files = heldout.judged_files(packages, plan.n_bytes)
    functions = heldout.judged_functions(packages, plan.n_functions)
    training = _timed("reading training text", lambda: training_sample(plan.corpus, plan.n_training_bytes))
    of_files = _timed("bits per byte of the model", lambda: [token_bits(model, tokenizer, file) for file in files])
    of_former = _timed("bits per byte of the former model", lambda: former_figures(plan, files))
    of_xz = _timed("bits per byte of xz", lambda: xz_bits(files))
    of_ngram = _timed("bits per byte of n-grams", lambda: ngram_bits(NGRAM_ORDER, tokenizer, training, files))
    known = _timed("functions to search", lambda: training_functions(training))
    similar = _timed("similar functions", lambda: similar_sentences(known, functions))
    served = load_model(str(plan.checkpoint), threads=plan.threads)
    whole = heldout.judged_lines(packages, plan.n_lines)
    ends = heldout.judged_line_ends(packages, plan.n_lines)
    lines = _timed("next lines", lambda: trials.write_lines(served, whole))
    line_ends = _timed("ends of lines", lambda: trials.write_lines(served, ends))
    sentences = _timed("explanations", lambda: trials.write_sentences(served, functions))
    return {
        "weights_sha256": weights_sha256(plan.checkpoint),
        "tokenizer_sha256": tokenizer.fingerprint,
        "precision": served.precision,
        "former": of_former,
        "bits_per_byte": {
            "packages": len({file.package for file in files}),
            "files": len(files),
            "bytes": of_xz.n_bytes,
            "model": sum(float(bits.sum()) for bits in of_files) / max(of_xz.n_bytes, 1),
            "xz": of_xz.value,
            "ngram": of_ngram.value,
            "ngram_order": NGRAM_ORDER,
            "training_bytes": sum(len(file.text.encode()) for file in training),
            **bits_by_kind(tokenizer, files, of_files, packages),
        },
        "next_line": _line_figures(lines),
        "mid_line": _line_figures(line_ends),
        "explanation": {**sentence_figures(sentences, similar), "functions_searched": len(known)},
        "next_lines_shown": [asdict(trial) for trial in lines[: N_SHOWN // 2]],
        "mid_lines_shown": [asdict(trial) for trial in line_ends[: N_SHOWN // 2]],
        "explanations_shown": [asdict(trial) for trial in sentences[:N_SHOWN]],
    }


def former_figures(plan: EvaluationPlan, files: Sequence[SourceFile]) -> dict[str, Any] | None:
    """Bits per byte of the model to be replaced, on the same files; None where there is none, or the same one."""
    if plan.former is None or not (plan.former / WEIGHTS_FILE).is_file():
        return None
    weights = weights_sha256(plan.former)
    if weights == weights_sha256(plan.checkpoint):
        return None
    model, tokenizer = load_checkpoint(plan.former).eval(), load_tokenizer(plan.former)
    return {"weights_sha256": weights, "bits_per_byte": model_bits(model, tokenizer, files).value}


def bits_by_kind(
    tokenizer: BytePairTokenizer,
    files: Sequence[SourceFile],
    of_files: Sequence[Floats],
    packages: Sequence[Sequence[SourceFile]],
) -> dict[str, Any]:
    """Bits per byte for each kind of token, with its share of the bytes; bits of a token lie evenly on its bytes.

    What is a string or a comment is seen in the whole file, even where `files` holds its head alone. Files that Python
    cannot cut into tokens are counted and left out.
    """
    whole = {(file.package, file.path): file.text for package in packages for file in package}
    bits, sizes, n_left_out = np.zeros(len(KINDS)), np.zeros(len(KINDS), dtype=np.int64), 0
    for file, of_tokens in zip(files, of_files, strict=True):
        kinds = byte_kinds(whole[file.package, file.path])
        if kinds is None:
            n_left_out += 1
            continue
        of_bytes = byte_bits(tokenizer.encode(file.text), of_tokens, tokenizer)
        kinds = kinds[: len(of_bytes)]
        bits += np.bincount(kinds, weights=of_bytes, minlength=len(KINDS))
        sizes += np.bincount(kinds, minlength=len(KINDS))
    by_kind = {
        kind: {
            "share_of_bytes": int(size) / max(int(sizes.sum()), 1),
            "share_of_bits": float(spent) / max(float(bits.sum()), 1e-9),
            "bits_per_byte": float(spent) / max(int(size), 1),
        }
        for kind, spent, size in zip(KINDS, bits, sizes, strict=True)
    }
    return {"by_kind": by_kind, "files_without_kinds": n_left_out}


def similar_sentences(known: Sequence[Explained], functions: Sequence[Explained]) -> list[str]:
    """For each function the sentence of the known one that is most like it; empty where none is like it."""
    index = SimilarFunctions(known)
    found = (index.find(function.source) for function in functions)
    return [nearest.sentence if nearest else "" for nearest in found]


def training_sample(corpus: Path, n_bytes: int) -> list[SourceFile]:
    """Training files of about `n_bytes` in all, drawn by hash from the whole corpus."""
    share = n_bytes / max(read_manifest(corpus / "manifest.json").totals()["train"]["bytes"], 1)
    return [file for file in read_files(corpus, "train") if heldout.share_of(file) < share]


def _line_figures(lines: Sequence[LineTrial]) -> dict[str, Any]:
    return {"lines": len(lines), "exact_match": sum(trial.is_exact for trial in lines) / max(len(lines), 1)}


def _timed(what: str, compute: Callable[[], T]) -> T:
    started = time.monotonic()
    result = compute()
    logger.info("%s: %.0f s", what, time.monotonic() - started)
    return result
