"""What every part of the measurements is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.client import Client
from tests.bench.heldout import SourceFile
from tests.bench.repositories import Package


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    files: tuple[SourceFile, ...]
    sources: Mapping[Package, Path] = field(default_factory=dict)  # of the packages that the files are from
    model: str = "default"
    quick: bool = False  # a smaller sample, to see that everything works
    count: int | None = None  # of cases, in place of the part's own number
    completion: Mapping[str, Any] = field(default_factory=dict)  # settings that are not to have their default
    settings: Mapping[str, Any] = field(default_factory=dict)  # as well, of the other sections: {"index": {...}}
    repositories: Mapping[Package, Path] = field(default_factory=dict)  # the sources of whole packages
    tuning: bool = False  # they are the ones that settings are fitted on
    adapters: Path | None = None  # a folder with an adapter for each of them, by the package's name; None: as it is set
    against: Path | None = None  # the JSON of another run, to compare with

    def n(self, usual: int, quick: int) -> int:
        """How many cases a part takes."""
        return self.count or (quick if self.quick else usual)

    def client(self, environment: Mapping[str, str] | None = None) -> Client:
        """A server process that serves the model, not yet initialized."""
        return Client("--model", self.model, environment=environment)
