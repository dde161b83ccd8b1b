"""Syntax trees by tree-sitter: parsing within bounds, counting errors, and whether a block is still empty.

The grammars load at their first use; a missing wheel means no tree, never an error. Texts of more than `MAX_PARSED`
characters are parsed in a window around a place only, and a parse that takes longer than its limit gives no tree.
"""

from __future__ import annotations

import importlib
import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from server.lm.cursor import Cursor, indentation
from server.lm.languages import Language

if TYPE_CHECKING:
    from tree_sitter import Language as Grammar
    from tree_sitter import Node as Node
    from tree_sitter import Point

MAX_PARSED = 200_000
# A file of 200,000 characters takes some 40 ms; what takes much longer is no source code.
PARSE_LIMIT_MS = 500
_READ_BYTES = 65_536

_BODIES = frozenset({"statement_block", "class_body", "interface_body", "object_type", "enum_body", "switch_body"})
_DOCUMENTED = frozenset({"function_definition", "class_definition"})
_BODY_LINES = 400  # looked at around a cursor to see whether its block is empty


@dataclass(frozen=True, slots=True)
class SyntaxTree:
    """A parsed text, or a window of one. Offsets are `str` indices into the whole text."""

    root: Node
    window_start: int
    window: str
    _data: bytes
    _marks: tuple[tuple[int, ...], tuple[int, ...]]  # bytes and characters at which stretches of ASCII and not meet

    def start(self, node: Node) -> int:
        """Offset of the first character of `node`."""
        return self._offset(node.start_byte)

    def end(self, node: Node) -> int:
        """Offset after the last character of `node`."""
        return self._offset(node.end_byte)

    def source(self, node: Node) -> str:
        """The text of `node`."""
        return self.window[self.start(node) - self.window_start : self.end(node) - self.window_start]

    def node_at(self, offset: int) -> Node:
        """The smallest node over the character at `offset`; the root when there is none."""
        byte = self._byte(offset)
        return self.root.descendant_for_byte_range(byte, min(byte + 1, len(self._data))) or self.root

    def _offset(self, byte: int) -> int:
        if len(self._data) == len(self.window):
            return self.window_start + byte
        in_bytes, in_characters = self._marks
        i = bisect_right(in_bytes, byte) - 1
        return self.window_start + in_characters[i] + len(self._data[in_bytes[i] : byte].decode("utf-8", "ignore"))

    def _byte(self, offset: int) -> int:
        in_bytes, in_characters = self._marks
        place = min(max(offset - self.window_start, 0), len(self.window))
        i = bisect_right(in_characters, place) - 1
        return in_bytes[i] + len(self.window[in_characters[i] : place].encode())


def parse(text: str, language: Language, around: int = 0, limit_ms: float = PARSE_LIMIT_MS) -> SyntaxTree | None:
    """The tree of `text`, of whole lines around the offset `around` when it is long.

    None without a grammar, or when parsing took longer than `limit_ms`.
    """
    grammar = _grammar(language.grammar) if language.grammar else None
    if grammar is None:
        return None
    start, end = _window(text, around)
    # What no grammar can read stands for one character still.
    window = text[start:end].encode("utf-8", "replace").decode().replace("\0", " ")
    data = window.encode()
    root = _parse_within(data, grammar, limit_ms)
    return SyntaxTree(root, start, window, data, _marks(window)) if root is not None else None


def n_errors(text: str, language: Language, limit_ms: float = PARSE_LIMIT_MS) -> int | None:
    """How many places of `text` the grammar cannot read or finds something missing at; None without a tree."""
    tree = parse(text, language, limit_ms=limit_ms)
    return None if tree is None else sum(1 for _ in _errors(tree.root))


