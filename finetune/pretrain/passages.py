"""What a file offers for practice beside its text: sentences on its definitions, and definitions that others use.

Reads Python through `ast`, JavaScript and TypeScript through tree-sitter; a file that does not parse offers nothing.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from finetune.pretrain.first_sentence import first_sentence
from finetune.pretrain.javascript_passages import documented_definitions
from server.lm.context import Snippet

WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]{3,}")
MAX_SNIPPET_LINES = 24

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class _File(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Explained:
    """Source without its docstring, and the docstring's first sentence."""

    path: str
    kind: str  # "function", "class", "module" or "block"
    name: str
    source: str
    sentence: str


def explained_passages(path: str, text: str) -> list[Explained]:
    """Functions, classes and the module with an English docstring, and blocks below a comment of one sentence."""
    if not path.endswith(".py"):
        return [Explained(path, *found) for found in documented_definitions(path, text)]
    tree = parse(text)
    if tree is None:
        return []
    lines = text.split("\n")
    found: list[Explained] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        docstring = ast.get_docstring(node, clean=True)
        sentence = first_sentence(docstring) if docstring else None
        if sentence is None:
            continue
        source = _without_docstring(node, lines)
        if source.count("\n") < 1:
            continue
        kind = "module" if isinstance(node, ast.Module) else "class" if isinstance(node, ast.ClassDef) else "function"
        name = path.rsplit("/", 1)[-1] if isinstance(node, ast.Module) else node.name
        found.append(Explained(path, kind, name, source, sentence))
    return found + list(_commented_blocks(path, lines))


def _without_docstring(node: ast.Module | Definition, lines: Sequence[str]) -> str:
    """The source lines of `node` less its docstring, dedented."""
    docstring = node.body[0]
    first = 0 if isinstance(node, ast.Module) else _first_line(node) - 1
    last = len(lines) if isinstance(node, ast.Module) else (node.end_lineno or node.lineno)
    kept = [*lines[first : docstring.lineno - 1], *lines[docstring.end_lineno or docstring.lineno : last]]
    return textwrap.dedent("\n".join(kept)).strip("\n")


def _commented_blocks(path: str, lines: Sequence[str]) -> Iterator[Explained]:
    """Runs of at least three lines below a comment that reads as a sentence."""
    for at, line in enumerate(lines):
        comment = line.strip()
        if not comment.startswith("# ") or not comment.endswith(".") or len(comment.split()) < 5:
            continue
        if at and lines[at - 1].strip().startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        block: list[str] = []
        for below in lines[at + 1 : at + 13]:
            if not below.strip() or below.strip().startswith("#") or len(below) - len(below.lstrip()) < indent:
                break
            block.append(below)
        sentence = first_sentence(comment[2:])
        if len(block) >= 3 and sentence is not None:
            yield Explained(path, "block", "", textwrap.dedent("\n".join(block)), sentence)


@dataclass(frozen=True, slots=True)
class Library:
    """The definitions of one package by name, where a name is defined once."""

    definitions: dict[str, Snippet]

    @classmethod
    def of(cls, files: Sequence[_File]) -> Library:
        """The functions and classes at the top of files, and the methods of those classes."""
        found: dict[str, Snippet | None] = {}
        for file in files:
            tree = parse(file.text) if file.path.endswith(".py") else None
            lines = file.text.split("\n") if tree else []
            for node in tree.body if tree else []:
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    continue
                for definition in (node, *(node.body if isinstance(node, ast.ClassDef) else ())):
                    if isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                        name = definition.name
                        found[name] = None if name in found else _snippet(file.path, definition, lines)
        return cls({name: snippet for name, snippet in found.items() if snippet and len(name) > 3})

    def used_in(self, text: str, path: str) -> list[Snippet]:
        """Snippets of other files whose name stands in `text`, without repetition."""
        names = dict.fromkeys(WORD.findall(text))
        snippets = [self.definitions[name] for name in names if name in self.definitions]
        return [snippet for snippet in dict.fromkeys(snippets) if snippet.path != path]


def _snippet(path: str, node: Definition, lines: Sequence[str]) -> Snippet:
    first = _first_line(node) - 1
    last = min(node.end_lineno or node.lineno, first + MAX_SNIPPET_LINES)
    return Snippet(path, textwrap.dedent("\n".join(lines[first:last])))


def _first_line(node: Definition) -> int:
    """The 1-based line of a definition, decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def parse(text: str) -> ast.Module | None:
    """The syntax tree of a Python text; None where it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
