"""A model ready to serve: checkpoint, tokenizer, engine and KV slots, loaded together and swapped whole."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from server.lm.adapter import merge_adapter, taught_tokens
from server.lm.adapter_manifest import AdapterError, BaseIdentity, check_fits, check_whole, read_manifest
from server.lm.checkpoint import Checkpoint, CheckpointError, CheckpointWeights, open_checkpoint
from server.lm.engine import Engine, PrefixCache
from server.lm.graph import Precision
from server.lm.healing import TokenIndex
from server.lm.model_folder import resolve_model
from server.lm.prompt import PROMPT_VERSION
from server.lm.tokenizer import BytePairTokenizer, Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "onnx", "torch"]

COMPLETION_SLOT, EXPLANATION_SLOT = 0, 1
_N_SLOTS = 2


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything that answering needs. Immutable but for the two caches, which belong to one worker thread."""

    name: str  # as it was asked for: `default`, a folder or a hub name
    folder: Path
    fingerprint: str  # sha256 over configuration, weights and tokenizer
    tokenizer: Tokenizer
    token_index: TokenIndex
    engine: Engine
    completion_cache: PrefixCache
    explanation_cache: PrefixCache  # everything that is not completion, so that a hover never evicts typing
    supports_infilling: bool  # False: a plain GPT-2, which has not learned our markers; only the prefix is fed
    supports_explanations: bool
    precision: Precision
    explains_by_default: bool = True  # False: sentences only where somebody wants them always
    adapter: Path | None = None  # the folder of the one that is merged in
    adapter_problem: str | None = None  # why the one that was wanted is not, for the user


def load_model(
    model: str = "default",
    engine: EngineName = "auto",
    precision: Precision = "int8",
    threads: int | None = None,
    adapter: Path | None = None,
) -> LoadedModel:
    """The model `default`, in a folder, or of a name in the local hub cache. UserError says what is wrong with it.

    The adapter in a folder is merged in where one is named; AdapterError when it is damaged or was made for another
    model. `auto` is onnxruntime where it is installed, else torch. The torch engine is always exact: fp32.
    """
    started = time.monotonic()
    checkpoint = open_checkpoint(resolve_model(model))
    tokenizer = load_tokenizer(checkpoint.folder)
    if tokenizer.vocab_size > checkpoint.config.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {checkpoint.folder} has {tokenizer.vocab_size} entries, the model only "
            f"{checkpoint.config.vocab_size}; the two are not from the same model: restore the right tokenizer"
        )
    if adapter is not None:
        checkpoint, tokenizer = _adapted(checkpoint, tokenizer, adapter)
    if engine == "auto":
        engine = "onnx" if importlib.util.find_spec("onnxruntime") else "torch"
    if engine == "torch":
        precision = "fp32"
    running = _make_engine(checkpoint, engine, precision, threads)
    logger.info("loaded %s (%s, %s) in %.0f ms", model, engine, precision, 1000 * (time.monotonic() - started))
    return LoadedModel(
        name=model,
        folder=checkpoint.folder,
        fingerprint=checkpoint.fingerprint,
        tokenizer=tokenizer,
        token_index=TokenIndex(tokenizer),
        engine=running,
        completion_cache=PrefixCache(running, COMPLETION_SLOT),
        explanation_cache=PrefixCache(running, EXPLANATION_SLOT),
        supports_infilling=tokenizer.special is not None,
        supports_explanations=tokenizer.special is not None,
        precision=precision,
        explains_by_default=checkpoint.explains_by_default,
        adapter=adapter,
    )


def base_identity(checkpoint: Checkpoint, tokenizer: Tokenizer) -> BaseIdentity:
    """What an adapter for this model names as its base."""
    return BaseIdentity(checkpoint.fingerprint, tokenizer.fingerprint, PROMPT_VERSION)


def _adapted(
    checkpoint: Checkpoint, tokenizer: BytePairTokenizer, adapter: Path
) -> tuple[Checkpoint, BytePairTokenizer]:
    """The checkpoint with an adapter merged in and a fingerprint of its own; the tokenizer with what that taught."""
    manifest = read_manifest(adapter)
    check_whole(adapter, manifest)
    check_fits(adapter, manifest, base_identity(checkpoint, tokenizer))
    merged = merge_adapter(checkpoint.weights, adapter)
    taught, marked = taught_tokens(adapter), tokenizer.with_markers()
    if set(range(tokenizer.vocab_size, marked.vocab_size)) <= set(taught):
        tokenizer = marked
    n_tokens = max([checkpoint.config.vocab_size, *(token_id + 1 for token_id in taught)])
    digest = hashlib.sha256(checkpoint.fingerprint.encode())
    for name in sorted(manifest.files):
        digest.update(f"{name} {manifest.files[name]}\n".encode())
    config = replace(checkpoint.config, vocab_size=n_tokens)
    return replace(checkpoint, config=config, weights=merged, fingerprint=digest.hexdigest()), tokenizer


def _make_engine(
    checkpoint: Checkpoint, engine: Literal["onnx", "torch"], precision: Precision, threads: int | None
) -> Engine:
    if engine == "torch":
        from server.lm.torch_engine import TorchEngine

        if not isinstance(checkpoint.weights, CheckpointWeights):
            raise AdapterError("the torch engine serves base models only; use `engine: onnx`, or `adapter: off`")
        return TorchEngine(checkpoint.config, checkpoint.folder, n_slots=_N_SLOTS, threads=threads)
    from server.lm.conversion import converted_graph
    from server.lm.onnx_engine import OnnxEngine

    return OnnxEngine(checkpoint.config, converted_graph(checkpoint, precision), n_slots=_N_SLOTS, threads=threads)
