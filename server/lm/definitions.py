"""What a file defines: names, kinds, signatures and documentation, read from its syntax tree.

One pass over the statements; expressions are not entered. A file that does not parse gives what can still be read.
Knows nothing of imports or of other files.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from server.lm.languages import Language
from server.lm.lexing import without_comments
from server.lm.syntax import SyntaxTree, is_docstring

if TYPE_CHECKING:
    from server.lm.syntax import Node

Kind = Literal["module", "class", "type", "function", "method", "constant"]

_KINDS: dict[str, Kind] = {
    "function_definition": "function",
    "class_definition": "class",
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "function_signature": "function",
    "class_declaration": "class",
    "abstract_class_declaration": "class",
    "method_definition": "method",
    "method_signature": "method",
    "abstract_method_signature": "method",
    "interface_declaration": "type",
    "type_alias_declaration": "type",
    "enum_declaration": "type",
    "internal_module": "module",
    # A value is a function when it is one, else a constant.
    "assignment": "constant",
    "variable_declarator": "constant",
    "field_definition": "constant",
    "public_field_definition": "constant",
}
_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function"})
_STATEMENTS = frozenset(
    "module program ERROR block statement_block class_body interface_body object_type decorated_definition "
    "expression_statement export_statement lexical_declaration variable_declaration ambient_declaration "
    "if_statement elif_clause else_clause for_statement while_statement with_statement try_statement except_clause "
    "finally_clause match_statement case_clause function_definition class_definition".split()
)
_WRAPPERS = frozenset(
    "decorated_definition expression_statement export_statement ambient_declaration lexical_declaration "
    "variable_declaration".split()
)
_NAMES = frozenset(
    "identifier property_identifier type_identifier shorthand_property_identifier private_property_identifier "
    "shorthand_property_identifier_pattern statement_identifier".split()
)
_MAX_COMMENT, _MAX_LINE = 8_000, 400  # characters of a comment above a definition, and of one line of it
_DIRECTIVE = re.compile(r"!|-\*-|noqa|type:|pylint|pragma|fmt:|isort|mypy|ruff|eslint|prettier|@ts-|#(?:end)?region")
MAX_SIGNATURE = 400  # characters; a longer one is cut


@dataclass(frozen=True, slots=True)
class Definition:
    """One named thing that a file defines. Offsets are `str` indices into the file's text."""

    name: str  # "" for the file itself
    kind: Kind
    parents: tuple[str, ...]  # names of the definitions around it, outermost first
    start: int  # with decorators and `export`
    end: int
    name_start: int
    name_end: int
    scope: tuple[int, int]  # where the definition around it starts and ends
    signature: str  # on one line, without decorators, body and comments; "" for the file itself
    documentation: str  # the docstring, or else the comment right above; "" without either
    docstring_range: tuple[int, int] | None  # where the docstring statement stands in the text

    @property
    def qualified_name(self) -> str:
        return ".".join((*self.parents, self.name))


@dataclass(frozen=True, slots=True)
class Identifier:
    """A name in a text, and the dotted expression that it ends: `self.model.load` for `load`."""

    name: str
    start: int
    end: int
    dotted: str


def definitions(tree: SyntaxTree, language: Language) -> tuple[Definition, ...]:
    """All that the file defines, in the order of the text; the first stands for the file itself.

    Names assigned inside a function are left out.
    """
    start, end = tree.start(tree.root), tree.end(tree.root)
    docstring = _docstring(tree.root)
    file = Definition(
        *("", "module", (), start, end, start, start, (start, end), ""),
        *(_documentation(tree, None, docstring, language), _range(tree, docstring)),
    )
    return (file, *_below(tree, tree.root, file, language))


def enclosing_definition(found: Sequence[Definition], offset: int) -> Definition | None:
    """The innermost class or function around `offset`; None at the top level of the file."""
    around = [d for d in found if d.start <= offset < d.end and d.kind not in ("module", "constant")]
    return max(around, key=lambda d: d.start, default=None)


def identifier_at(tree: SyntaxTree, offset: int) -> Identifier | None:
    """The name under or right before `offset`; None on anything else, so in strings and comments too."""
    for place in (offset, offset - 1):
        if place < tree.window_start:
            continue
        node = tree.node_at(place)
        if node.type in _NAMES:
            dotted = tree.window[: tree.end(node) - tree.window_start]
            before = re.search(r"(?:[\w$]+\s*\??\.\s*)*[\w$#]+\Z", dotted[-1000:])
            name = tree.source(node)
            whole = re.sub(r"[\s?]", "", before[0]) if before else name
            return Identifier(name, tree.start(node), tree.end(node), whole)
    return None


def find_definition(found: Sequence[Definition], identifier: Identifier, offset: int) -> Definition | None:
    """What a name used at `offset` refers to, as far as this file alone can say.

    A plain name is looked up in the scopes around it, `self.x` and `this.x` in the class around it, and `C.x` in C.
    """
    named = [d for d in found if d.name == identifier.name and d.kind != "module"]
    here = next((d for d in named if d.name_start == identifier.start), None)
    if here is not None:
        return here
    *owners, _ = identifier.dotted.split(".")
    if owners in (["self"], ["cls"], ["this"]):
        classes = [d for d in found if d.kind == "class" and d.start <= offset < d.end]
        owner = max(classes, key=lambda d: d.start, default=None)
        return next((d for d in named if owner and d.parents == (*owner.parents, owner.name)), None)
    if owners:
        return next((d for d in named if d.parents[-1:] == (owners[-1],)), None)
    # A class's own names are not seen from its methods by their plain name.
    bodies = {(d.start, d.end) for d in found if d.kind in ("class", "type")}
    visible = [d for d in named if d.scope[0] <= offset <= d.scope[1] and d.scope not in bodies]
    return max(visible, key=lambda d: d.scope[0], default=None)


