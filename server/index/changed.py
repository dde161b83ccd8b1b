"""Files that have changed since the index was built, or are open, made searchable.

A file is cut of its secrets here as in the build. Few are searched one by one; many are put together. Knows nothing of
locks, nor of which files have changed: its caller hands over a copy of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.index.built_files import numbers_of
from server.index.lookup import Tier
from server.index.segment import Segment, SegmentFile
from server.lm.context import unix_lines
from server.repository.secrets import scrub

CHANGED = "changed files"  # the tier's name

MAX_FRESH = 4  # changed files that are searched one by one; more are put together where nobody waits

# A file's path and text -> what of it may be searched; None for nothing.
Clean = Callable[[str, str], bytes | None]


def without_secrets(_path: str, text: str) -> bytes | None:
    """`text` with Unix line ends and its secrets cut."""
    return scrub(unix_lines(text)).text.encode("utf-8", "replace")


@dataclass(slots=True)
class Changed:
    """A file that differs from what was built; None for one that is gone."""

    text: str | None
    is_open: bool
    is_cleaned: bool = False
    cleaned: bytes | None = None  # of `text`, made when first needed
    compared: tuple[Segment, bool] | None = None  # what was built, and whether it holds the same text
    segment: Segment | None = None

    @property
    def may_need_segment(self) -> bool:
        """Whether there is text, as far as is known, and no segment of it."""
        return self.segment is None and (self.text if not self.is_cleaned else self.cleaned) is not None


class Searchable:
    """Changed files as tiers. What was made of a file is kept in its record, and here what was put together."""

    def __init__(self, clean: Clean) -> None:
        self._clean = clean
        self._together: tuple[Mapping[str, Changed], Segment] | None = None

    def prepare(self, changed: Mapping[str, Changed], built: Segment | None) -> None:
        """Makes all of the changed files searchable, so that the next search need not."""
        changed = {path: each for path, each in changed.items() if not self._is_built(built, path, each)}
        present = {path: each for path, each in changed.items() if self._cleaned(path, each) is not None}
        together = self._together[0] if self._together is not None else {}
        fresh = {path: each for path, each in present.items() if together.get(path) is not each}
        if len(fresh) > MAX_FRESH:
            self._together = present, Segment.build([_segment_file(path, each) for path, each in present.items()])
        else:
            for path, each in fresh.items():
                each.segment = each.segment or Segment.build([_segment_file(path, each)])

    def differing(self, changed: Mapping[str, Changed], built: Segment | None) -> dict[str, Changed]:
        """The changed files that are not as they were built.

        Of those that nobody has prepared only the last few are compared; the others are taken to differ.
        """
        raw = frozenset([path for path, each in changed.items() if not each.is_cleaned][:-MAX_FRESH])
        return {path: each for path, each in changed.items() if path in raw or not self._is_built(built, path, each)}

    def tiers(self, changed: Mapping[str, Changed]) -> list[Tier]:
        """The changed files: those that have been put together, and one by one those that came later.

        Of those that nobody has prepared only the last few are: the others answer a little later.
        """
        together, segment = self._together or ({}, None)
        tiers = []
        if segment is not None:
            stale = {path for path, each in together.items() if changed.get(path) is not each}
            tiers.append(Tier(CHANGED, "repository", segment, numbers_of(segment, stale)))
        fresh = {path: each for path, each in changed.items() if together.get(path) is not each}
        unprepared = [path for path, each in fresh.items() if each.may_need_segment]
        for path in unprepared[-MAX_FRESH:]:
            if self._cleaned(path, fresh[path]) is not None:
                fresh[path].segment = Segment.build([_segment_file(path, fresh[path])])
        tiers += [Tier(CHANGED, "repository", each.segment) for each in fresh.values() if each.segment is not None]
        return tiers

    def _is_built(self, built: Segment | None, path: str, changed: Changed) -> bool:
        """Whether an open file is as it was built: most are, and need no segment of their own."""
        number = None if built is None else built.number_of(path)
        if built is None or number is None:
            return False
        if changed.compared is None or changed.compared[0] is not built:
            changed.compared = built, built.text_of(number) == self._cleaned(path, changed)
        return changed.compared[1]

    def _cleaned(self, path: str, changed: Changed) -> bytes | None:
        if not changed.is_cleaned:
            changed.cleaned = None if changed.text is None else self._clean(path, changed.text)
            changed.is_cleaned = True
        return changed.cleaned


def _segment_file(path: str, changed: Changed) -> SegmentFile:
    return SegmentFile(path, changed.cleaned or b"")
