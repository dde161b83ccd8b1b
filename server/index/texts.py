"""The texts that an index is built of: those of unchanged files as they were cleaned before, the others read anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from server.index.dependencies import Package, read_package_file, shown_path
from server.index.store import FileRecord, Generation, TierName
from server.repository.files import CleanFile, File, Rule, read_text, without_duplicates
from server.repository.listing import Drop, Reason

if TYPE_CHECKING:
    from server.index.segment import Segment

# These depend on more than the file itself, so that they are not remembered.
_PASSING_REASONS = frozenset({"duplicate", "missing", "unreadable"})


Tell = Callable[[int, int], None]


class Former:
    """What the former generation knows of files that have not changed since: the cleaned text, or why there is none."""

    def __init__(self, generation: Generation | None) -> None:
        self._generation = generation  # None also when it has been read
        self._texts: dict[tuple[TierName, str], bytes] = {}
        self._records: dict[tuple[TierName, str, int, int], FileRecord] = {}

    def judged(self, tier: TierName, path: str, file: File) -> CleanFile | Drop | None:
        """The same as reading the file again, or None where it must be read."""
        if self._generation is not None:
            generation, self._generation = self._generation, None
            self._read(generation)
        record = self._records.get((tier, path, file.n_bytes, file.mtime_ns))
        if record is None or record.dropped in _PASSING_REASONS:
            return None
        if record.dropped is not None:
            return Drop(path, cast(Reason, record.dropped))
        text = self._texts.get((tier, path))
        return None if text is None else CleanFile(path, text)

    def _read(self, generation: Generation) -> None:
        if (segments := load_segments(generation)) is None:
            return
        tiers: tuple[TierName, TierName] = ("repository", "dependencies")
        for tier, segment in zip(tiers, segments, strict=True):
            self._texts.update(((tier, file.path), file.text) for file in segment.files())
        for record in generation.manifest.files:
            self._records[record.tier, record.path, record.n_bytes, record.mtime_ns] = record


def own_texts(root: Path, files: Sequence[File], rule: Rule, former: Former, tell: Tell) -> list[CleanFile | Drop]:
    """The workspace's own files, each kept or dropped, in their order; `tell` hears how many of how many are done."""

    def read() -> Iterator[CleanFile | Drop]:
        for number, file in enumerate(files):
            tell(number, len(files))
            yield former.judged("repository", file.path, file) or read_text(root, file.path, rule)

    return list(without_duplicates(read()))


def installed_texts(root: Path, packages: Sequence[Package], rule: Rule, former: Former) -> list[CleanFile | Drop]:
    """The files of the packages, each kept or dropped, under the paths that people see."""

    def read() -> Iterator[CleanFile | Drop]:
        for package in packages:
            for file in package.files:
                known = former.judged("dependencies", shown_path(root, package.folder, file.path), file)
                yield known or read_package_file(root, package, file, rule)

    return list(without_duplicates(read()))


def load_segments(generation: Generation) -> tuple[Segment, Segment] | None:
    """The repository's and the dependencies' text of a generation; None if one of them cannot be read."""
    from server.index.segment import Segment, SegmentError

    try:
        return Segment.load(generation.repository), Segment.load(generation.dependencies)
    except SegmentError:
        return None


def shown_files(root: Path, packages: Sequence[Package]) -> list[File]:
    """The files of all packages in order, under the paths that people see."""
    return [
        File(shown_path(root, package.folder, file.path), file.n_bytes, file.mtime_ns)
        for package in packages
        for file in package.files
    ]


def records_of(tier: TierName, files: Sequence[File], judged: Sequence[CleanFile | Drop]) -> list[FileRecord]:
    """What a manifest says of files that were kept or dropped; both in the same order."""
    return [
        FileRecord(file.path, file.n_bytes, file.mtime_ns, tier, each.reason if isinstance(each, Drop) else None)
        for file, each in zip(files, judged, strict=True)
    ]
