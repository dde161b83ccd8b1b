"""Our own engines and the reference, fed as the server feeds them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from server.lm.checkpoint import open_checkpoint
from server.lm.engine import PREFILL_CHUNK_TOKENS, Engine, Logits
from server.lm.graph import Precision
from tests.bench.machine import cache_variables


class Served:
    """A `Writer` over an engine of the server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> list[int]:
        """See `Writer.write`. Long prompts go in by chunks, so that a cancelled request ends soon."""
        logits: Logits | None = None
        for start in range(n_cached, len(token_ids), PREFILL_CHUNK_TOKENS):
            chunk = token_ids[start : start + PREFILL_CHUNK_TOKENS]
            is_last = start + len(chunk) == len(token_ids)
            logits = self._engine.logits(0, chunk, start, 1 if is_last else 0)
        assert logits is not None
        written = [int(logits[-1].argmax())]
        while len(written) < n_new:
            logits = self._engine.logits(0, written[-1:], len(token_ids) + len(written) - 1)
            written.append(int(logits[-1].argmax()))
        return written


def onnx(folder: Path, precision: Precision, threads: int) -> Served:
    """The default engine. What it converts stays in `folder`: the user's own graphs are not pushed out."""
    from server.lm.conversion import converted_graph
    from server.lm.onnx_engine import OnnxEngine

    os.environ.update(cache_variables(folder / "cache"))
    checkpoint = open_checkpoint(folder)
    graph = converted_graph(checkpoint, precision)
    return Served(OnnxEngine(checkpoint.config, graph, n_slots=1, threads=threads))


def reference(folder: Path, threads: int) -> Served:
    """The reference engine."""
    from server.lm.torch_engine import TorchEngine

    return Served(TorchEngine(open_checkpoint(folder).config, folder, n_slots=1, threads=threads))
