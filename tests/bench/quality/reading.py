"""The names, comments and imports of a source text, as tree-sitter sees them; and a language's own names.

Shares no code with the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tree_sitter

WORD = re.compile(r"[^\W\d][\w$]*|\$[\w$]*")

_QUERIES = {
    "python": """
        (identifier) @name
        (comment) @comment
        (import_statement) @import (import_from_statement) @import (future_import_statement) @import
    """,
    "typescript": """
        (identifier) @name (property_identifier) @name (type_identifier) @name
        (shorthand_property_identifier) @name (shorthand_property_identifier_pattern) @name
        (comment) @comment
        (import_statement) @import (export_statement source: (string)) @import
    """,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands where; offsets into the text."""

    names: tuple[tuple[int, str], ...]  # in the order of the text
    comments: tuple[tuple[int, int], ...]
    imports: tuple[tuple[int, int], ...]

    def is_code(self, start: int, end: int) -> bool:
        """Whether what stands from `start` to `end` begins in no comment and touches no import."""
        in_comment = any(first <= start < last for first, last in self.comments)
        return not in_comment and not any(first < end and start < last for first, last in self.imports)

    def code_end(self, start: int, end: int) -> int:
        """Where the code of a line that spans `start` to `end` ends: before its comment, if it has one."""
        return min((first for first, _ in self.comments if start <= first < end), default=end)


def read(text: str, language_id: str) -> Reading:
    """The names, comments and imports of a text."""
    from tree_sitter import QueryCursor

    parser, query = _grammar(language_id)
    content = text.encode("utf-8", "replace")
    found = QueryCursor(query).captures(parser.parse(content).root_node)
    offset = _offsets(text)

    def spans(kind: str) -> tuple[tuple[int, int], ...]:
        return tuple(sorted((offset(node.start_byte), offset(node.end_byte)) for node in found.get(kind, ())))

    return Reading(tuple((start, text[start:end]) for start, end in spans("name")), spans("comment"), spans("import"))


def _offsets(text: str) -> Callable[[int], int]:
    """What turns places in UTF-8 bytes into places in the text."""
    if text.isascii():
        return lambda byte: byte
    index = [at for at, character in enumerate(text) for _ in character.encode("utf-8", "replace")]
    index.append(len(text))
    return index.__getitem__


@lru_cache
def _grammar(language_id: str) -> tuple[tree_sitter.Parser, tree_sitter.Query]:
    import tree_sitter
    import tree_sitter_python
    import tree_sitter_typescript

    made = {"python": tree_sitter_python.language, "typescript": tree_sitter_typescript.language_typescript}
    language = tree_sitter.Language(made[language_id]())
    return tree_sitter.Parser(language), tree_sitter.Query(language, _QUERIES[language_id])


def python_names() -> frozenset[str]:
    """The words of Python's builtins and standard library, read from the stubs that come with the type checker.

    Not from the interpreter: the cases shall be the same under every version of it.
    """
    import mypy

    folder = Path(mypy.__file__).parent / "typeshed" / "stdlib"
    return _words((path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.pyi"))), r"#[^\n]*")


def typescript_names(declarations: Path) -> frozenset[str]:
    """The words of JavaScript's own library and of the browser's, read from TypeScript's declarations of them."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(declarations.glob("lib*.d.ts")))
    return _words(texts, r"/\*.*?\*/|//[^\n]*")


def _words(texts: Iterable[str], comment: str) -> frozenset[str]:
    comments = re.compile(comment, re.DOTALL)
    return frozenset(word for text in texts for word in WORD.findall(comments.sub(" ", text)))
