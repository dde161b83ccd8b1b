"""LoRA on a frozen GPT-2: peft's parameters and files, and a forward of our own that computes only what training needs.

The update is merged into each weight once a step, so that the forward costs what the base costs. Where the processor
multiplies bfloat16 fast, matrix products take it; residuals, norms and parameters stay in fp32. Tests hold loss and
gradients against peft's own. Knows nothing of rows, plans or time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetune.attention import causal_attention
from finetune.gelu import gelu
from finetune.head_loss import HeadLoss
from finetune.lora_layers import Linear, RowsOfEmbedding
from finetune.pretrain.gpt2 import IGNORED
from server.lm.adapter_manifest import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE

ROUND_ROWS = 64


@dataclass(frozen=True, slots=True)
class LoraShape:
    """Which parameters are trained."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...] = ("c_attn", "c_fc", "c_proj")
    token_rows: tuple[int, ...] = ()  # rows of the token embedding that are trained whole
    norms: bool = False  # whether the layer norms are trained whole
    bf16: bool | None = None  # whether matrix products are made in bfloat16; None: where that is fast


def multiplies_bf16(device: str = "cpu") -> bool:
    """Whether matrix products in bfloat16 are fast there; 7 times slower than fp32 on processors without the type."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in asked)


class LoraModel:
    """A base model with a LoRA adapter, both as peft holds them."""

    def __init__(self, base_folder: Path, shape: LoraShape, seed: int, device: str = "cpu") -> None:
        """A fresh adapter, drawn from `seed`; it changes nothing yet. `device` is torch's name of one."""
        self.shape = shape
        self.peft = _peft_model(base_folder, shape, seed).to(device)
        self.device = device
        bf16 = multiplies_bf16(device) if shape.bf16 is None else shape.bf16
        self._dtype = torch.bfloat16 if bf16 else torch.float32  # of what is multiplied
        inner = self.peft.base_model.model
        self._body, config = inner.transformer, inner.config
        self._n_head, self._width = config.n_head, config.n_embd
        self._tied = config.tie_word_embeddings is not False
        self._head = None if self._tied else inner.lm_head.weight
        wte = self._body.wte
        self._rows = torch.tensor(shape.token_rows, device=device) if shape.token_rows else None
        self._embedding = wte.weight if self._rows is None else wte.token_adapter.base_layer.weight
        self._new_rows = None if self._rows is None else wte.token_adapter.trainable_tokens_delta["default"]
        self._linears = [
            [
                Linear(part, self._dtype)
                for part in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
            ]
            for block in self._body.h
        ]
        self._norms = [(_norm(block.ln_1), _norm(block.ln_2)) for block in self._body.h]
        self._last_norm = _norm(self._body.ln_f)
        self._place: Tensor | None = None  # of each token in the head's matrix: those that are trained come first
        head = (self._embedding if self._head is None else self._head).detach()
        if self._tied and self._rows is not None:
            is_other = torch.ones(len(head), dtype=torch.bool, device=device)
            is_other[self._rows] = False
            order = torch.cat([self._rows, is_other.nonzero()[:, 0]])
            self._place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=device))
            head = head[order]
        self._matrix = head.to(self._dtype)  # of the head
        self._matrix_before = self._matrix if self._place is None else self._matrix.clone()  # of the base
        self.merge()

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by peft's names, in a fixed order."""
        return {name: value for name, value in self.peft.named_parameters() if value.requires_grad}

    @torch.no_grad()
    def merge(self) -> None:
        """Takes up the trained parameters as they are now: to be called after each change of them."""
        for linear in self._linears_in_order():
            linear.merge()
        if self._rows is not None and self._new_rows is not None:
            self._embedding.index_copy_(0, self._rows, self._new_rows)
            if self._place is not None:
                self._matrix[: len(self._rows)] = self._new_rows

    def loss(self, token_ids: Tensor, targets: Tensor, n_targets: float) -> Tensor:
        """Summed nats of the targets that are not `IGNORED`, over `n_targets`; both (batch, time).

        With gradients enabled, `backward` of it gives those of `parameters`; `n_targets` may count more than these
        rows, for batches that are computed in parts.
        """
        hidden = self._hidden(token_ids.to(self.device))
        wanted = targets.to(self.device).reshape(-1)
        counted = wanted != IGNORED
        kept = _kept(counted)
        places = wanted[kept].clamp(min=0)
        if self._place is not None:
            places = self._place[places]
        return self._head_loss(hidden[kept], n_targets, counted[kept], targets=places)

    @torch.no_grad()
    def hidden_states(self, token_ids: Tensor) -> Tensor:
        """What the head sees, (batch, time) -> (batch, time, width), of the model as it is, in the type multiplied."""
        return self._hidden(token_ids.to(self.device)).reshape(*token_ids.shape, self._width)

    def divergence(self, token_ids: Tensor, targets: Tensor, before: Tensor, n_targets: float) -> Tensor:
        """As `loss`, but what is wanted is what the base says, whose `hidden_states` are `before` (batch, time, width).

        Its least value is the entropy of the base's distributions. Targets only say where it counts.
        """
        hidden = self._hidden(token_ids.to(self.device))
        counted = targets.to(self.device).reshape(-1) != IGNORED
        kept = _kept(counted)
        before = before.reshape(-1, self._width)[kept]
        return self._head_loss(hidden[kept], n_targets, counted[kept], before=before)

    def _head_loss(
        self,
        hidden: Tensor,
        n_targets: float,
        counted: Tensor,
        targets: Tensor | None = None,
        before: Tensor | None = None,
    ) -> Tensor:
        new_rows = self._new_rows if self._tied else None
        out: Tensor = HeadLoss.apply(  # type: ignore[no-untyped-call]
            hidden, self._matrix, targets, before, self._matrix_before, n_targets, counted, new_rows
        )
        return out

    def _hidden(self, token_ids: Tensor) -> Tensor:
        """(batch, time) -> (batch * time, width) after the last norm, in the type that is multiplied."""
        batch, time = token_ids.shape
        positions = self._body.wpe.weight[:time]
        if self._rows is None:
            x = functional.embedding(token_ids, self._embedding)
        else:
            x = RowsOfEmbedding.apply(token_ids, self._embedding, self._rows, self._new_rows)  # type: ignore[no-untyped-call]
        x = (x + positions).reshape(batch * time, self._width)
        for (qkv, out, up, down), (norm_1, norm_2) in zip(self._linears, self._norms, strict=True):
            x = x + out(causal_attention(qkv(_normed(x, norm_1).to(self._dtype)), batch, self._n_head))
            x = x + down(gelu(up(_normed(x, norm_2).to(self._dtype))))
        return _normed(x, self._last_norm).to(self._dtype)

    def _linears_in_order(self) -> Iterator[Linear]:
        for linears in self._linears:
            yield from linears

    def values(self) -> dict[str, Tensor]:
        """Copies of the trained parameters on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.parameters().items()}

    @torch.no_grad()
    def set_values(self, values: Mapping[str, Tensor]) -> None:
        """Puts `values` in place of the trained parameters. KeyError or RuntimeError when they do not fit."""
        for name, parameter in self.parameters().items():
            parameter.copy_(values[name])
        self.merge()

    def load(self, folder: Path) -> None:
        """Takes the adapter that `save` has written in place of the trained parameters."""
        import peft
        from safetensors.torch import load_file

        peft.set_peft_model_state_dict(self.peft, load_file(folder / ADAPTER_WEIGHTS_FILE))
        self.merge()

    def save(self, folder: Path) -> None:
        """Writes the adapter as peft does, without its model card and without a path of this machine.

        The same values give the same bytes. OSError when the disk does not take it.
        """
        import peft
        from safetensors.torch import save

        state = peft.get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        config = self.peft.peft_config["default"].to_dict()
        config |= {"base_model_name_or_path": None, "inference_mode": True, "auto_mapping": None}
        fields = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in sorted(state.items())}
        _write(folder / ADAPTER_WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
        text = json.dumps(fields, indent=2, sort_keys=True, default=str) + "\n"
        _write(folder / ADAPTER_CONFIG_FILE, text.encode())


def _peft_model(base_folder: Path, shape: LoraShape, seed: int) -> Any:
    import peft
    import transformers

    transformers.utils.logging.disable_progress_bar()
    base = transformers.GPT2LMHeadModel.from_pretrained(base_folder, dtype=torch.float32, local_files_only=True)
    torch.manual_seed(seed)
    n_known = base.config.vocab_size
    if shape.token_rows and max(shape.token_rows) >= n_known:
        # New markers begin as the mean of the known tokens: a random row would be the likeliest token somewhere.
        base.resize_token_embeddings(max(shape.token_rows) + 1, mean_resizing=False)
        with torch.no_grad():
            table = base.transformer.wte.weight
            table[n_known:] = table[:n_known].mean(dim=0)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=shape.rank,
        lora_alpha=shape.alpha,
        target_modules=sorted(shape.target_modules),
        modules_to_save=["ln_1", "ln_2", "ln_f"] if shape.norms else None,
        trainable_token_indices={"wte": list(shape.token_rows)} if shape.token_rows else None,
        fan_in_fan_out=True,
        lora_dropout=0.0,
    )
    torch.manual_seed(seed)
    return peft.get_peft_model(base, config)


def _kept(counted: Tensor) -> Tensor:
    """The numbers of the rows that the head sees: those that count, and others up to a multiple of `ROUND_ROWS`.

    Nothing more is computed for padding in the largest product of all. Were any number possible, the library that makes
    the products (oneDNN) would keep plans and memory for each: on streamlink the process grew from 1.2 to 3.0 GB in 150
    steps, on rxjs with this it stayed below 1.8. Again: `/usr/bin/time -v python -m finetune REPO`.
    """
    n_more = -int(counted.sum()) % ROUND_ROWS
    return torch.cat([counted.nonzero()[:, 0], (~counted).nonzero()[:n_more, 0]])


def _norm(part: Any) -> Any:
    """The layer norm itself, where peft holds a trained copy of it too."""
    saved = getattr(part, "modules_to_save", None)
    return part if saved is None else saved["default"]


def _normed(x: Tensor, norm: Any) -> Tensor:
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
