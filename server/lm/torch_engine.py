"""The reference engine: transformers' GPT-2 in fp32. What the default engine must agree with.

The only module of the server that imports torch or transformers, and only when an engine is made. Slower, but runs
every checkpoint that transformers can, and on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.lm.engine import EngineError, Logits, ModelConfig, check_feed, default_threads


class TorchEngine:
    """An `Engine` over `GPT2LMHeadModel`; each slot has a KV cache that grows as it is fed."""

    def __init__(
        self,
        config: ModelConfig,
        folder: Path,
        *,
        n_slots: int = 2,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        """`threads` None: `default_threads()`; torch knows one number of threads for the whole process."""
        self._torch, transformers = _import_torch()
        self.config = config
        self.n_slots = n_slots
        self._device = device
        self._torch.set_num_threads(threads or default_threads())
        transformers.utils.logging.disable_progress_bar()
        model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=self._torch.float32, local_files_only=True)
        self._model = model.to(device).eval()
        self._caches = [transformers.DynamicCache() for _ in range(n_slots)]

    def logits(self, slot: int, token_ids: Sequence[int], n_past: int, n_keep: int = 1) -> Logits:
        """See `Engine.logits`."""
        check_feed(self.config, len(token_ids), n_past, n_keep)
        torch, cache = self._torch, self._caches[slot]
        n_cached = cache.get_seq_length()
        if n_past > n_cached:
            raise ValueError(f"slot {slot} holds {n_cached} positions, {n_past} were said to be there")
        if n_past < n_cached:
            cache.crop(n_past - n_cached)  # a negative number is what every release understands
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor([list(token_ids)], device=self._device),
                position_ids=torch.arange(n_past, n_past + len(token_ids), device=self._device)[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=max(n_keep, 1),
            )
        logits = output.logits[0, -n_keep:] if n_keep else output.logits[0, :0]
        result: Logits = logits.float().cpu().numpy().astype(np.float32, copy=False)
        return result


def _import_torch() -> tuple[Any, Any]:
    # The hub's library, which comes with transformers, reads them when it is imported.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise EngineError(
            f"the torch engine cannot be used ({error}); install it with `pip install 'loracle[finetune]'`, "
            f"or serve with --engine onnx"
        ) from error
    return torch, transformers
