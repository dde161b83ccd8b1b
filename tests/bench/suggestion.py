"""What the server offered, as a client applies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.positions import offset_at


@dataclass(frozen=True, slots=True)
class Item:
    """`text` in place of the characters from `start` to `end`, offsets in the document."""

    text: str
    start: int
    end: int
    command: Mapping[str, Any] | None = None

    def applied_to(self, document: str) -> str:
        return document[: self.start] + self.text + document[self.end :]


def items_of(answer: Any, document: str) -> list[Item]:
    """The items of an answer to `textDocument/inlineCompletion`.

    LookupError, TypeError, ValueError for what is no such answer, or has ranges outside of the document.
    """
    listed = answer.get("items", []) if isinstance(answer, Mapping) else answer or []
    return [_item(each, document) for each in listed]


def _item(each: Mapping[str, Any], document: str) -> Item:
    start, end = (offset_at(document, each["range"][side]) for side in ("start", "end"))
    if start > end:
        raise ValueError(f"a range from {start} to {end}")
    return Item(each["insertText"], start, end, each.get("command"))
