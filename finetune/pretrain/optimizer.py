"""Muon for the matrices inside the blocks, AdamW for the rest.

Muon (Jordan et al. 2024): the momentum of a matrix is replaced by the nearest orthogonal one, found by Newton-Schulz
steps. On a CPU these run in float32: in bfloat16, as `torch.optim.Muon` does it, one step takes a hundred times longer
where the processor lacks the type.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic coefficients of the Muon reference
N_NEWTON_SCHULZ_STEPS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """Each of (count, rows, columns) moved towards U Vᵀ of its singular value decomposition."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(N_NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: Tensor = (x.transpose(1, 2) if tall else x).to(matrices.dtype)
    return out


class Muon(torch.optim.Optimizer):
    """Muon over (rows, columns) matrices; those three times as wide as tall are three matrices side by side."""

    def __init__(
        self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients; there are no closures here."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
            for param in group["params"]:
                if param.grad is not None:
                    by_shape.setdefault(tuple(param.shape), []).append((param, self._momentum(param, group)))
            for (n_rows, n_columns), pairs in by_shape.items():
                stack = torch.stack([update for _, update in pairs])
                n_parts = 3 if n_columns == 3 * n_rows else 1  # query, key and value are matrices of their own
                stack = torch.cat(stack.chunk(n_parts, dim=2))
                scale = max(1.0, stack.shape[2] / stack.shape[1]) ** 0.5
                updates = torch.cat(orthogonal(stack).chunk(n_parts), dim=2) * scale
                for (param, _), update in zip(pairs, updates, strict=True):
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                    param.add_(update, alpha=-group["lr"])

    def _momentum(self, param: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """The gradient with Nesterov momentum."""
        assert param.grad is not None
        state = self.state[param]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(param)
        buffer: Tensor = state["momentum"]
        buffer.lerp_(param.grad, 1 - group["momentum"])
        return param.grad.lerp(buffer, group["momentum"])


def optimizers(
    model: nn.Module, muon_rate: float, adam_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon over the matrices of the blocks, AdamW over embeddings, biases and norms; both at their peak rates."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and ".h." in name]
    embeddings = [p for name, p in named if p.ndim == 2 and ".h." not in name]
    vectors = [p for _, p in named if p.ndim != 2]
    adam = torch.optim.AdamW(
        [{"params": embeddings, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=adam_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    return [Muon(matrices, muon_rate, weight_decay=weight_decay), adam]
