"""Names of people and firms: what a model remembers of licences and author lines is nobody's business here."""

from __future__ import annotations

import re

from server.filters.candidate import Candidate, Rejection
from server.lm.cursor import Cursor
from server.lm.lexing import LexicalState, state_after, tokens

_CLAIM = re.compile(
    r"@author|\b(?:authors?|maintainers?|contact|e-?mail|holder)\b[\"'_ ]*[:=]|__author__|copyright|\(c\)|\u00a9"
    r"|written by",
    re.IGNORECASE,
)
# What stands in such lines beside the name.
_NO_NAMES = frozenset(
    "copyright author authors all rights reserved the a and or by inc llc ltd co contributors".split()
)
_NAME = re.compile(r"[^\W\d_][\w.'-]+|\d{4}")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|edu|gov|io|dev|de|fr|uk|me|ch|nl|eu|jp|cn|ru)\b")


def people(candidate: Candidate) -> Candidate | Rejection:
    """The lines before the first that names somebody as author or holder, or writes to them, who is not named around.

    A text of the repository itself may name whom it likes.
    """
    cursor, lines = candidate.cursor, candidate.text.split("\n")
    if candidate.is_known or not ("@" in candidate.text or _CLAIM.search(cursor.line_prefix + candidate.text)):
        return candidate
    around = "\n".join((*cursor.above, cursor.line_prefix, cursor.line_suffix, *cursor.below)).lower()
    state = cursor.state
    for number, line in enumerate(lines):
        before = cursor.line_prefix if not number else ""
        words = _words(cursor, line, state)
        named = [*_ADDRESS.findall(words), *(_named(words) if _CLAIM.search(before + line) else ())]
        if any(name.lower() not in around for name in named):
            length = len("\n".join(lines[:number]).rstrip())
            return candidate.cut(length) if length else Rejection("it names somebody whom nothing around it names")
        state = state_after(line + "\n", cursor.language, state)
    return candidate


def _words(cursor: Cursor, line: str, state: LexicalState) -> str:
    """What of a line is words to the language: strings and comments, and all of it where it is no code."""
    if cursor.language.block is None:
        return line
    pieces = tokens(line, cursor.language, state)
    return "\n".join(line[each.start : each.end] for each in pieces if each.kind in ("string", "comment"))


def _named(words: str) -> list[str]:
    """What may be a name, or the year of a claim."""
    found = [word.rstrip(".,'") for word in _NAME.findall(words)]
    return [word for word in found if not word[0].islower() and word.lower() not in _NO_NAMES]
