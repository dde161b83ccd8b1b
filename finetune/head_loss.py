"""The loss over a vocabulary with its gradient, a few rows at a time, so that the softmax stays in the cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Rows whose logits exist at one time: of 16,384 logits 16 MB in fp32 and 8 in bfloat16.
HEAD_ROWS = 256
_SMALLEST = 1e-38  # a likelihood that is 0 in fp32 counts as 87 nats, not as infinitely many


class HeadLoss(torch.autograd.Function):
    """Summed nats over `n_targets`, a few rows at a time; the gradient of the logits is p - q, in place.

    What is wanted, q, is one token for each row, or what the base makes of `before`, its own hidden states there. Rows
    that are not `counted` add nothing. The `new_rows` that are trained are the first rows of `head`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor | None,
        before: Tensor | None,
        head_before: Tensor | None,
        n_targets: float,
        counted: Tensor,
        new_rows: Tensor | None,
    ) -> Tensor:
        wants_gradient = ctx.needs_input_grad[0]
        hidden_grad = torch.empty_like(hidden) if wants_gradient else None
        n_new = 0 if new_rows is None or not wants_gradient else len(new_rows)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        # Memory is asked for once: with new pages for each part, the softmax would take longer than the products.
        made = torch.empty(min(HEAD_ROWS, len(hidden)), head.shape[0], dtype=head.dtype, device=hidden.device)
        is_exact = made.dtype == torch.float32
        exact = made if is_exact else torch.empty_like(made, dtype=torch.float32)
        # Of the trained rows' logits the gradient is kept: one product takes less than one for each part.
        kept = torch.empty(len(hidden), n_new, dtype=head.dtype, device=hidden.device)
        for start in range(0, len(hidden), HEAD_ROWS):
            part = hidden[start : start + HEAD_ROWS]
            here = made[: len(part)]
            logits = here if is_exact else exact[: len(part)]
            logits.copy_(torch.mm(part, head.t(), out=here))
            likelihoods = torch.softmax(logits, dim=1, out=logits)
            if targets is not None:
                wanted = targets[start : start + HEAD_ROWS].unsqueeze(1)
                found = likelihoods.gather(1, wanted)
                nats = found.clamp(min=_SMALLEST).log().squeeze(1)
                likelihoods.scatter_(1, wanted, found - 1)
            else:
                assert before is not None and head_before is not None
                known = torch.mm(before[start : start + HEAD_ROWS], head_before.t()).float()
                known = torch.softmax(known, dim=1, out=known)
                nats = likelihoods.clamp(min=_SMALLEST).log_().mul_(known).sum(dim=1)
                likelihoods -= known
            if not bool((here_counted := counted[start : start + HEAD_ROWS]).all()):
                nats, likelihoods = nats[here_counted], likelihoods.mul_(here_counted.unsqueeze(1))
            total -= nats.sum()
            if hidden_grad is None:
                continue
            torch.mm(here.copy_(likelihoods), head, out=hidden_grad[start : start + HEAD_ROWS])
            kept[start : start + HEAD_ROWS] = here[:, :n_new]
        if hidden_grad is not None:
            hidden_grad /= n_targets
            rows_grad = torch.mm(kept.t(), hidden).float().div_(n_targets) if n_new else None
            ctx.save_for_backward(hidden_grad, rows_grad)
        return (total / n_targets).float()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, rows_grad = ctx.saved_tensors
        factor = grad_outputs[0]
        rows_out = None if rows_grad is None else rows_grad * factor
        return hidden_grad * factor.to(hidden_grad.dtype), None, None, None, None, None, None, rows_out
