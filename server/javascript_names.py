"""What a name in a JavaScript or TypeScript file refers to, by its syntax tree: blocks, classes and imports.

Knows the file alone. A property of an unknown value is taken for the one member of that name, if there is only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.lm.syntax import SyntaxTree
from server.names import Binding, ancestors, is_field, occurrences

if TYPE_CHECKING:
    from server.lm.syntax import Node

DECLARATIONS = {
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "function_signature": "function",
    "class_declaration": "class",
    "abstract_class_declaration": "class",
    "interface_declaration": "interface",
    "type_alias_declaration": "type",
    "enum_declaration": "enum",
    "internal_module": "namespace",
    "module": "namespace",
}
MEMBERS = {
    "method_definition": "method",
    "method_signature": "method",
    "abstract_method_signature": "method",
    "public_field_definition": "property",
    "field_definition": "property",
    "property_signature": "property",
    "pair": "property",
    "enum_assignment": "member",
    "enum_body": "member",
}
FUNCTIONS = frozenset(
    {
        "function_declaration",
        "generator_function_declaration",
        "function_expression",
        "generator_function",
        "arrow_function",
        "method_definition",
        "function_signature",
    }
)
SCOPES = FUNCTIONS | {"statement_block", "for_statement", "for_in_statement", "catch_clause", "switch_body"}
CLASSES = frozenset({"class_body", "interface_body", "object_type", "enum_body", "object"})
# What stands between a name that is taken out of a value and the declaration: `const {a, b: [c = 1]} = ...`.
PATTERNS = {
    "object_pattern": None,
    "array_pattern": None,
    "rest_pattern": None,
    "pair_pattern": "value",
    "assignment_pattern": "left",
    "object_assignment_pattern": "left",
}
WRAPPERS = frozenset({"export_statement", "lexical_declaration", "variable_declaration", "ambient_declaration"})


def resolve(tree: SyntaxTree, identifier: Node) -> Binding | None:
    """What `identifier` refers to in this file; None when that is decided elsewhere or not at all."""
    own = binding_at(identifier)
    if own is not None:
        return own
    name = tree.source(identifier)
    bindings = [binding for binding in map(binding_at, occurrences(tree, name)) if binding is not None]
    parent = identifier.parent
    if parent is not None and parent.type == "member_expression" and is_field(identifier, parent, "property"):
        return _member(parent, [binding for binding in bindings if binding.kind in MEMBERS.values()])
    plain = [binding for binding in bindings if binding.kind not in MEMBERS.values()]
    for scope in [*(node for node in ancestors(identifier) if node.type in SCOPES), None]:
        found = next((binding for binding in plain if binding.scope == scope), None)
        if found is not None:
            return found
    return None


def binding_at(identifier: Node) -> Binding | None:
    """The binding that `identifier` itself makes; None where it is only used."""
    parent = identifier.parent
    if parent is None:
        return None
    if parent.type in DECLARATIONS and is_field(identifier, parent, "name"):
        return Binding(DECLARATIONS[parent.type], identifier, shown(parent), _scope_around(parent))
    if parent.type in MEMBERS and not is_field(identifier, parent, "value"):
        is_name = any(is_field(identifier, parent, field) for field in ("name", "property", "key"))
        owner = next((node for node in ancestors(identifier) if node.type in CLASSES), None)
        statement = identifier if parent.type == "enum_body" else parent
        return Binding(MEMBERS[parent.type], identifier, statement, owner) if is_name else None
    if parent.type in ("import_clause", "namespace_import", "import_specifier"):
        is_outer = parent.type == "import_specifier" and is_field(identifier, parent, "name")
        if is_outer and parent.child_by_field_name("alias") is not None:
            return None
        statement = next((node for node in ancestors(identifier) if node.type == "import_statement"), parent)
        return Binding("import", identifier, statement, None)
    return _taken_from_pattern(identifier)


def _taken_from_pattern(identifier: Node) -> Binding | None:
    node, parent = identifier, identifier.parent
    while parent is not None and parent.type in PATTERNS:
        field = PATTERNS[parent.type]
        if field is not None and not is_field(node, parent, field):
            return None
        node, parent = parent, parent.parent
    if parent is None:
        return None
    match parent.type:
        case "variable_declarator" if is_field(node, parent, "name"):
            value = parent.child_by_field_name("value")
            kind = "function" if value is not None and value.type in FUNCTIONS else "variable"
            is_var = parent.parent is not None and parent.parent.type == "variable_declaration"
            return Binding(kind, identifier, shown(parent), _scope_around(parent, FUNCTIONS if is_var else SCOPES))
        case "required_parameter" | "optional_parameter" if is_field(node, parent, "pattern"):
            return Binding("parameter", identifier, parent, _scope_around(parent, FUNCTIONS))
        case "formal_parameters":
            return Binding("parameter", identifier, node, parent.parent)
        case "arrow_function" if is_field(node, parent, "parameter"):
            return Binding("parameter", identifier, node, parent)
        case "catch_clause" if is_field(node, parent, "parameter"):
            return Binding("variable", identifier, parent, parent)
        case "for_in_statement" if is_field(node, parent, "left") and parent.child_by_field_name("kind") is not None:
            return Binding("variable", identifier, parent, parent)
    return None


def _member(expression: Node, members: list[Binding]) -> Binding | None:
    """The member that `value.name` means: the class's own for `this`, else the only one of that name."""
    value = expression.child_by_field_name("object")
    if value is not None and value.type == "this":
        around = next((node for node in ancestors(expression) if node.type == "class_body"), None)
        return next((binding for binding in members if binding.scope == around), None)
    return members[0] if len(members) == 1 else None


def _scope_around(node: Node, scopes: frozenset[str] = SCOPES) -> Node | None:
    """The block or function in which a declaration at `node` is known; None for the file."""
    return next((parent for parent in ancestors(node) if parent.type in scopes), None)


def shown(node: Node) -> Node:
    """`node` with the `export` and `const` in front of it."""
    while node.parent is not None and node.parent.type in WRAPPERS and node.parent.named_child_count <= 2:
        node = node.parent
    return node


def imported_from(tree: SyntaxTree, binding: Binding) -> tuple[str, str]:
    """Where an import leads: the module as written, and the name there, "default", or "*" for all of it."""
    source = binding.statement.child_by_field_name("source")
    module = tree.source(source).strip("\"'`") if source is not None else ""
    parent = binding.identifier.parent
    if parent is None or parent.type == "import_clause":
        return module, "default"
    if parent.type == "namespace_import":
        return module, "*"
    name = parent.child_by_field_name("name")
    return module, tree.source(name) if name is not None else ""
