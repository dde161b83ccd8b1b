"""Where something stands in the index, for people."""

from __future__ import annotations

from dataclasses import dataclass

from server.index.lookup import Tier


@dataclass(frozen=True, slots=True)
class Source:
    """A place that supported what was written."""

    tier: str
    path: str
    line: int  # 1-based


def source_of(tier: Tier, place: int) -> Source:
    """The file and line of an offset in a tier."""
    number = tier.segment.file_at(place)
    first_line = tier.first_lines[number] if tier.first_lines else 1
    return Source(tier.name, tier.segment.paths[number], tier.segment.line_at(place) + first_line - 1)