def is_empty_block(cursor: Cursor) -> bool:
    """Whether the cursor stands on a blank line of a block that is open and has no code yet.

    A docstring and comments are not code. In languages with braces the block must have its closing brace.
    False where no grammar is at hand.
    """
    if not cursor.is_blank_line or cursor.is_overlong or cursor.state.in_string or cursor.state.in_comment:
        return False
    above = "".join(f"{line}\n" for line in cursor.above[-_BODY_LINES:])
    below = "".join(f"\n{line}" for line in cursor.below[:_BODY_LINES])
    if cursor.language.block == "indent":
        return _may_open_block(above) and _is_alone_in_block(above, cursor, below)
    # Between the braces only blanks and comments may stand.
    if cursor.language.block != "braces" or not re.search(r"(?:\{|//.*|\*/)\s*$", above):
        return False
    tree = parse(f"{above}{below}", cursor.language, len(above))
    if tree is None:
        return False
    node = tree.node_at(len(above))
    return node.type in _BODIES and all(child.type == "comment" for child in node.named_children)


def _may_open_block(above: str) -> bool:
    """Whether the last line can be a block's header, a docstring's end or a comment: cheap, and rarely wrong."""
    return re.search(r"(?:[:\"']|#.*)\s*$", above) is not None


def _is_alone_in_block(above: str, cursor: Cursor, below: str) -> bool:
    """Whether a statement at the cursor would be the only one in an indented block."""
    blanks = indentation(cursor.line_prefix)
    tree = parse(f"{above}{blanks}pass{below}", cursor.language, len(above))
    statement = tree.node_at(len(above) + len(blanks)).parent if tree else None
    if statement is None or statement.type != "pass_statement" or statement.parent is None:
        return False
    block = statement.parent
    others = [child for child in block.named_children if child != statement and child.type != "comment"]
    if block.parent is not None and block.parent.type in _DOCUMENTED:
        others = others[1:] if others and is_docstring(others[0]) else others
    return block.type == "block" and not others


def is_docstring(statement: Node) -> bool:
    """Whether a Python statement is a string and nothing else."""
    children = statement.named_children
    return statement.type == "expression_statement" and len(children) == 1 and children[0].type == "string"


def walk(root: Node, into: frozenset[str] | None = None) -> Iterator[Node]:
    """The nodes below `root` in the order of the text; `into` names the types that are entered, all when None."""
    pending = list(reversed(root.children))
    while pending:
        node = pending.pop()
        yield node
        if into is None or node.type in into:
            pending.extend(reversed(node.children))


def _errors(root: Node) -> Iterator[Node]:
    pending = [root]
    while pending:
        node = pending.pop()
        if node.is_error or node.is_missing:
            yield node
        if node.has_error:
            pending.extend(node.children)


@cache
def _grammar(name: str) -> Grammar | None:
    """The grammar that "module:function" names, or None when its wheel is not installed."""
    module_name, _, function = name.partition(":")
    try:
        from tree_sitter import Language as Grammar

        return Grammar(getattr(importlib.import_module(module_name), function)())
    except ImportError:
        return None


def _parse_within(data: bytes, grammar: Grammar, limit_ms: float) -> Node | None:
    from tree_sitter import Parser

    end = time.monotonic() + limit_ms / 1000

    def read(byte: int, _point: Point) -> bytes:
        return data[byte : byte + _READ_BYTES]

    def is_late(_byte: int, _has_error: bool) -> bool:
        return time.monotonic() > end

    try:
        return Parser(grammar).parse(read, progress_callback=is_late).root_node
    except ValueError:  # the limit has passed
        return None


def _window(text: str, around: int) -> tuple[int, int]:
    """Where the part of `text` to be parsed starts and ends; at line breaks where there are some."""
    if len(text) <= MAX_PARSED:
        return 0, len(text)
    start = min(max(around - MAX_PARSED // 2, 0), len(text) - MAX_PARSED)
    end = start + MAX_PARSED
    first = text.find("\n", start, end) + 1 if start else 0
    last = text.rfind("\n", start, end) + 1 if end < len(text) else end
    return (first or start, last or end) if first <= around <= (last or end) else (start, end)


def _marks(window: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    in_bytes, in_characters, n_bytes = [0], [0], 0
    if not window.isascii():
        for match in re.finditer(r"[^\x00-\x7f]+", window):
            first = n_bytes + match.start() - in_characters[-1]
            n_bytes = first + len(match[0].encode())
            in_bytes += [first, n_bytes]
            in_characters += [match.start(), match.end()]
    return tuple(in_bytes), tuple(in_characters)
