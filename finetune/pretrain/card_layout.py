"""Markdown pieces of a model card, lines of prose at most 120 characters long."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 120


def paragraph(text: str) -> str:
    """Prose, whatever blanks and line breaks it was written with."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def bullet(text: str) -> str:
    """One entry of a list."""
    text = " ".join(text.split())
    return textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def table(head: Sequence[str], *rows: Sequence[str]) -> str:
    """A table whose cells are taken as they are; see `cell`."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def cell(text: str) -> str:
    """A text that cannot break its table row."""
    for character in "\\`*_<>|[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def folded(summary: str, *parts: str) -> str:
    """Parts that are shown at a click, for what is long and seldom read."""
    return "\n\n".join((f"<details>\n<summary>{summary}</summary>", *parts, "</details>"))
