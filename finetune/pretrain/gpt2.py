"""GPT-2 as one short torch module, with the parameter names and shapes of `GPT2LMHeadModel`.

Needs torch alone, so that pretraining runs where transformers is not installed; a test holds it against transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LOSS_ROWS = 512  # rows whose logits exist at one time: the loss over a large vocabulary is bound by memory
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a model."""

    n_layer: int = 4
    n_embd: int = 256
    n_head: int = 4
    n_positions: int = 1024
    vocab_size: int = 4096

    def config(self) -> dict[str, Any]:
        """The content of `config.json`, as `GPT2LMHeadModel` reads and writes it."""
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "tie_word_embeddings": True,
            **asdict(self),
        }


class Conv1D(nn.Module):
    """A linear layer with its weight as (inputs, outputs), GPT-2's way round."""

    def __init__(self, n_in: int, n_out: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) * std)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.t(), self.bias)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.c_attn = Conv1D(shape.n_embd, 3 * shape.n_embd, 0.02)
        self.c_proj = Conv1D(shape.n_embd, shape.n_embd, 0.02 / math.sqrt(2 * shape.n_layer))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) -> the same."""
        batch, time, width = x.shape
        query, key, value = (
            part.view(batch, time, self.n_head, -1).transpose(1, 2) for part in self.c_attn(x).split(width, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.c_proj(mixed.transpose(1, 2).reshape(batch, time, width))
        return out


class MLP(nn.Module):
    """Two layers with a tanh-approximated GELU between."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.c_fc = Conv1D(shape.n_embd, 4 * shape.n_embd, 0.02)
        self.c_proj = Conv1D(4 * shape.n_embd, shape.n_embd, 0.02 / math.sqrt(2 * shape.n_layer))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and around a residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.n_embd)
        self.attn = Attention(shape)
        self.ln_2 = nn.LayerNorm(shape.n_embd)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """Embeddings, blocks and the last layer norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.n_positions, shape.n_embd)
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.01)

    def forward(self, token_ids: Tensor) -> Tensor:
        """(batch, time) ids -> (batch, time, width)."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        x = self.wte(token_ids) + self.wpe(positions)
        for block in self.h:
            x = block(x)
        out: Tensor = self.ln_f(x)
        return out


class GPT2(nn.Module):
    """The model; the head is the token embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.transformer = Transformer(shape)
        self.loss_rows: int | None = None  # `LOSS_ROWS`; a GPU wants many more
        self.chunk_loss: ChunkLoss = chunk_loss

    def hidden(self, token_ids: Tensor) -> Tensor:
        """(batch, time) ids -> (batch, time, width) before the head."""
        out: Tensor = self.transformer(token_ids)
        return out

    def head(self, hidden: Tensor) -> Tensor:
        """(..., width) -> logits (..., vocabulary)."""
        return functional.linear(hidden, self.transformer.wte.weight)

    def logits(self, token_ids: Tensor) -> Tensor:
        """(batch, time) ids -> (batch, time, vocabulary)."""
        return self.head(self.hidden(token_ids))

    def loss(self, token_ids: Tensor, targets: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats of the targets that are not `IGNORED`; both (batch, time)."""
        hidden = self.hidden(token_ids).reshape(-1, self.shape.n_embd)
        if torch.is_autocast_enabled(hidden.device.type):
            # The last layer norm answers in fp32 there; the head is the largest product of all.
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        out: Tensor = ChunkedLoss.apply(  # type: ignore[no-untyped-call]
            hidden, self.transformer.wte.weight, targets.reshape(-1), self.loss_rows, self.chunk_loss
        )
        return out


# (rows, width), (vocabulary, width), (rows,), number of all targets -> summed nats, gradients of the first two
ChunkLoss = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def chunk_loss(hidden: Tensor, weight: Tensor, targets: Tensor, n_targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A `ChunkLoss`, written to make few passes over memory when each operation runs for itself."""
    log_probs = torch.log_softmax((hidden @ weight.t()).float(), dim=1)
    counted = targets != IGNORED
    wanted = targets.clamp(min=0).unsqueeze(1)
    nats = -(log_probs.gather(1, wanted).squeeze(1) * counted).sum()
    grad = log_probs.exp_()
    grad.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=grad.dtype))
    grad *= (counted / n_targets).unsqueeze(1)
    grad = grad.to(hidden.dtype)
    return nats, grad @ weight, grad.t() @ hidden


def fusible_chunk_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, n_targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for a compiler: element by element and without scattering, so that it becomes one pass."""
    log_probs = torch.log_softmax((hidden @ weight.t()).float(), dim=1)
    counted = (targets != IGNORED).unsqueeze(1)
    wanted = targets.unsqueeze(1) == torch.arange(weight.shape[0], device=targets.device)
    nats = -torch.where(wanted, log_probs, 0.0).sum()
    grad = torch.where(counted, (log_probs.exp() - wanted.to(log_probs.dtype)) / n_targets, 0.0).to(hidden.dtype)
    return nats, grad @ weight, grad.t() @ hidden


class ChunkedLoss(torch.autograd.Function):
    """Mean cross-entropy of a tied head, a few hundred rows at a time; gradients are made on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        n_rows: int | None = None,
        chunk: ChunkLoss = chunk_loss,
    ) -> Tensor:
        """(rows, width), (vocabulary, width), (rows,) -> scalar; `n_rows` at a time, `LOSS_ROWS` for None."""
        n_rows = n_rows or LOSS_ROWS
        n_targets = (targets != IGNORED).sum().clamp(min=1)
        cast_weight = weight.to(hidden.dtype)
        hidden_grad = torch.empty_like(hidden)
        weight_grad = torch.zeros_like(weight, dtype=torch.float32)
        total = torch.zeros((), device=hidden.device)
        for start in range(0, hidden.shape[0], n_rows):
            rows = slice(start, start + n_rows)
            nats, hidden_grad[rows], part = chunk(hidden[rows], cast_weight, targets[rows], n_targets)
            total += nats
            weight_grad += part
        ctx.save_for_backward(hidden_grad, weight_grad.to(weight.dtype))
        return total / n_targets

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grad_outputs[0], weight_grad * grad_outputs[0], None, None, None
