"""What was built, and which of its files answer: those that are not as they were built are hidden."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.index.segment import Segment


class BuiltFiles:
    """Segments by tier name, and their hidden files. Owned by one caller, who locks it."""

    def __init__(self, segments: Mapping[str, Segment], hidden: Iterable[str] = ()) -> None:
        self.segments = dict(segments)
        self._paths = sorted(path for segment in segments.values() for path in segment.paths)
        self._hidden = set(hidden)
        self._numbers: Mapping[str, frozenset[int]] | None = None  # None: to be counted anew

    @property
    def hidden(self) -> frozenset[str]:
        """The files that do not answer."""
        return frozenset(self._hidden)

    @property
    def hidden_numbers(self) -> Mapping[str, frozenset[int]]:
        """Their numbers in each segment, by tier name."""
        if self._numbers is None:
            self._numbers = {name: numbers_of(segment, self._hidden) for name, segment in self.segments.items()}
        return self._numbers

    def hide(self, paths: Iterable[str]) -> bool:
        """Lets files answer no more; whether one of them did."""
        n_before = len(self._hidden)
        segments = self.segments.values()
        self._hidden.update(path for path in paths if any(each.number_of(path) is not None for each in segments))
        return self._has_changed(n_before)

    def show(self, paths: Iterable[str]) -> bool:
        """Lets files answer again; whether one of them did not."""
        n_before = len(self._hidden)
        self._hidden.difference_update(paths)
        return self._has_changed(n_before)

    def _has_changed(self, n_before: int) -> bool:
        if len(self._hidden) == n_before:
            return False
        self._numbers = None
        return True

    def below(self, folders: Collection[str]) -> set[str]:
        """The files in some folders; the empty name is the whole."""
        found: set[str] = set()
        for folder in folders:
            first, last = bisect_left(self._paths, f"{folder}/"), bisect_left(self._paths, f"{folder}0")  # behind "/"
            found.update(self._paths[first:last] if folder else self._paths)
        return found


def numbers_of(segment: Segment, paths: Iterable[str]) -> frozenset[int]:
    """The numbers of those files that a segment holds."""
    return frozenset(number for number in map(segment.number_of, paths) if number is not None)
