"""The processes that torchrun started, working on one training together; one process without it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from server.lm.errors import UserError


@dataclass(frozen=True, slots=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, batch_rows: int) -> World:
        """Meets the others. UserError when a batch has fewer rows than there are processes."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size > batch_rows:
            raise UserError(f"{size} processes cannot share batches of {batch_rows} rows; start fewer")
        if size > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        return cls(int(os.environ.get("RANK", "0")), size)

    @property
    def writes(self) -> bool:
        """Whether this is the process that keeps states."""
        return self.rank == 0

    def share(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of a batch that this process computes."""
        return ids[self.rank :: self.size], targets[self.rank :: self.size]

    def add(self, parameters: list[torch.nn.Parameter]) -> None:
        """Makes the gradients of all processes their sum: each took its rows' part of one mean."""
        if self.size > 1:
            for parameter in parameters:
                torch.distributed.all_reduce(parameter.grad)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all of them decide alike."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)])
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        return bool(flags.item())
