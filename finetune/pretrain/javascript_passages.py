"""Sentences on JavaScript and TypeScript definitions, out of the JSDoc comments above them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from finetune.pretrain.first_sentence import first_sentence
from server.lm import syntax
from server.lm.languages import language_of_path

KINDS = {
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "function_signature": "function",
    "method_definition": "function",
    "lexical_declaration": "function",
    "variable_declaration": "function",
    "public_field_definition": "function",
    "class_declaration": "class",
    "abstract_class_declaration": "class",
    "interface_declaration": "class",
    "type_alias_declaration": "class",
    "enum_declaration": "class",
}
PARSE_LIMIT_MS = 10_000  # far beyond what any file takes: what is learned must not hang on the machine
_LINK = re.compile(r"\{@\w+\s+([^}|]*)[^}]*\}")
_FRAME = re.compile(r"^\s*\*? ?", re.MULTILINE)


def documented_definitions(path: str, text: str) -> Iterator[tuple[str, str, str, str]]:
    """(kind, name, source without the comment, sentence) of every definition of two lines and more below a comment."""
    language = language_of_path(path)
    tree = None if language is None else syntax.parse(text, language, limit_ms=PARSE_LIMIT_MS)
    if tree is None:
        return
    for node in syntax.walk(tree.root):
        below = node.next_named_sibling
        if node.type != "comment" or below is None:
            continue
        comment = tree.source(node)
        if not comment.startswith("/**"):
            continue
        sentence = first_sentence(_described(comment))
        named = below.child_by_field_name("declaration") or below
        kind = KINDS.get(named.type)
        if kind is None or sentence is None:
            continue
        start = text.rfind("\n", 0, tree.start(below)) + 1
        source = textwrap.dedent(text[start : tree.end(below)])
        if "\n" in source:
            name = named.child_by_field_name("name")
            yield kind, "" if name is None else tree.source(name), source, sentence


def _described(comment: str) -> str:
    """What a comment says before its first tag."""
    inner = _FRAME.sub("", comment.removeprefix("/**").removesuffix("*/"))
    return re.split(r"^@", _LINK.sub(r"\1", inner), maxsplit=1, flags=re.MULTILINE)[0]
