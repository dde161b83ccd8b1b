"""The default engine: a converted graph in onnxruntime. The only module that imports onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.lm import graph as names
from server.lm.engine import EngineError, Logits, ModelConfig, check_feed, default_threads

_FATAL_ONLY = 4  # what goes wrong is raised as well; onnxruntime would print it to the terminal on top


class OnnxEngine:
    """An `Engine` over one onnxruntime session; each slot has KV buffers for every position, made once."""

    def __init__(
        self, config: ModelConfig, graph: Path | bytes, *, n_slots: int = 2, threads: int | None = None
    ) -> None:
        """`graph` as `conversion.converted_graph` gives it. `threads` None: `default_threads()`."""
        onnxruntime = _import_onnxruntime()
        self.config = config
        self.n_slots = n_slots
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        # Threads that wait sleep instead of spinning: spinning gains little on an idle machine, doubles the time of a
        # step beside busy neighbours (an editor, a type checker), and burns a core for a while after the last one.
        # 46 M parameters, 2 threads, 2 cores, ms a step: idle 3.5 spinning, 4.2 sleeping; busy 11 and 5.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = graph if isinstance(graph, bytes) else str(graph)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no public base class for its errors
            raise EngineError(f"onnxruntime cannot load the converted model: {error}; try --engine torch") from error
        self._buffers: list[Any] = []  # keeps the memory of the bindings alive
        self._bindings = [self._bind_slot(onnxruntime) for _ in range(n_slots)]

    def _bind_slot(self, onnxruntime: Any) -> Any:
        """A binding in which every layer's KV buffer is past and present at once: written in place, never copied."""
        config = self.config
        shape = (1, config.n_head, config.n_positions, config.n_embd // config.n_head)
        binding = self._session.io_binding()
        for name in names.kv_names(config.n_layer):
            # Zeroed memory costs nothing until a position is written.
            array = np.zeros(shape, np.float32)
            buffer = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            self._buffers += [array, buffer]
            binding.bind_ortvalue_input(names.PAST + name, buffer)
            binding.bind_ortvalue_output(names.PRESENT + name, buffer)
        return binding

    def logits(self, slot: int, token_ids: Sequence[int], n_past: int, n_keep: int = 1) -> Logits:
        """See `Engine.logits`."""
        n_tokens = len(token_ids)
        check_feed(self.config, n_tokens, n_past, n_keep)
        n_used = n_past + n_tokens
        binding = self._bindings[slot]
        inputs = {
            names.TOKEN_IDS: np.array([token_ids], np.int64),
            names.POSITIONS: np.arange(n_past, n_used, dtype=np.int64)[None],
            names.LAST_POSITION: np.array([n_used - 1], np.int32),
            names.N_POSITIONS_USED: np.array([n_used], np.int32),
            names.KEPT_ROWS: np.arange(n_tokens - n_keep, n_tokens, dtype=np.int64),
        }
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        binding.bind_output(names.LOGITS, "cpu")
        self._session.run_with_iobinding(binding)
        logits: Logits = binding.get_outputs()[-1].numpy()[0]
        return logits


def _import_onnxruntime() -> Any:
    """onnxruntime with its telemetry off, which is on by default: it keeps a device id and calls its maker."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is loaded
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"onnxruntime cannot be imported ({error}); install it with `pip install onnxruntime`, "
            f"or serve with --engine torch"
        ) from error
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    return onnxruntime
