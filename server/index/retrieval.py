"""Pieces of other files for the prompt: definitions of names that the document imports and uses near the cursor, and
the window that is most like the lines above.

They stand in the prompt's snippet slots, before the document, definitions in the order of the imports, so that typing
does not move them and the KV cache survives. Reads one segment; knows nothing of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Set

from server.index.segment import Segment
from server.index.similar import similar_window
from server.lm.context import Document, Snippet

MAX_SNIPPETS = 2
MAX_LINES = 16  # of one definition
NEAR_CHARACTERS = 2_000  # before the cursor in which a name has to be used
MAX_HEAD = 8_000  # characters of the document in which imports are looked for
MAX_DEFINITION_BYTES = 2_000
# Of the words' weight that a window has to hold. At 663 cursors of the tuning packages with the index, windows of any
# share took one exact match away, those from 0.2 on added two, from 0.3 on took one: the best there is, and chance.
MIN_SHARE = 0.2

_IMPORT = re.compile(r"^[ \t]*from[ \t]+[\w.]+[ \t]+import[ \t]+(\([^)]*\)|[^\n(]*)", re.MULTILINE)
_SCRIPT_IMPORT = re.compile(r"^import[ \t]+(?:type[ \t]+)?\{([^}]*)\}[ \t]*from", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_]\w{2,}")
_HEADS = (b"def ", b"class ", b"function ", b"interface ")


def imported_names(text: str) -> list[str]:
    """The names that `from x import a, b` and `import { a, b } from` bring, in their order."""
    head = text[:MAX_HEAD]
    found = [match.group(1) for pattern in (_IMPORT, _SCRIPT_IMPORT) for match in pattern.finditer(head)]
    return list(dict.fromkeys(name for each in found for name in _NAME.findall(each)))


def snippets_for(
    document: Document, offset: int, segment: Segment, gone: Set[str] = frozenset()
) -> tuple[Snippet, ...]:
    """At most `MAX_SNIPPETS` pieces of other files, those `gone` left out: definitions, then a window that is alike."""
    near = set(_NAME.findall(document.text[max(offset - NEAR_CHARACTERS, 0) : offset]))
    besides = gone | {document.path}
    found: list[Snippet] = []
    for name in imported_names(document.text):
        if len(found) == MAX_SNIPPETS:
            break
        if name in near and (snippet := definition_of(name, segment, besides)) is not None:
            found.append(snippet)
    if len(found) < MAX_SNIPPETS:
        window = similar_window(document, offset, segment, gone)
        if window is not None and window.share >= MIN_SHARE:
            found.append(window.snippet)
    return tuple(found)


def definition_of(name: str, segment: Segment, besides: Set[str]) -> Snippet | None:
    """The head of the one definition of `name` outside the files `besides`; None where there is none, or several."""
    places = []
    for head in _HEADS:
        for ending in (b"(", b":", b" "):
            pattern = head + name.encode() + ending
            match = segment.agreeing(pattern, len(pattern))
            places += [place - len(pattern) for place in segment.places(match, 4)]
    others = [place for place in places if segment.paths[segment.file_at(place)] not in besides]
    if len(others) != 1:
        return None
    number = segment.file_at(others[0])
    lines = segment.following(others[0], MAX_DEFINITION_BYTES).decode("utf-8", "ignore").split("\n")
    block = [lines[0]]
    for line in lines[1:MAX_LINES]:
        if line and not line[0].isspace() and not line.startswith((")", "}", "]")):
            break
        block.append(line)
    return Snippet(segment.paths[number], "\n".join(block).rstrip())
