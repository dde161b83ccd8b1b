"""What a name in a Python file refers to, by its syntax tree and Python's rules of scope.

Knows the file alone: what comes from an import, from a base class or from the type of a value is left to others.
"""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING

from server.lm.syntax import SyntaxTree
from server.names import Binding, ancestors, is_field, occurrences
from server.python_bindings import IMPORTS, binding_at, class_of_self, definition_node, is_class, scope_around

if TYPE_CHECKING:
    from server.lm.syntax import Node


def resolve(tree: SyntaxTree, identifier: Node) -> Binding | None:
    """What `identifier` refers to in this file; None when that is decided elsewhere or not at all."""
    own = binding_at(identifier)
    if own is not None:
        return own
    name = tree.source(identifier)
    parent = identifier.parent
    if parent is None or keyword.iskeyword(name):
        return None
    if parent.type == "attribute" and is_field(identifier, parent, "attribute"):
        return _attribute(tree, name, parent)
    if parent.type == "keyword_argument" and is_field(identifier, parent, "name"):
        return _argument(tree, name, parent)
    if _is_being_imported(identifier):
        return None
    return _in_scopes(tree, name, identifier)


def is_plain_use(identifier: Node) -> bool:
    """Whether `identifier` stands by itself, so that it could be a built-in name."""
    parent = identifier.parent
    if parent is None or _is_being_imported(identifier):
        return False
    is_part = (parent.type == "attribute" and is_field(identifier, parent, "attribute")) or (
        parent.type == "keyword_argument" and is_field(identifier, parent, "name")
    )
    return not is_part


def _is_being_imported(identifier: Node) -> bool:
    return any(node.type in IMPORTS for node in ancestors(identifier))


def _attribute(tree: SyntaxTree, name: str, attribute: Node) -> Binding | None:
    """`self.name`, `cls.name` and `Class.name` where the class is in this file and has that name itself."""
    value = attribute.child_by_field_name("object")
    if value is None or value.type != "identifier":
        return None
    owner = class_of_self(attribute)
    if owner is None:
        binding = resolve(tree, value)
        if binding is None or binding.kind != "class":
            return None
        owner = definition_node(binding.statement)
    return member(tree, owner, name)


def member(tree: SyntaxTree, owner: Node, name: str) -> Binding | None:
    """What `name` is in the class `owner`, its base classes left out: what its body says comes first."""
    found = [binding for binding in map(binding_at, occurrences(tree, name)) if binding and binding.scope == owner]
    in_body = [binding for binding in found if binding.kind != "attribute"]
    return next(iter(in_body or found), None)


def _argument(tree: SyntaxTree, name: str, argument: Node) -> Binding | None:
    """The parameter of a function of this file, or the field of a class, that `name=` in a call is for."""
    call = next((node for node in ancestors(argument) if node.type == "call"), None)
    function = call.child_by_field_name("function") if call is not None else None
    if function is None or function.type not in ("identifier", "attribute"):
        return None
    called = function if function.type == "identifier" else function.child_by_field_name("attribute")
    binding = resolve(tree, called) if called is not None else None
    if binding is None or binding.kind not in ("class", "function", "method"):
        return None
    owner = definition_node(binding.statement)
    if binding.kind == "class":
        initialiser = member(tree, owner, "__init__")
        if initialiser is None:
            return member(tree, owner, name)
        owner = definition_node(initialiser.statement)
    found = (each for each in map(binding_at, occurrences(tree, name)) if each and each.kind == "parameter")
    return next((each for each in found if each.scope == owner), None)


def _in_scopes(tree: SyntaxTree, name: str, identifier: Node) -> Binding | None:
    """The binding of a plain name by Python's rule: this scope, those around it but for classes, the module."""
    bindings: list[Binding] = []
    redirected: dict[Node | None, str] = {}
    for other in occurrences(tree, name):
        parent = other.parent
        if parent is not None and parent.type in ("global_statement", "nonlocal_statement"):
            redirected[scope_around(parent)] = parent.type
            continue
        binding = binding_at(other)
        if binding is not None and binding.kind != "attribute":
            bindings.append(binding)

    def seen_in(binding: Binding) -> Node | None:
        return None if redirected.get(binding.scope) == "global_statement" else binding.scope

    for depth, scope in enumerate(_scopes(identifier)):
        if redirected.get(scope) == "nonlocal_statement" or (depth and scope is not None and is_class(scope)):
            continue
        if redirected.get(scope) == "global_statement":
            scope = None
            bindings.sort(key=lambda binding: binding.scope is not None)  # what the module itself says comes first
        known = [each for each in bindings if seen_in(each) == scope]
        if known:
            # Inside a function the order of the text is the order of events; what is around it is there before.
            before = [each for each in known if each.identifier.start_byte < identifier.start_byte]
            return before[-1] if before and scope_around(identifier) == scope else _most_telling(known)
        if scope is None:
            return None
    return None


def _most_telling(bindings: list[Binding]) -> Binding:
    """A definition rather than the `None` that stands in for it, else the first."""
    return next((each for each in bindings if each.kind in ("function", "class")), bindings[0])


def _scopes(node: Node) -> list[Node | None]:
    """The scopes whose names `node` sees, innermost first; None, the module, is the last."""
    scopes: list[Node | None] = []
    scope = scope_around(node)
    while scope is not None:
        scopes.append(scope)
        scope = scope_around(scope)
    return [*scopes, None]
