"""What stands around the cursor: a document, an offset, and the text that a prompt is built from.

Pure text, no tokens: budgets belong to `prompt`. Knows nothing of editors or the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.lm.languages import Language

# What an auto-closing editor puts behind the cursor, and what says nothing about the code that follows. A rest of the
# line made of these alone stays out of the suffix: otherwise 5 % of all keys would change the start of the prompt.
INSIGNIFICANT_REST = frozenset(")]}>'\"`,;: \t\r")


@dataclass(frozen=True, slots=True)
class Document:
    """An immutable snapshot of one text."""

    uri: str
    path: str  # relative to the workspace where there is one, parts separated by "/"
    language: Language
    text: str


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of another file that is shown to the model before the file itself."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """The text of a prompt, with line breaks as `\\n`, uncut."""

    path: str
    prefix: str
    suffix: str
    snippets: tuple[Snippet, ...] = ()


# Characters on either side of the cursor that can matter: eight per token of the largest window, rounded up.
MAX_PREFIX_CHARACTERS = 16_384
MAX_SUFFIX_CHARACTERS = 4_096
EDGE_STEP = 1_024


def context_at(document: Document, offset: int, snippets: tuple[Snippet, ...] = (), inserted: str = "") -> Context:
    """Path, prefix and suffix for a cursor at `offset`, a `str` index that is clamped to the text.

    `inserted` is text taken as typed at the cursor already. The prefix starts at a multiple of `EDGE_STEP`
    characters, so that its start stays where it is while the user types.
    """
    offset = min(max(offset, 0), len(document.text))
    if document.text[max(offset - 1, 0) : offset + 1] == "\r\n":
        offset -= 1  # inside a line break is before it
    start = -(-max(offset - MAX_PREFIX_CHARACTERS, 0) // EDGE_STEP) * EDGE_STEP
    prefix = document.text[start:offset] + inserted
    suffix = significant_suffix(unix_lines(document.text[offset : offset + MAX_SUFFIX_CHARACTERS]))
    return Context(document.path, unix_lines(prefix), suffix, snippets)


def significant_suffix(suffix: str) -> str:
    """The text after the cursor that the model is shown: from the next line break, unless the rest of the line counts.

    Empty when nothing but blanks follows.
    """
    end = suffix.find("\n")
    rest = suffix if end < 0 else suffix[:end]
    if all(character in INSIGNIFICANT_REST for character in rest):
        suffix = "" if end < 0 else suffix[end:]
    return suffix if suffix.strip() else ""


def unix_lines(text: str) -> str:
    """`text` with every line break as `\\n`, the only one that the model knows."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
