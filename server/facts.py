"""What the name under a cursor is: signature, place and documentation, each read from source, none of it guessed.

The file's own syntax tree answers first and at once. What it cannot know (other files, installed packages, types) is
asked of `references`. Knows nothing of the model.
"""

from __future__ import annotations

import builtins
import inspect
from dataclasses import dataclass, replace
from pathlib import Path

from server import javascript_names, python_bindings, python_names
from server.lm.context import Document
from server.lm.definitions import Definition, Identifier, enclosing_definition, identifier_at
from server.lm.languages import Language
from server.names import Binding
from server.references import Target, follow_import, follow_static_analysis
from server.source_file import SourceFile, line_and_column, opened, shown_path, whole_lines
from server.static_analysis import Reference, StaticAnalysis

MAX_SOURCE_CHARACTERS = 8_000  # of what a sentence is to be about; a prompt holds less
MAX_SHOWN_CHARACTERS = 400
EXPLAINED = frozenset({"function", "method", "property", "class"})
JEDI_KINDS = {"statement": "variable", "param": "parameter", "instance": "variable"}
HEADS = {"function": "def ", "method": "def ", "class": "class "}


@dataclass(frozen=True, slots=True)
class Subject:
    """A piece of code that a sentence can be about."""

    kind: str  # function, method, property, class, module or block
    name: str  # "" for a block
    path: str  # of its file, as the model is to see it
    source: str  # whole lines without the docstring, at most `MAX_SOURCE_CHARACTERS`


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one name, or of one place."""

    name: str
    kind: str  # as a reader calls it
    signature: str  # or the statement that introduces the name
    language: Language  # of the signature
    path: str  # relative to the workspace, absolute outside of it, "" when there is no file
    line: int  # 1-based; 0 without a file
    module: str  # dotted, for what has no file
    documentation: str  # docstring, or the comment above; as it is, without its marks
    start: int  # of the name that was asked for, in the document
    end: int
    subject: Subject | None  # what a sentence could be about; None for variables, parameters, imported modules


def facts_at(
    document: Document,
    offset: int,
    workspace_root: Path | None,
    analysis: StaticAnalysis | None = None,
    timeout_s: float = 0.0,
) -> Facts | None:
    """What is known of the name at `offset`; None on keywords, literals, strings, comments and unknown names.

    Waits for `analysis` at most `timeout_s`; its late answer is there the next time. Blocks: not for an event loop.
    """
    file = opened(document, offset) if 0 <= offset <= len(document.text) else None
    identifier = identifier_at(file.tree, offset) if file is not None else None
    if file is None or identifier is None:
        return None
    node = file.tree.node_at(identifier.start)
    target: Target | Reference | None = None
    if document.language.id != "python":
        binding = javascript_names.resolve(file.tree, node)
        if binding is not None and binding.kind == "import":
            target = follow_import(file, binding, document, workspace_root)
    else:
        binding = python_names.resolve(file.tree, node)
        known = built_in(identifier, document.language) if binding is None and python_names.is_plain_use(node) else None
        if known is not None:
            return known
        if (binding is None or binding.kind == "import") and analysis is not None:
            target = follow_static_analysis(file, identifier.start, document, workspace_root, analysis, timeout_s)
    if target is None and binding is not None:
        target = Target(file, binding)
    match target:
        case None:
            return None
        case Target():
            found = facts_of(target.file, target.binding)
        case Reference():
            found = _as_told(target, document.language, workspace_root)
    return replace(found, start=identifier.start, end=identifier.end)


def facts_around(document: Document, start: int, end: int) -> Facts:
    """What the code at a place is, for explaining it: `start` and `end` of the answer are those of that code.

    A bare cursor stands for the innermost function or class around it, else for the whole file. A selection stands
    for the definition that it covers, else for a block of its whole lines.
    """
    text = document.text
    start, end = sorted((min(max(start, 0), len(text)), min(max(end, 0), len(text))))
    file = opened(document, start)
    found = file.definitions[1:] if file is not None else ()
    definition: Definition | None = None
    if start == end:
        first = start + len(text[start : start + 200]) - len(text[start : start + 200].lstrip(" \t"))
        definition = enclosing_definition(found, first) or enclosing_definition(found, start)
        start, end = (start, end) if definition is not None else (0, len(text))
        kind, documentation = "module", file.definitions[0].documentation if file is not None else ""
    else:
        start, end = whole_lines(text, start, end)
        code = text[start:end]
        place = (end - len(code.lstrip()), start + len(code.rstrip()))
        definition = next((each for each in found if (each.start, each.end) == place), None)
        kind, documentation = "block", ""
    if file is not None and definition is not None:
        binding = _binding_of(file, definition)
        facts = facts_of(file, binding) if binding is not None else None
        if facts is not None and facts.subject is not None:
            return replace(facts, start=definition.start, end=definition.end)
    source = text[start : min(end, start + MAX_SOURCE_CHARACTERS)]
    if file is not None and kind == "module":
        source = source_of(file, file.definitions[0])
    name = document.path.rsplit("/", 1)[-1] if kind == "module" else ""
    line = line_and_column(text, start)[0]
    subject = Subject(kind, name, document.path, source)
    return Facts(name, kind, "", document.language, document.path, line, "", documentation, start, end, subject)


def _binding_of(file: SourceFile, definition: Definition) -> Binding | None:
    node = file.tree.node_at(definition.name_start)
    return python_bindings.binding_at(node) if file.language.id == "python" else javascript_names.binding_at(node)


def facts_of(file: SourceFile, binding: Binding) -> Facts:
    """What the file says of a binding in it; `start` and `end` are those of its name there."""
    start, end = file.tree.start(binding.identifier), file.tree.end(binding.identifier)
    definition = next((each for each in file.definitions[1:] if each.name_start == start), None)
    name = file.tree.source(binding.identifier)
    subject = None
    if definition is not None and binding.kind in EXPLAINED:
        subject = Subject(binding.kind, name, file.path, source_of(file, definition))
    return Facts(
        name=name,
        kind=binding.kind,
        signature=definition.signature if definition is not None else _introduction(file, binding),
        language=file.language,
        path=file.path,
        line=line_and_column(file.text, start)[0],
        module="",
        documentation=definition.documentation if definition is not None else "",
        start=start,
        end=end,
        subject=subject,
    )


def _introduction(file: SourceFile, binding: Binding) -> str:
    """The statement or clause that introduces a name, up to its block, on one line."""
    node = binding.statement
    block = next((child for child in node.children if child.type in ("block", "statement_block")), None)
    start, end = file.tree.start(node), file.tree.end(node) if block is None else file.tree.start(block)
    if node == binding.identifier and binding.kind in EXPLAINED:  # a definition that could not be read
        start, end = whole_lines(file.text, start, start)
    text = " ".join(file.text[start : min(end, start + 4 * MAX_SHOWN_CHARACTERS)].split()).rstrip(":{ ")
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…"


def source_of(file: SourceFile, definition: Definition) -> str:
    """The lines of a definition, less its docstring."""
    start, end = definition.start, min(definition.end, definition.start + 2 * MAX_SOURCE_CHARACTERS)
    indented = whole_lines(file.text, start, start)[0]
    start = start if file.text[indented:start].strip() else indented
    source = file.text[start:end]
    if definition.docstring_range is not None and definition.docstring_range[1] <= end:
        first, last = definition.docstring_range
        lines = whole_lines(file.text, first, last)
        # Behind a colon it shares its line with the head, and goes alone.
        if file.text[slice(*lines)].strip() == file.text[first:last]:
            first, last = max(lines[0], start), min(lines[1], end)
        source = file.text[start:first] + file.text[last:end]
    return source[:MAX_SOURCE_CHARACTERS]


def built_in(identifier: Identifier, language: Language) -> Facts | None:
    """A function or class that Python itself brings along, described by the running interpreter."""
    name = identifier.name
    value = getattr(builtins, name, None)
    if name.startswith("_") or not (inspect.isbuiltin(value) or inspect.isclass(value)):
        return None
    kind = "class" if inspect.isclass(value) else "function"
    try:
        parameters = str(inspect.signature(value))
    except (ValueError, TypeError):
        parameters = "" if kind == "class" else "(...)"
    signature, documentation = f"{HEADS[kind]}{name}{parameters}", inspect.getdoc(value) or ""
    place = (identifier.start, identifier.end)
    return Facts(name, kind, signature, language, "", 0, "builtins", documentation, *place, None)


def _as_told(reference: Reference, language: Language, workspace_root: Path | None) -> Facts:
    """Facts in jedi's words: of modules, and of what is built in or known from a stub alone."""
    kind = JEDI_KINDS.get(reference.kind, reference.kind)
    return Facts(
        name=reference.name,
        kind=kind,
        signature="\n".join(HEADS.get(kind, "") + signature for signature in reference.signatures),
        language=language,
        path="" if reference.path is None else shown_path(reference.path, workspace_root),
        line=reference.line,
        module=reference.module,
        documentation=reference.docstring,
        start=0,
        end=0,
        subject=None,
    )
