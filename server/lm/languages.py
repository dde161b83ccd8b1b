"""The programming languages that we know: ids, file suffixes, comments, block style and grammar.

One table, data only. A language is added by one row; syntax-aware behaviour comes with a grammar's
wheel. Knows nothing of trees: `syntax` loads the grammars.
"""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal


@dataclass(frozen=True, slots=True)
class Language:
    """One language as an editor names it."""

    id: str  # the protocol's languageId
    suffixes: tuple[str, ...] = ()  # of file names, lower case, with the dot
    comment: str = ""  # what opens a line comment; "" when the language has none
    block: Literal["indent", "braces"] | None = None  # what holds the body of a block
    quotes: str = "\"'"  # characters that open and close a string; a backtick's string may span lines
    grammar: str | None = None  # "module:function" of a tree-sitter grammar wheel
    aliases: tuple[str, ...] = ()  # other ids that editors send


PLAIN_TEXT = Language("plaintext", (".txt",), quotes='"')

LANGUAGES: tuple[Language, ...] = (
    Language("python", (".py", ".pyi", ".pyw"), "#", "indent", grammar="tree_sitter_python:language"),
    Language(
        "typescript", (".ts", ".mts", ".cts"), "//", "braces", "\"'`", "tree_sitter_typescript:language_typescript"
    ),
    Language("typescriptreact", (".tsx",), "//", "braces", "\"'`", "tree_sitter_typescript:language_tsx", ("tsx",)),
    Language("javascript", (".js", ".mjs", ".cjs"), "//", "braces", "\"'`", "tree_sitter_javascript:language"),
    Language("javascriptreact", (".jsx",), "//", "braces", "\"'`", "tree_sitter_javascript:language", ("jsx",)),
    Language("c", (".c", ".h"), "//", "braces"),
    Language("cpp", (".cpp", ".cc", ".cxx", ".hpp", ".hh"), "//", "braces", aliases=("c++",)),
    Language("csharp", (".cs",), "//", "braces", aliases=("cs",)),
    Language("css", (".css",), block="braces"),
    Language("dart", (".dart",), "//", "braces"),
    Language("go", (".go",), "//", "braces", "\"'`"),
    Language("html", (".html", ".htm")),
    Language("java", (".java",), "//", "braces"),
    Language("json", (".json",), block="braces", quotes='"'),
    Language("jsonc", (".jsonc",), "//", "braces", '"'),
    Language("kotlin", (".kt", ".kts"), "//", "braces"),
    Language("lua", (".lua",), "--"),
    Language("markdown", (".md",), quotes=""),
    Language("perl", (".pl", ".pm"), "#", "braces"),
    Language("php", (".php",), "//", "braces"),
    Language("ruby", (".rb",), "#"),
    # An apostrophe opens a lifetime as often as a character.
    Language("rust", (".rs",), "//", "braces", '"'),
    Language("scala", (".scala",), "//", "braces"),
    Language("scss", (".scss",), "//", "braces"),
    Language("shellscript", (".sh", ".bash", ".zsh"), "#", aliases=("sh", "bash", "zsh")),
    Language("sql", (".sql",), "--"),
    Language("swift", (".swift",), "//", "braces", '"'),
    Language("toml", (".toml",), "#"),
    Language("yaml", (".yaml", ".yml"), "#"),
    PLAIN_TEXT,
)

# Text that holds data, prose or styles: completed like the others, but not searched or learned from.
_NOT_CODE = frozenset({"css", "html", "json", "jsonc", "markdown", "plaintext", "scss", "sql", "toml", "yaml"})
CODE_SUFFIXES = frozenset(
    suffix for language in LANGUAGES if language.id not in _NOT_CODE for suffix in language.suffixes
)


def language_for(language_id: str, path: str = "") -> Language:
    """The language that an editor's id names; for an unknown id the one of the path's suffix.

    When neither is known, plain text under the given id, so that settings by language still reach it.
    """
    wanted = language_id.lower()
    for language in LANGUAGES:
        if wanted == language.id or wanted in language.aliases:
            return language
    by_path = language_of_path(path)
    if by_path is not None:
        return by_path
    return replace(PLAIN_TEXT, id=language_id) if language_id else PLAIN_TEXT


def language_of_path(path: str) -> Language | None:
    """The language that a file name's suffix stands for, or None."""
    suffix = PurePosixPath(path.replace("\\", "/")).suffix.lower()
    return next((language for language in LANGUAGES if suffix and suffix in language.suffixes), None)