def _below(tree: SyntaxTree, root: Node, around: Definition, language: Language) -> Iterator[Definition]:
    """Definitions inside `root`, whose own definition is `around`."""
    pending: list[tuple[Node, Node | None, Definition]] = [(child, None, around) for child in reversed(root.children)]
    while pending:
        node, wrapper, owner = pending.pop()
        made = _definition(tree, node, wrapper or node, owner, language) if node.type in _KINDS else None
        if made is not None:
            yield made
            body = _body(node)
            pending.extend((child, None, made) for child in reversed(body.children if body else ()))
        elif node.type in _STATEMENTS:
            # Decorators, `export` and `const` belong to what they introduce.
            outer = (wrapper or node) if node.type in _WRAPPERS else None
            pending.extend((child, outer, owner) for child in reversed(node.children))


def _definition(tree: SyntaxTree, node: Node, whole: Node, owner: Definition, language: Language) -> Definition | None:
    kind = _KINDS[node.type]
    name = node.child_by_field_name("name") or node.child_by_field_name("left") or node.child_by_field_name("property")
    if name is None or name.type not in _NAMES:
        return None
    value = node.child_by_field_name("value") or node.child_by_field_name("right")
    if kind == "constant" and value is not None and value.type in _FUNCTIONS:
        kind = "method" if node.type.endswith("field_definition") else "function"
    if kind == "constant" and owner.kind in ("function", "method"):
        return None
    if kind == "function" and owner.kind == "class":
        kind = "method"
    docstring = _docstring(_body(node)) if language.id == "python" and kind != "constant" else None
    inside = (*owner.parents, owner.name) if owner.name else owner.parents
    return Definition(
        name=tree.source(name),
        kind=kind,
        parents=inside,
        start=tree.start(whole),
        end=tree.end(whole),
        name_start=tree.start(name),
        name_end=tree.end(name),
        scope=(owner.start, owner.end),
        signature=_signature(tree, node, whole, language),
        documentation=_documentation(tree, whole, docstring, language),
        docstring_range=_range(tree, docstring),
    )


def _body(node: Node) -> Node | None:
    """The block of a definition; for a name that is given a function, that function's block."""
    value = node.child_by_field_name("value")
    if value is not None and value.type in _FUNCTIONS:
        node = value
    return node.child_by_field_name("body")


def _signature(tree: SyntaxTree, node: Node, whole: Node, language: Language) -> str:
    body = _body(node)
    # `const f = ...` is told with its keyword, a decorated function without its decorators.
    first = tree.start(node if whole.type == "decorated_definition" else whole)
    last = tree.end(node) if body is None else tree.start(body)
    text = tree.window[first - tree.window_start : last - tree.window_start][: 4 * MAX_SIGNATURE]
    line = re.sub(r"\s+", " ", without_comments(text, language)).strip()
    line = re.sub(r",? ([)\]])", r"\1", re.sub(r"([(\[]) ", r"\1", line))
    line = line.removesuffix("=>").rstrip(" :{") if body is not None else line.rstrip(" ;,")
    return line if len(line) <= MAX_SIGNATURE else line[: MAX_SIGNATURE - 1] + "…"


def _docstring(body: Node | None) -> Node | None:
    """The statement of a Python body that is its docstring."""
    first = next((child for child in body.named_children if child.type != "comment"), None) if body else None
    return first if first is not None and is_docstring(first) else None


def _range(tree: SyntaxTree, node: Node | None) -> tuple[int, int] | None:
    return None if node is None else (tree.start(node), tree.end(node))


def _documentation(tree: SyntaxTree, whole: Node | None, docstring: Node | None, language: Language) -> str:
    if docstring is not None:
        literal = re.fullmatch(r"[rRuU]?(\"{3}|'{3}|[\"'])(.*)\1", tree.source(docstring), re.DOTALL)
        return inspect.cleandoc(literal[2]).strip() if literal else ""
    return _comment_above(tree, whole, language) if whole is not None else ""


def _comment_above(tree: SyntaxTree, node: Node, language: Language) -> str:
    """The comment that ends on the line right above `node`, without its marks; "" when none does."""
    start = tree.start(node) - tree.window_start
    # Bounded, as it is asked for each definition of a file; most have no comment, which the line above tells.
    head = tree.window[max(start - _MAX_COMMENT, 0) : start]
    above = head[: head.rfind("\n") + 1][-_MAX_LINE:].rstrip("\n").rpartition("\n")[2].strip()
    if not (above.endswith("*/") or (language.comment and above.startswith(language.comment))):
        return ""
    lines = head[head.rfind("\n\n") + 1 :].split("\n")[:-1][-60:]
    if lines and lines[-1].rstrip().endswith("*/"):
        opening = next((i for i in range(len(lines) - 1, -1, -1) if "/*" in lines[i]), None)
        if opening is None or not lines[opening].lstrip().startswith("/*"):
            return ""
        text = "\n".join(lines[opening:]).strip().removesuffix("*/")
        return "\n".join(re.sub(r"^\s*(?:/\*+|\*)?[ \t]?", "", line).rstrip() for line in text.split("\n")).strip()
    mark, kept = language.comment, list[str]()
    while mark and lines and lines[-1].lstrip().startswith(mark):
        text = re.sub(rf"^\s*(?:{re.escape(mark)})+:?[ \t]?", "", lines.pop()).rstrip()
        if not _DIRECTIVE.match(text.lstrip()) and (not text or any(c.isalnum() for c in text)):
            kept.append(text)
    return "\n".join(reversed(kept)).strip()
