"""What an npm package's archive holds for a corpus: its metadata, and the sources that people wrote.

Packages ship what a build made beside or instead of what was written. What lies in a folder of build results is left
out, so are declarations, and where most is TypeScript the JavaScript is taken for its translation. Reads names and
texts, opens nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from finetune.pretrain.licences import Licence, judge_expression, judge_text

NAME_PREFIX = "npm:"  # PyPI and npm have packages of one name
_TYPESCRIPT = frozenset({".ts", ".tsx", ".mts"})
_JAVASCRIPT = frozenset({".js", ".jsx", ".mjs", ".cjs"})
_DECLARATIONS = (".d.ts", ".d.mts", ".d.cts")
_BUILT_FOLDER = re.compile(
    r"_?(?:dist\w*|dist-\w+|build|built|out|output|bundles?|esm\d*|cjs|umd|amd|es\d*|mjs|fesm\d*|node_modules|commonjs|"
    r"browser|legacy|compiled|lib\.\w+|lib-\w+|min|vendor|prebuilt|docs?|coverage)",
    re.IGNORECASE,
)
# Traces that compilers and bundlers leave.
_COMPILED = re.compile(
    r'Object\.defineProperty\(exports, ["\']__esModule["\']|__webpack_require__|_interopRequire|'
    r"\b__(?:awaiter|extends|generator|importDefault|rest|spreadArray|exportStar|publicField|toCommonJS)\b|"
    r"_classCallCheck\(|_createClass\(|\bvoid 0\b.{0,2000}\bvoid 0\b|^//# sourceMappingURL=",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class NpmMetadata:
    """What a package.json says."""

    name: str
    version: str
    licence: Licence


def read_metadata(package_json: bytes, licence_texts: Sequence[str]) -> NpmMetadata:
    """The metadata of a package; its licence is the declared one, else that of its licence files. Raises ValueError."""
    data = json.loads(package_json)
    if not isinstance(data, dict) or not isinstance(data.get("name"), str) or not isinstance(data.get("version"), str):
        raise ValueError("no name or version")
    declared = data.get("license") or data.get("licenses")
    entries = declared if isinstance(declared, list) else [declared]
    names = [entry.get("type") if isinstance(entry, dict) else entry for entry in entries]
    expression = " AND ".join(name for name in names if isinstance(name, str) and name)
    if expression and not expression.upper().startswith("SEE LICENSE"):
        return NpmMetadata(data["name"], data["version"], judge_expression(expression))
    licences = [judge_text(text) for text in licence_texts]
    known = [licence for licence in licences if licence.refusal is None]
    unknown = Licence(expression or "none declared", "unknown licence")
    return NpmMetadata(
        data["name"], data["version"], known[0] if known and len(known) == len(licences) else (licences or [unknown])[0]
    )


def written_sources(members: Iterable[str]) -> list[tuple[str, str]]:
    """(member, path in the package) of the sources that people wrote."""
    found = []
    for member in members:
        path = member.split("/", 1)[-1]
        parts = PurePosixPath(path).parts
        suffix = PurePosixPath(path).suffix
        if suffix not in _TYPESCRIPT | _JAVASCRIPT or path.endswith(_DECLARATIONS):
            continue
        if any(_BUILT_FOLDER.fullmatch(part) for part in parts[:-1]):
            continue
        found.append((member, path))
    typed = [pair for pair in found if PurePosixPath(pair[1]).suffix in _TYPESCRIPT]
    return typed if 2 * len(typed) >= len(found) else found


def is_compiled(text: str) -> bool:
    """Whether a compiler or a bundler wrote this JavaScript."""
    return _COMPILED.search(text) is not None
