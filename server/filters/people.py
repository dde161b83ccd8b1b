"""Names of people and firms: what a model remembers of licences and author lines is nobody's business here."""

from __future__ import annotations

import re

from server.filters.candidate import Candidate, Rejection
from server.lm.cursor import Cursor
from server.lm.lexing import LexicalState, state_after, tokens

# What a name stands behind, and where any word in capitals may be one.
_CLAIM = re.compile(
    r"copyright|\u00a9|\(c\)\s*\d{4}|@author|__(?:author|maintainer|credits)|(?:written|created|maintained) by",
    re.IGNORECASE,
)
# What much else stands behind as well: a name has two words there.
_FIELD = re.compile(r"(?<![a-z])(?:authors?|maintainers?|contact|e-?mail|holder)\w*[\"'\]\s]*[:=]", re.IGNORECASE)
_NAME = re.compile(r"[^\W\d_][\w.'-]*[\w']|\d{4}")
_TWO_WORDS = re.compile(r"[^\W\d_a-z][\w'-]*[a-z][\w'-]* [^\W\d_a-z][\w'-]*[a-z]")
_NO_NAMES = frozenset("copyright author authors all rights reserved the and by inc contributors".split())
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b")
_NOBODY = re.compile(r"(?:git|user|root|noreply)@|.*@(?:[\w.-]*\.)?(?:example\.\w+|openssh\.com|localhost)$")


def people(candidate: Candidate) -> Candidate | Rejection:
    """The lines before the first that names somebody as author or holder, or writes to them, who is not named around.

    A text of the repository itself may name whom it likes.
    """
    cursor, lines = candidate.cursor, candidate.text.split("\n")
    whole = cursor.line_prefix + candidate.text
    if candidate.is_known or not ("@" in candidate.text or _CLAIM.search(whole) or _FIELD.search(whole)):
        return candidate
    around = "\n".join((*cursor.above, cursor.line_prefix, cursor.line_suffix, *cursor.below)).lower()
    state = cursor.state
    for number, line in enumerate(lines):
        before = cursor.line_prefix if not number else ""
        words = _words(cursor, line, state)
        if any(name.lower() not in around for name in _named(before + line, words)):
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


def _named(line: str, words: str) -> list[str]:
    """Whom the words of a line may name, and the years of a claim."""
    found = [address for address in _ADDRESS.findall(words) if not _NOBODY.match(address)]
    if _CLAIM.search(line) or (_FIELD.search(line) and _TWO_WORDS.search(words)):
        found += _NAME.findall(words)
    return [name for name in found if "@" in name or not _is_common(name)]


def _is_common(word: str) -> bool:
    """Whether a word names nobody: a small one, one of the claim itself, or one that a licence shouts."""
    return word[0].islower() or word.lower() in _NO_NAMES or (len(word) > 1 and word.isupper())
