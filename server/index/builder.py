"""Where built indexes come from: the stored generation, and a child process that makes the next one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from server.index.live import DEPENDENCIES, REPOSITORY

if TYPE_CHECKING:
    from server.index.build_process import BuildProcess
    from server.index.segment import Segment


@dataclass(frozen=True, slots=True)
class Built:
    """An index of a folder, and what went into it."""

    segments: Mapping[str, Segment]  # by tier name
    generation: str = ""
    n_files: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)  # by reason
    notice: str | None = None  # for the user: which limit was reached


def wanted(segments: Mapping[str, Segment], *, with_dependencies: bool) -> dict[str, Segment]:
    """The tiers that are to be searched."""
    return {name: segment for name, segment in segments.items() if with_dependencies or name != DEPENDENCIES}


class Builder(Protocol):
    """Where indexes come from; one call at a time, but for `stop`."""

    def stored(self, root: Path, exclude: Sequence[str]) -> Built | None:
        """What was built before, at once; None when nothing was, or nothing that may be read under these globs."""

    def build(self, root: Path, exclude: Sequence[str], progress: Callable[[int], None]) -> Built:
        """The index of a folder as it is now; takes seconds, and tells percents. Raises `UserError`."""

    def stop(self) -> None:
        """Ends the build that is going on, from another thread, and all later ones."""


class ChildBuilder:
    """Builds in a child process, into the user's cache folder."""

    def __init__(self) -> None:
        self._process: BuildProcess | None = None
        self.is_stopped = False

    def stored(self, root: Path, exclude: Sequence[str]) -> Built | None:
        """The generation in use, unless it holds what is excluded or was cleaned by another rule since."""
        from server.index.store import index_folder, read_current
        from server.index.texts import load_segments
        from server.repository.barred import is_barred_path
        from server.repository.files import RULE_VERSION

        generation = read_current(index_folder(root))
        if generation is None or generation.manifest.rule_version != RULE_VERSION:
            return None
        manifest = generation.manifest
        if exclude and any(file.dropped is None and is_barred_path(file.path, exclude) for file in manifest.files):
            return None
        if (segments := load_segments(generation)) is None:
            return None
        tiers = dict(zip((REPOSITORY, DEPENDENCIES), segments, strict=True))
        return Built(tiers, manifest.name, manifest.n_files, manifest.dropped, manifest.limit_reached)

    def build(self, root: Path, exclude: Sequence[str], progress: Callable[[int], None]) -> Built:
        """Starts the child, waits for it, and takes what it has put in use."""
        from server.index.build_process import BuildError, Progress, start_build
        from server.index.store import index_folder

        environments = [Path(folder) for folder in (os.environ.get("VIRTUAL_ENV"),) if folder]
        self._process = start_build(root, index_folder(root), exclude, environments)
        if self.is_stopped:  # while the child was being started
            self._process.stop()
        for event in self._process.events():
            if isinstance(event, Progress):
                progress(event.percent)
                continue
            if (built := self.stored(root, exclude)) is not None:
                return Built(built.segments, built.generation, built.n_files, built.dropped, event.limit_reached)
        raise BuildError(f"the index of {root} was built but cannot be read; the next start tries again")

    def stop(self) -> None:
        """Kills the child; what was stored before stays."""
        self.is_stopped = True
        if self._process is not None:
            self._process.stop()
