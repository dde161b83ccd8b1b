"""Names in a syntax tree: where else a name stands, and what a place that gives it its meaning looks like.

Common to all languages; the modules of each language know its rules.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.lm.syntax import SyntaxTree

if TYPE_CHECKING:
    from server.lm.syntax import Node

# For one name. argparse's module, 90,000 characters with `self` 350 times, takes 10 ms; what takes much longer is no
# source code but generated data, or one line with an error.
LOOK_UP_LIMIT_MS = 200
MAX_DEPTH = 200  # levels of a tree that are climbed


@dataclass(frozen=True, slots=True)
class Binding:
    """A place that gives a name its meaning."""

    kind: str  # as a reader calls it: "function", "method", "class", "parameter", "variable", "import", ...
    identifier: Node
    statement: Node  # what says all of it: the whole definition, assignment, parameter or import
    scope: Node | None  # the node within which the name is known; None: the whole file


def occurrences(tree: SyntaxTree, name: str) -> Iterator[Node]:
    """The nodes that read `name`, in the order of the text; strings and comments are other nodes.

    Ends early when whoever asks has taken `LOOK_UP_LIMIT_MS` altogether.
    """
    end = time.monotonic() + LOOK_UP_LIMIT_MS / 1000
    for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", tree.window):
        if time.monotonic() > end:
            return
        node = tree.node_at(tree.window_start + match.start())
        if node.child_count == 0 and tree.source(node) == name:
            yield node


def ancestors(node: Node) -> Iterator[Node]:
    """Parent, grandparent and so on, up to `MAX_DEPTH` of them."""
    parent = node.parent
    for _ in range(MAX_DEPTH):
        if parent is None:
            return
        yield parent
        parent = parent.parent


def is_field(node: Node, parent: Node, name: str) -> bool:
    """Whether `node` is what the grammar calls `parent`'s `name`."""
    return parent.child_by_field_name(name) == node
