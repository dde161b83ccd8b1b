"""Where built indexes come from: the stored generation, and a child process that makes the next one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from server.index.live import DEPENDENCIES, REPOSITORY
from server.repository.files import File, Rule, outdated

if TYPE_CHECKING:
    from server.index.build_process import BuildProcess
    from server.index.segment import Segment
    from server.index.store import FileRecord


@dataclass(frozen=True, slots=True)
class Built:
    """An index of a folder, and what went into it."""

    segments: Mapping[str, Segment]  # by tier name
    generation: str = ""
    n_files: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)  # by reason
    notice: str | None = None  # for the user: which limit was reached
    files: Mapping[str, File] = field(default_factory=dict)  # of the workspace, by path, as they were when read
    installed: Mapping[str, File] = field(default_factory=dict)  # the same of packages, under the paths people see
    duplicates: Mapping[int, Sequence[str]] = field(default_factory=dict)  # of `files`, left out; by bytes on disk

    @property
    def paths(self) -> frozenset[str]:
        """All that was built."""
        return frozenset(path for segment in self.segments.values() for path in segment.paths)

    def outdated(self, root: Path, rule: Rule, paths: Iterable[str]) -> frozenset[str]:
        """Those of `paths` that are not on disk as they were built, or may not be read any more."""
        asked = frozenset(paths)
        own = outdated(root, [self.files[path] for path in asked & self.files.keys()], rule)
        installed = frozenset(
            path for path in asked & self.installed.keys() if _is_unchanged(root, self.installed[path])
        )
        return asked - (self.files.keys() - own) - installed

    def copies_of(self, path: str) -> Sequence[str]:
        """Files that may have been left out for holding the same as this one."""
        file = self.files.get(path)
        return () if file is None else self.duplicates.get(file.n_bytes, ())


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
        own, installed, duplicates = _told_apart(manifest.files)
        dropped, limit = manifest.dropped, manifest.limit_reached
        return Built(tiers, manifest.name, manifest.n_files, dropped, limit, own, installed, duplicates)

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
                return replace(built, notice=event.limit_reached)
        raise BuildError(f"the index of {root} was built but cannot be read; the next start tries again")

    def stop(self) -> None:
        """Kills the child; what was stored before stays."""
        self.is_stopped = True
        if self._process is not None:
            self._process.stop()


def _told_apart(records: Iterable[FileRecord]) -> tuple[dict[str, File], dict[str, File], dict[int, list[str]]]:
    """What is kept of the workspace and of packages, by path, and the workspace's duplicates by their size on disk."""
    own: dict[str, File] = {}
    installed: dict[str, File] = {}
    duplicates: dict[int, list[str]] = {}
    for record in records:
        if record.dropped is None:
            kept = own if record.tier == "repository" else installed
            kept[record.path] = File(record.path, record.n_bytes, record.mtime_ns)
        elif record.dropped == "duplicate" and record.tier == "repository":
            duplicates.setdefault(record.n_bytes, []).append(record.path)
    return own, installed, duplicates


def _is_unchanged(root: Path, file: File) -> bool:
    try:
        found = os.stat(root / file.path)
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (file.n_bytes, file.mtime_ns)
