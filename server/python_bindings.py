"""Which names of a Python file get their meaning where they stand: definitions, parameters, imports, assignments.

By the syntax tree alone. Files with errors are read as far as the grammar can make sense of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.names import Binding, ancestors, is_field

if TYPE_CHECKING:
    from server.lm.syntax import Node

DEFINITIONS = frozenset({"function_definition", "class_definition"})
COMPREHENSIONS = frozenset(
    {"list_comprehension", "set_comprehension", "dictionary_comprehension", "generator_expression"}
)
PARAMETER_LISTS = frozenset({"parameters", "lambda_parameters"})
# What stands between a name that is assigned and the statement that assigns it.
TARGETS = frozenset(
    {
        "pattern_list",
        "tuple_pattern",
        "list_pattern",
        "list_splat_pattern",
        "as_pattern_target",
        "tuple",
        "list",
        "parenthesized_expression",
        "expression_list",
    }
)
IMPORTS = frozenset({"import_statement", "import_from_statement", "future_import_statement"})
# What is shown for a variable: the statement that sets it, or the clause of it.
SETTERS = frozenset(
    {
        "assignment",
        "named_expression",
        "for_statement",
        "for_in_clause",
        "with_statement",
        "except_clause",
        "case_clause",
        "type_alias_statement",
        "type_parameter",
    }
)


def binding_at(identifier: Node) -> Binding | None:
    """The binding that `identifier` itself makes; None where it is only used."""
    parent = identifier.parent
    if parent is None:
        return None
    if parent.type in DEFINITIONS and is_field(identifier, parent, "name"):
        return Binding(_definition_kind(parent), identifier, _decorated(parent), scope_around(parent))
    before = identifier.prev_sibling if parent.is_error else None
    if before is not None and before.type in ("def", "class"):
        # The rest of the definition could not be read.
        return Binding("class" if before.type == "class" else "function", identifier, identifier, None)
    return _parameter(identifier) or _import(identifier) or _self_attribute(identifier) or _target(identifier)


def _parameter(identifier: Node) -> Binding | None:
    node, parent = identifier, identifier.parent
    while parent is not None and parent.type not in PARAMETER_LISTS:
        is_star = parent.type in ("list_splat_pattern", "dictionary_splat_pattern")
        if not is_star and not parent.type.endswith("parameter"):
            return None
        if not is_star and parent.child(0) != node:  # an annotation or a default
            return None
        node, parent = parent, parent.parent
    return None if parent is None else Binding("parameter", identifier, node, parent.parent)


def _import(identifier: Node) -> Binding | None:
    parent = identifier.parent
    if parent is None or parent.parent is None:
        return None
    statement = next((node for node in ancestors(identifier) if node.type in IMPORTS), None)
    if statement is None:
        return None
    is_alias = parent.type == "aliased_import" and is_field(identifier, parent, "alias")
    # `import a.b` binds `a`, `from x import a` binds `a`, `from a import x` does not.
    is_name = parent.type == "dotted_name" and parent.parent == statement and parent.child(0) == identifier
    is_name = is_name and not is_field(parent, statement, "module_name")
    return Binding("import", identifier, statement, scope_around(statement)) if is_alias or is_name else None


def _self_attribute(identifier: Node) -> Binding | None:
    """`self.name = ...` in a method: a binding in the class."""
    attribute = identifier.parent
    if attribute is None or attribute.type != "attribute" or not is_field(identifier, attribute, "attribute"):
        return None
    owner = class_of_self(attribute)
    statement = _assignment_of(attribute)
    return Binding("attribute", identifier, statement, owner) if owner is not None and statement is not None else None


def _target(identifier: Node) -> Binding | None:
    statement = _assignment_of(identifier)
    if statement is None:
        return None
    # An assignment expression in a comprehension binds outside of it.
    skipped = COMPREHENSIONS if statement.type == "named_expression" else frozenset()
    return Binding("variable", identifier, _setter(statement), scope_around(identifier, skipped))


def _assignment_of(target: Node) -> Node | None:
    """The statement or clause that gives `target`, a name or an attribute, its value; None when nothing does."""
    node, parent = target, target.parent
    while parent is not None and parent.type in TARGETS:
        node, parent = parent, parent.parent
    if parent is None:
        return None
    match parent.type:
        case "assignment" | "for_statement" | "for_in_clause":
            return parent if is_field(node, parent, "left") else None
        case "type":
            return _type_binding(node)
        case "named_expression":
            return parent if is_field(node, parent, "name") else None
        case "as_pattern":
            return parent if node.type == "as_pattern_target" or parent.child(parent.child_count - 1) == node else None
        case "dotted_name" | "splat_pattern":
            return _pattern_binding(parent)
    return None


def _type_binding(node: Node) -> Node | None:
    """`type Name[T] = ...`, and the parameters in brackets behind the name of a function or class."""
    child = node
    for holder in ancestors(node):
        match holder.type:
            case "type_alias_statement":
                return holder if is_field(child, holder, "left") else None
            case "type_parameter":
                return holder
            case "type" | "constrained_type" | "splat_type" if holder.child(0) == child or child == node:
                child = holder
            case _:
                return None
    return None


def _pattern_binding(node: Node) -> Node | None:
    """The `case` of a pattern that catches a value under a plain name."""
    parent = node.parent
    if node.type == "dotted_name" and (node.child_count != 1 or parent is None or parent.type == "class_pattern"):
        return None
    for holder in ancestors(node):
        if holder.type == "case_clause":
            return holder
        if not (holder.type.endswith("_pattern") or holder.type == "case_pattern"):
            return None
    return None


def _setter(node: Node) -> Node:
    return next((holder for holder in (node, *ancestors(node)) if holder.type in SETTERS), node)


def scope_around(node: Node, skipped: frozenset[str] = frozenset()) -> Node | None:
    """The function, class, lambda or comprehension whose names `node` sees first; None for the module.

    Decorators, defaults, annotations and base classes see the names around their definition.
    """
    child = node
    for parent in ancestors(node):
        if (parent.type in DEFINITIONS or parent.type == "lambda") and is_field(child, parent, "body"):
            return parent
        if parent.type in COMPREHENSIONS and parent.type not in skipped:
            return parent
        child = parent
    return None


def class_of_self(attribute: Node) -> Node | None:
    """The class whose instance or self `attribute` is taken from: its object is a method's first parameter."""
    value = attribute.child_by_field_name("object")
    if value is None or value.type != "identifier" or value.text is None:
        return None
    for function in ancestors(attribute):
        if function.type == "function_definition":
            owner = scope_around(function)
            parameters = function.child_by_field_name("parameters")
            first = parameters.named_children[0] if parameters is not None and parameters.named_children else None
            if owner is not None and is_class(owner) and not _is_static(function):
                return owner if first is not None and first.text == value.text else None
    return None


def _is_static(function: Node) -> bool:
    return "staticmethod" in _decorators(function)


def _decorators(definition: Node) -> list[str]:
    """The names of the decorators of a definition, without arguments."""
    parent = definition.parent
    if parent is None or parent.type != "decorated_definition":
        return []
    texts = [(node.text or b"").decode("utf-8", "replace") for node in parent.children if node.type == "decorator"]
    return [text.lstrip("@ ").split("(")[0].strip() for text in texts]


def _definition_kind(definition: Node) -> str:
    if definition.type == "class_definition":
        return "class"
    owner = scope_around(definition)
    if owner is None or not is_class(owner):
        return "function"
    properties = ("property", "cached_property", ".setter", ".getter", ".deleter")
    return "property" if any(name.endswith(properties) for name in _decorators(definition)) else "method"


def _decorated(definition: Node) -> Node:
    parent = definition.parent
    return parent if parent is not None and parent.type == "decorated_definition" else definition


def definition_node(statement: Node) -> Node:
    """The function or class itself, without its decorators."""
    return statement.child_by_field_name("definition") or statement


def is_class(node: Node) -> bool:
    return node.type == "class_definition"
