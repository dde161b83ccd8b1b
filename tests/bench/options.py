"""What every part of the measurements is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench.client import Client
from tests.bench.heldout import SourceFile


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    files: tuple[SourceFile, ...]
    model: str = "default"
    quick: bool = False  # a smaller sample, to see that everything works
    count: int | None = None  # of cases, in place of the part's own number
    completion: Mapping[str, Any] = field(default_factory=dict)  # settings that are not to have their default

    def n(self, usual: int, quick: int) -> int:
        """How many cases a part takes."""
        return self.count or (quick if self.quick else usual)

    def client(self, environment: Mapping[str, str] | None = None) -> Client:
        """A server process that serves the model, not yet initialized."""
        return Client("--model", self.model, environment=environment)
