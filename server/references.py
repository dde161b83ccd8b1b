"""Where a name leads outside of its file: through the imports of scripts, and for Python through `StaticAnalysis`.

Both end at a binding in the text of another file, so that a name is described alike wherever it is defined.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from server import javascript_names, python_bindings
from server.lm.context import Document
from server.lm.languages import language_of_path
from server.names import Binding
from server.source_file import SourceFile, location_of, offset_of, parsed, read_text, shown_path
from server.static_analysis import Reference, StaticAnalysis

SCRIPT_SUFFIXES = (".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs")


@dataclass(frozen=True, slots=True)
class Target:
    """A binding in a file, mostly another one."""

    file: SourceFile
    binding: Binding


def follow_static_analysis(
    file: SourceFile,
    offset: int,
    document: Document,
    workspace_root: Path | None,
    analysis: StaticAnalysis,
    timeout_s: float,
) -> Target | Reference | None:
    """What the Python name at `offset` leads to, in jedi's words where there is no text to read.

    None when it is unknown or took longer than `timeout_s`.
    """
    location = location_of(document.uri)
    answer = analysis.find(location, document.text, offset, workspace_root)
    if answer is None:
        return None
    try:
        reference = answer.result(max(timeout_s, 0.0))
    except (TimeoutError, CancelledError):
        return None
    if reference is None or reference.path is None or reference.kind == "module":
        return reference
    is_own = reference.path == location
    text = file.text if is_own else read_text(reference.path)
    place = offset_of(text, reference.line, reference.column) if text is not None else None
    if text is None or place is None:
        return reference
    path = file.path if is_own else shown_path(reference.path, workspace_root)
    target = parsed(path, file.language, text, place)
    binding = python_bindings.binding_at(target.tree.node_at(place)) if target is not None else None
    return Target(target, binding) if target is not None and binding is not None else reference


def follow_import(file: SourceFile, binding: Binding, document: Document, workspace_root: Path | None) -> Target | None:
    """What an import from a relative path brings into a script; None for packages and what is not found."""
    module, name = javascript_names.imported_from(file.tree, binding)
    location = location_of(document.uri)
    if location is None or not module.startswith("."):
        return None
    path = _script(location.parent.joinpath(*PurePosixPath(module).parts).resolve())
    language = language_of_path(path.name) if path is not None else None
    text = read_text(path) if path is not None else None
    if path is None or text is None or language is None:
        return None
    target = parsed(shown_path(path, workspace_root and workspace_root.resolve()), language, text, 0)
    for definition in target.definitions[1:] if target is not None else ():
        is_default = text.startswith("export default", definition.start)
        if target is not None and not definition.parents:
            found = javascript_names.binding_at(target.tree.node_at(definition.name_start))
            if found is not None and (is_default if name == "default" else definition.name == name):
                return Target(target, found)
    return None


def _script(stem: Path) -> Path | None:
    """The file that an import means: as written, with an ending, TypeScript for `./a.js`, or a folder's index."""
    candidates = [stem, *(stem.with_name(stem.name + suffix) for suffix in SCRIPT_SUFFIXES)]
    if stem.suffix in (".js", ".jsx", ".mjs", ".cjs"):
        candidates += [stem.with_suffix(suffix) for suffix in (".ts", ".tsx", ".mts", ".cts")]
    candidates += [stem / f"index{suffix}" for suffix in SCRIPT_SUFFIXES]
    return next((path for path in candidates if path.is_file()), None)
