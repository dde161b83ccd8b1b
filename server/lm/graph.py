"""GPT-2 as an onnx graph that onnxruntime runs fast: built operator by operator from the weights of a checkpoint.

One sequence at a time. The KV cache is bound by the caller as past and present alike, with room for every position, so
that it is written in place and any shorter prefix can be continued. Needs numpy and onnx; runs nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from server.lm.checkpoint import Weights
from server.lm.engine import ModelConfig
from server.lm.errors import UserError
from server.lm.quantisation import BITS, BLOCK_SIZE, quantise

if TYPE_CHECKING:
    import onnx

Precision = Literal["int8", "fp32"]
Store = Callable[[str, NDArray[Any]], "onnx.TensorProto"]

# The names that onnx_engine binds.
TOKEN_IDS, POSITIONS, KEPT_ROWS, LOGITS = "token_ids", "positions", "kept_rows", "logits"
LAST_POSITION, N_POSITIONS_USED = "last_position", "n_positions_used"
PAST, PRESENT = "past", "present"

_MICROSOFT = "com.microsoft"  # onnxruntime's own operators, in every build of it
_OPSET, _IR_VERSION = 21, 10
_HEAD_WIDTH_STEP = 8
# Accuracy level of MatMulNBits. Activations are quantised row by row, so results do not depend on chunking.
_INT8_ACTIVATIONS = 4


class GraphError(UserError):
    """A checkpoint has a shape that the onnx graph cannot compute."""


def kv_names(n_layer: int) -> list[str]:
    """The KV buffers of all layers, to be prefixed with `PAST` and `PRESENT`."""
    return [f"_{kind}_{layer}" for layer in range(n_layer) for kind in ("key", "value")]


def build_graph(config: ModelConfig, weights: Weights, precision: Precision, store: Store) -> onnx.ModelProto:
    """The graph of a checkpoint.

    `store` takes each finished tensor and its name, and gives what the graph says of it: the values themselves, or
    where they lie. GraphError for a shape that the attention operator cannot do.
    """
    head_width = config.n_embd // config.n_head
    if head_width % _HEAD_WIDTH_STEP:
        raise GraphError(
            f"attention heads of width {head_width} (n_embd = {config.n_embd} / n_head = {config.n_head}) are not "
            f"supported by onnxruntime, only multiples of {_HEAD_WIDTH_STEP} are; serve this model with --engine torch"
        )
    return _GraphBuilder(config, weights, precision, store).build()


class _GraphBuilder:
    """Collects nodes and initializers; every method adds one piece and returns the name of its output."""

    def __init__(self, config: ModelConfig, weights: Weights, precision: Precision, store: Store) -> None:
        self._config = config
        self._weights = weights
        self._precision = precision
        self._store = store
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def build(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        config = self._config
        hidden, normed = self._embedding()
        for layer in range(config.n_layer):
            hidden, normed = self._block(layer, hidden, normed)
        kept = self._node("Gather", [normed, KEPT_ROWS], "kept", axis=1)
        self._head(kept)

        kv_shape = [1, config.n_head, config.n_positions, config.n_embd // config.n_head]
        integer, index, number = TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT
        value = helper.make_tensor_value_info
        inputs = [
            value(TOKEN_IDS, integer, [1, "n_tokens"]),
            value(POSITIONS, integer, [1, "n_tokens"]),
            value(LAST_POSITION, index, [1]),
            value(N_POSITIONS_USED, index, [1]),
            value(KEPT_ROWS, integer, ["n_keep"]),
        ]
        names = kv_names(config.n_layer)
        inputs += [value(PAST + name, number, kv_shape) for name in names]
        outputs = [value(LOGITS, number, [1, "n_keep", config.vocab_size])]
        outputs += [value(PRESENT + name, number, kv_shape) for name in names]
        graph = helper.make_graph(self._nodes, "gpt2", inputs, outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return model

    def _embedding(self) -> tuple[str, str]:
        tokens = self._lookup("wte.weight", TOKEN_IDS, "token_embedding")
        positions = self._lookup("wpe.weight", POSITIONS, "position_embedding")
        hidden = self._node("Add", [tokens, positions], "embedding")
        norm = [self._weight("h.0.ln_1.weight"), self._weight("h.0.ln_1.bias")]
        normed = self._node(
            "LayerNormalization", [hidden, *norm], "embedding_normed", axis=-1, epsilon=self._config.layer_norm_epsilon
        )
        return hidden, normed

    def _block(self, layer: int, hidden: str, normed: str) -> tuple[str, str]:
        """One transformer layer. Its last norm is the first of the next layer, fused with the residual sum."""
        block, config = f"h.{layer}", self._config
        qkv = self._matmul(normed, f"{block}.attn.c_attn.weight")
        qkv = self._node("Add", [qkv, self._weight(f"{block}.attn.c_attn.bias")], f"{block}.qkv")
        key, value = f"_key_{layer}", f"_value_{layer}"
        attended = self._node(
            "GroupQueryAttention",
            [qkv, "", "", PAST + key, PAST + value, LAST_POSITION, N_POSITIONS_USED],
            f"{block}.attended",
            PRESENT + key,
            PRESENT + value,
            domain=_MICROSOFT,
            num_heads=config.n_head,
            kv_num_heads=config.n_head,
        )
        projected = self._matmul(attended, f"{block}.attn.c_proj.weight")
        hidden, normed = self._residual_norm(projected, hidden, f"{block}.attn.c_proj.bias", f"{block}.ln_2")
        inner = self._matmul(normed, f"{block}.mlp.c_fc.weight")
        inner = self._node(
            "FastGelu", [inner, self._weight(f"{block}.mlp.c_fc.bias")], f"{block}.inner", domain=_MICROSOFT
        )
        outer = self._matmul(inner, f"{block}.mlp.c_proj.weight")
        next_norm = "ln_f" if layer == config.n_layer - 1 else f"h.{layer + 1}.ln_1"
        return self._residual_norm(outer, hidden, f"{block}.mlp.c_proj.bias", next_norm)

    def _residual_norm(self, update: str, hidden: str, bias: str, norm: str) -> tuple[str, str]:
        """(hidden + update + bias, the same normalised)."""
        summed, normed = f"{norm}.summed", f"{norm}.normed"
        inputs = [update, hidden, *(self._weight(name) for name in (f"{norm}.weight", f"{norm}.bias", bias))]
        epsilon = self._config.layer_norm_epsilon
        self._node("SkipLayerNormalization", inputs, normed, "", "", summed, domain=_MICROSOFT, epsilon=epsilon)
        return summed, normed

    def _lookup(self, table: str, ids: str, output: str) -> str:
        """Rows of an embedding table. With 8-bit weights it is kept in half precision, which costs no accuracy here."""
        from onnx import TensorProto

        if self._precision == "fp32":
            return self._node("Gather", [self._weight(table), ids], output)
        half = self._initializer(f"{table}.half", self._weights[table].astype(np.float16))
        rows = self._node("Gather", [half, ids], f"{output}.half")
        return self._node("Cast", [rows], output, to=TensorProto.FLOAT)

    def _head(self, normed: str) -> None:
        name = "wte.weight" if self._config.tied_head else "lm_head.weight"
        if self._precision == "fp32":
            inputs = [normed, self._weight(name)]
            self._node("FusedMatMul", inputs, LOGITS, domain=_MICROSOFT, transB=1)
        else:
            self._quantised_matmul(normed, name, self._weights[name].astype(np.float32), LOGITS)

    def _matmul(self, left: str, weight: str) -> str:
        """`left` @ a weight stored as (inputs, outputs), the Conv1D layout of GPT-2 checkpoints."""
        output = f"{weight}.product"
        if self._precision == "fp32":
            return self._node("MatMul", [left, self._weight(weight)], output)
        return self._quantised_matmul(left, weight, self._weights[weight].astype(np.float32).T, output)

    def _quantised_matmul(self, left: str, name: str, matrix: NDArray[np.float32], output: str) -> str:
        """`left` @ matrix.T for a matrix of shape (outputs, inputs)."""
        n_outputs, n_inputs = matrix.shape
        codes, scales = quantise(matrix)
        return self._node(
            "MatMulNBits",
            [left, self._initializer(f"{name}.codes", codes), self._initializer(f"{name}.scales", scales)],
            output,
            domain=_MICROSOFT,
            K=n_inputs,
            N=n_outputs,
            bits=BITS,
            block_size=BLOCK_SIZE,
            accuracy_level=_INT8_ACTIVATIONS,
        )

    def _weight(self, name: str) -> str:
        """A weight as float32, stored once however often it is used."""
        if name in self._initializers:
            return name
        return self._initializer(name, self._weights[name].astype(np.float32))

    def _initializer(self, name: str, array: NDArray[Any]) -> str:
        self._initializers[name] = self._store(name, np.ascontiguousarray(array))
        return name

    def _node(
        self, operator: str, inputs: Sequence[str], output: str, *more: str, domain: str = "", **attributes: Any
    ) -> str:
        from onnx import helper

        outputs = [output, *more]
        node = helper.make_node(operator, list(inputs), outputs, name=output, domain=domain, **attributes)
        self._nodes.append(node)
        return output
