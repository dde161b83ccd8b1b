"""Positions of the protocol in a text, in UTF-16 units; lines end with \\n here."""

from __future__ import annotations

from collections.abc import Mapping


def position_at(text: str, offset: int) -> dict[str, int]:
    """The protocol's position of an index into `text`, in UTF-16 units; lines end with \\n here."""
    before = text[:offset]
    line_start = before.rfind("\n") + 1
    return {"line": before.count("\n"), "character": len(before[line_start:].encode("utf-16-le")) // 2}


def offset_at(text: str, position: Mapping[str, int]) -> int:
    """The index into `text` of a position; behind the end of its line is at the end. ValueError for one outside."""
    start = 0
    if min(position["line"], position["character"]) < 0 or position["line"] > text.count("\n"):
        raise ValueError(f"line {position['line']}, character {position['character']} is outside of the document")
    for _ in range(position["line"]):
        start = text.index("\n", start) + 1
    line = text[start:].split("\n", 1)[0]
    return start + len(line.encode("utf-16-le")[: 2 * position["character"]].decode("utf-16-le", "replace"))
