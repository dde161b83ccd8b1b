"""The first sentence of a docstring or a comment, where it is one."""

from __future__ import annotations

import re

# A full stop that no abbreviation ends with: "e.g. ", "i.e. ", "etc. and" go on.
SENTENCE_END = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\bresp)(?<!\betc(?=\. [a-z]))(?<=[a-z0-9)`'\"])\.(?:\s|$)"
)
MIN_WORDS, MAX_WORDS = 3, 30
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def first_sentence(docstring: str) -> str | None:
    """The first sentence of a docstring as one line with a capital and a full stop; None when it is no such thing."""
    paragraph = docstring.strip().split("\n\n")[0]
    if paragraph.startswith((":", "@", ">>>", "-", "*", "=", "#", "..", "TODO")) or "\n---" in paragraph:
        return None
    flat = " ".join(paragraph.split())
    end = SENTENCE_END.search(flat)
    sentence = flat[: end.start()] if end else flat.rstrip(" :;.,!")
    words = sentence.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or not sentence.isascii() or sentence[0] not in _LETTERS:
        return None
    if sum(character.isalpha() or character == " " for character in sentence) < 0.8 * len(sentence):
        return None
    return sentence[0].upper() + sentence[1:] + "."
