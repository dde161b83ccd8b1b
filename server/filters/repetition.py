"""Texts that repeat the line above, or themselves."""

from __future__ import annotations

import re

from server.filters.candidate import Candidate, Rejection

# The same few characters five times, or more of them three times.
_LOOP = re.compile(r"(.{3,40}?)\1{4}|(.{10,80}?)\2{2}")
_MAX_LINE = 400  # characters of a line that are searched for loops


def repetition(candidate: Candidate) -> Candidate | Rejection:
    """Rejects the line above once more and a line that turns in circles; cuts before a line or block said twice."""
    cursor, text = candidate.cursor, candidate.text
    lines = text.split("\n")
    first = (cursor.line_prefix + lines[0] + (cursor.line_suffix if len(lines) == 1 else "")).strip()
    above = next((line.strip() for line in reversed(cursor.above) if line.strip()), "")
    # Who has typed most of the line again wants it again.
    if first == above and 2 * len(lines[0].strip()) >= len(first) and _says_something(first):
        return Rejection("it repeats the line above")
    if any(_turns_in_circles(line) for line in lines):
        return Rejection("it repeats itself")
    whole = [cursor.line_prefix + lines[0], *lines[1:]]
    n_kept = _n_lines_before_repeat(whole)
    return candidate if n_kept == len(lines) else candidate.cut(len("\n".join(lines[:n_kept]).rstrip()))


def _turns_in_circles(line: str) -> bool:
    """Whether a few characters come again and again; rows of dashes and the like are meant."""
    return any(_says_something(match[0]) for match in _LOOP.finditer(line.strip()[:_MAX_LINE]))


def _n_lines_before_repeat(lines: list[str]) -> int:
    """How many lines come before the first that starts a line or a block of lines for the second time in a row."""
    for start in range(1, len(lines)):
        for size in range(1, min(start, len(lines) - start) + 1):
            block = lines[start : start + size]
            if block == lines[start - size : start] and _says_something("".join(block)):
                return start
    return len(lines)


def _says_something(text: str) -> bool:
    return any(character.isalnum() for character in text)
