"""The processes that torchrun started, working on one training together; one process without it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from server.lm.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"  # torch's name of what this process computes on
    n_here: int = 1  # processes on this machine, which share its cores

    @classmethod
    def join(cls) -> World:
        """Meets the others. Takes an accelerator where there is one, each process its own."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
        if size > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        n_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return cls(int(os.environ.get("RANK", "0")), size, device, n_here)

    @property
    def writes(self) -> bool:
        """Whether this is the process that keeps states, judges and publishes."""
        return self.rank == 0

    def share(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of a batch that this process computes. UserError when there are fewer rows than processes."""
        if self.size > len(ids):
            raise UserError(f"{self.size} processes cannot share batches of {len(ids)} rows; start fewer")
        return ids[self.rank :: self.size], targets[self.rank :: self.size]

    def add(self, parameters: list[torch.nn.Parameter]) -> None:
        """Makes the gradients of all processes their sum: each took its rows' part of one mean."""
        if self.size > 1:
            for parameter in parameters:
                torch.distributed.all_reduce(parameter.grad)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all of them decide alike."""
        return self.longest(float(flag)) > 0

    def longest(self, seconds: float) -> float:
        """The greatest of what the processes say."""
        if self.size == 1:
            return seconds
        values = torch.tensor([seconds], dtype=torch.float64)
        torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MAX)
        return float(values.item())

    def told(self, value: T) -> T:
        """What the process that writes says, once it has got here; the same in all."""
        if self.size == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]
