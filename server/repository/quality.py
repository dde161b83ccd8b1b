"""Reasons to leave a source file out: what a model or an index would learn nothing good from.

Two measures: one for a corpus drawn from many packages, where a good file too few costs nothing, and a mild one for the
user's own repository, where a small file, a table or a comment in Greek is as good as any other. Knows the text and the
path alone. Knows nothing of licences, secrets or duplicates.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PathReason = Literal["vendored", "test data", "generated"]
TextReason = Literal["too short", "too large", "non-ASCII", "generated", "minified", "data-like", "repetitive"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a file may go before it is dropped. Shares are of characters, 0..1. Defaults: the corpus's."""

    min_bytes: int = 200
    max_bytes: int = 200_000
    max_non_ascii: float = 0.02
    max_literals: float = 0.6
    max_mean_line: int = 120
    max_line: int = 2_000
    min_compressed: float = 0.06
    min_judged_bytes: int = 0  # a smaller text is never data-like or repetitive
    signature_chars: int = 4_000  # the head in which a generator signs


# A bundle's lines are thousands of characters long, a paragraph of prose is one line of some hundred; a list of words
# or a package's own configuration is small, data is not. What a generator writes into a repository signs at the very
# top, while "do not edit" further down is what the user says of something else.
WORKSPACE_LIMITS = Limits(
    min_bytes=1,
    max_non_ascii=1.0,
    max_literals=0.8,
    max_mean_line=300,
    max_line=5_000,
    min_judged_bytes=16_000,
    signature_chars=1_000,
)


_VENDOR_FOLDER = re.compile(
    r"_?(?:vendor|vendors|vendored|vendored_packages|extern|externals|node_modules|bower_components)"
    r"|_?(?:third|3rd)_?party(?:_\w+)?"
)
_DATA_FOLDERS = frozenset({"testdata", "test_data", "fixtures", "snapshots", "__snapshots__", "golden", "cassettes"})

_GENERATED = re.compile(
    r"\bdo not (?:edit|modify|change)\b"
    r"|\bdon't (?:edit|modify) this file\b"
    r"|\bauto[- ]?generated\b"
    r"|\bautomatically (?:generated|created|built)\b"
    r"|@generated\b"
    r"|\bcode generated (?:by|from|with)\b"
    r"|\b(?:this|the) (?:file|module|code|script) (?:is|was|has been) (?:\w+ )?generated\b"
    r"|\bgenerated (?:by|with|using|from)\b[^\n]*"
    r"(?:compiler|generator|codegen|swig|antlr|protoc|cython|pyuic|openapi|swagger|\.py\b|\.pl\b|\.sh\b|script)",
    re.IGNORECASE,
)
_GENERATED_NAME = re.compile(
    r"_pb2(?:_grpc)?\.py$|(?:^|/)(?:parsetab|lextab|yacctab|_version|ui_\w+|\w+_rc)\.py$|\.min\.\w+$"
)
_SURELY_GENERATED_NAME = re.compile(
    r"_pb2(?:_grpc)?\.pyi?$|(?:^|/)(?:parsetab|lextab|yacctab)\.py$|\.min\.\w+$"
    r"|(?:^|/)(?:package-lock\.json|npm-shrinkwrap\.json|pnpm-lock\.yaml)$"
)
# A generator signs at the top; "generated" further down is what the code talks about.
_FIRST_CODE = re.compile(r"^(?:def|class|async|if|try|with|for|@)\b", re.MULTILINE)

# Read from left to right, so that a quote inside a comment or a longer string opens nothing.
_PIECE = re.compile(
    r"(?P<comment>#[^\n]*)"
    r'|(?P<triple>"""(?:[^"\\]|\\.|"(?!""))*"""|\'\'\'(?:[^\'\\]|\\.|\'(?!\'\'))*\'\'\')'
    r'|(?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*"|\'[^\'\\\n]*(?:\\.[^\'\\\n]*)*\')'
    r"|(?P<number>(?<![\w.])[-+]?(?:0[xX][0-9a-fA-F_]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)[jJ]?(?:[ \t]*,)?)",
    re.DOTALL,
)
_BLANK = re.compile(r"\s+")


def path_reason(path: str) -> PathReason | None:
    """Why a file is dropped for where it lies, or None. `path` is relative, with forward slashes."""
    folders = [part.lower() for part in path.split("/")[:-1]]
    if _is_vendored(folders):
        return "vendored"
    if not _DATA_FOLDERS.isdisjoint(folders):
        return "test data"
    if any(outer in ("test", "tests") and inner == "data" for outer, inner in zip(folders, folders[1:], strict=False)):
        return "test data"
    if _GENERATED_NAME.search(path):
        return "generated"
    return None


def workspace_path_reason(path: str) -> PathReason | None:
    """Why a file of the user's own repository is dropped for where it lies, or None; its tests and data are its own."""
    if _is_vendored(path.lower().split("/")[:-1]):
        return "vendored"
    return "generated" if _SURELY_GENERATED_NAME.search(path) else None


def text_reason(text: str, limits: Limits | None = None) -> TextReason | None:
    """Why a text is dropped for what it is, or None. Line breaks are expected to be `\\n`."""
    limits = limits or Limits()
    n_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    if n_bytes < limits.min_bytes or not text.strip():
        return "too short"
    if n_bytes > limits.max_bytes:
        return "too large"
    if non_ascii_share(text) > limits.max_non_ascii:
        return "non-ASCII"
    if is_generated(text, limits.signature_chars):
        return "generated"
    lines = text.split("\n")
    n_filled = sum(1 for line in lines if line.strip())
    if n_bytes > limits.max_mean_line * n_filled or max(map(len, lines)) > limits.max_line:
        return "minified"
    if n_bytes < limits.min_judged_bytes:
        return None
    if literal_share(text) > limits.max_literals:
        return "data-like"
    if len(zlib.compress(text.encode("utf-8", "replace"), 1)) < limits.min_compressed * n_bytes:
        return "repetitive"
    return None


def non_ascii_share(text: str) -> float:
    """Characters outside ASCII over all characters, 0..1."""
    if not text or text.isascii():
        return 0.0
    return 1.0 - len(text.encode("ascii", "ignore")) / len(text)


def is_generated(text: str, signature_chars: int = 4_000) -> bool:
    """True if the head of the file, up to its first block of code, says that a program wrote it."""
    head = text[:signature_chars]
    code = _FIRST_CODE.search(head)
    return _GENERATED.search(head, 0, code.start() if code else len(head)) is not None


def literal_share(text: str) -> float:
    """Share of the code's characters, 0..1, that stand in numbers and in strings other than docstrings.

    Blanks, comments and docstrings count on neither side. A triple-quoted text is a docstring where
    nothing stands before it on its line. Strings are found by pattern, not by a parser: an estimate, and for Python.
    """
    n_literal = n_neither = 0
    for match in _PIECE.finditer(text):
        kind = match.lastgroup
        n_chars = len(_BLANK.sub("", match.group())) if kind != "number" else match.end() - match.start()
        if kind == "comment" or (kind == "triple" and _starts_line(text, match.start())):
            n_neither += n_chars
        else:
            n_literal += n_chars
    n_counted = len(_BLANK.sub("", text)) - n_neither
    return n_literal / n_counted if n_counted else 0.0


def _is_vendored(folders: Iterable[str]) -> bool:
    return any(_VENDOR_FOLDER.fullmatch(folder) for folder in folders)


def _starts_line(text: str, offset: int) -> bool:
    before = text[text.rfind("\n", 0, offset) + 1 : offset].strip().lower()
    return before in ("", "r", "u", "b", "f", "rb", "br")
