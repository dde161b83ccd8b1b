"""A light reading of source text: strings, comments, brackets and words, by the language's row and no grammar.

Works on any fragment in any state, which a grammar does not, and costs microseconds on a line. Knows that a string
of one quote ends with its line, that triple quotes and backticks do not, and where JavaScript's `/` opens a regular
expression. Does not know what stands inside the `${}` of a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from server.lm.languages import Language

Kind = Literal["blank", "newline", "comment", "string", "word", "number", "open", "close", "operator", "other"]

CLOSER_OF = {"(": ")", "[": "]", "{": "}"}
MAX_DEPTH = 200  # brackets that stay open beyond this many are forgotten, outermost first

# Strings and block comments by what ends them; the possessive loops keep long ones linear.
_SINGLE_QUOTED = r"(?:[^\\\n{q}]++|\\[\s\S])*+{q}"
_MANY_LINES = r"(?:[^\\{first}]++|\\[\s\S]|{first}(?!{rest}))*+{q}"
_OPERATORS = (
    r"->|=>|:=|\*\*=?|<<=?|>>>?=?|===|!==|\?\?=?|\?\.|&&=?|\|\|=?|\.\.\.|::|[-+*/%&|^=<>!~@]=|//=?"
    r"|\+\+|--|[-+*/%&|^=<>!~@.,:;?\\]"
)


@dataclass(frozen=True, slots=True)
class LexicalState:
    """What is open at a place in a text."""

    awaited: str = ""  # closers of the open brackets, innermost last
    delimiter: str = ""  # what ends the open string or comment ("\n" for a line comment); "" in code

    @property
    def in_comment(self) -> bool:
        return self.delimiter in ("\n", "*/")

    @property
    def in_string(self) -> bool:
        return bool(self.delimiter) and not self.in_comment

    @property
    def spans_lines(self) -> bool:
        """Whether the next line continues what is open, so that its indentation says nothing."""
        return bool(self.awaited) or self.delimiter in ("*/", "`", '"""', "'''")


START = LexicalState()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text; a string or comment is one token, also when it is open at the end."""

    kind: Kind
    start: int
    end: int
    after: LexicalState


def tokens(text: str, language: Language, state: LexicalState = START) -> Iterator[Token]:
    """All of `text`, piece by piece without gaps, read from `state` on."""
    return _scan(text, language, state, _pattern(language.id == "python", language.comment, language.quotes))


def landmarks(text: str, language: Language, state: LexicalState = START) -> Iterator[Token]:
    """The strings, comments and brackets of `text` only. Several times faster than all tokens."""
    return _scan(text, language, state, _landmarks(language.id == "python", language.comment, language.quotes))


def state_after(text: str, language: Language, state: LexicalState = START) -> LexicalState:
    """What is open after `text`."""
    for token in landmarks(text, language, state):
        state = token.after
    return state


def n_stray_closers(text: str, language: Language, state: LexicalState = START) -> int:
    """How many closing brackets of `text` do not close the innermost open one."""
    n_stray = 0
    for token in landmarks(text, language, state):
        n_stray += token.kind == "close" and not state.awaited.endswith(text[token.start])
        state = token.after
    return n_stray


def without_comments(text: str, language: Language) -> str:
    """`text` without its comments and the blanks at its end."""
    return "".join(text[t.start : t.end] for t in tokens(text, language) if t.kind != "comment").rstrip()


def cut_points(text: str, language: Language, state: LexicalState = START) -> list[int]:
    """Lengths that `text` can be shortened to without breaking a token, longest first; the whole is not among them."""
    points = set()
    for token in tokens(text, language, state):
        if token.kind not in ("blank", "newline", "comment"):
            points.add(token.end)
        if token.start == 0 and state.in_string and not token.after.delimiter:
            points.add(token.end - len(state.delimiter))
    return sorted((point for point in points if 0 < point < len(text)), reverse=True)


def _scan(text: str, language: Language, state: LexicalState, pattern: re.Pattern[str]) -> Iterator[Token]:
    position, awaited = 0, state.awaited
    if state.delimiter and text:
        position, delimiter = _string_end(text, 0, state.delimiter)
        yield Token("comment" if state.in_comment else "string", 0, position, LexicalState(awaited, delimiter))
    while (match := pattern.search(text, position)) is not None:
        kind, position = match.lastgroup, match.end()
        delimiter = ""
        if kind == "open":
            awaited = awaited[-MAX_DEPTH:] + CLOSER_OF[match[0]]
        elif kind == "close":
            awaited = _closed(awaited, match[0])
        elif kind == "quote":
            position, delimiter = _string_end(text, position, match[0].lstrip("rRbBuUfFtT"))
            kind = "string"
        elif kind == "block":
            position, delimiter = _string_end(text, position, "*/")
            kind = "comment"
        elif kind == "comment":
            delimiter = "\n" if position == len(text) else ""
        elif kind == "regex":
            kind = "string"
        yield Token(kind, match.start(), position, LexicalState(awaited, delimiter))  # type: ignore[arg-type]


def _string_end(text: str, position: int, delimiter: str) -> tuple[int, str]:
    """Where the string or comment that is open at `position` ends, and the delimiter that is still awaited there."""
    if delimiter == "\n":
        end = text.find("\n", position)
        return (len(text), "\n") if end < 0 else (end, "")
    match = _ending(delimiter).match(text, position)
    if match is not None:
        return match.end(), ""
    # A string of one quote that its line does not close is a mistake of that line alone.
    end = text.find("\n", position) if delimiter in ("'", '"') else -1
    return (len(text), delimiter) if end < 0 else (end, "")


def _closed(awaited: str, closer: str) -> str:
    """The stack after a closer: it also closes what was left open inside, and one that nothing awaits is ignored."""
    depth = awaited.rfind(closer)
    return awaited if depth < 0 else awaited[:depth]


@cache
def _ending(delimiter: str) -> re.Pattern[str]:
    """What follows an opened string or block comment, with its end."""
    if delimiter == "*/":
        return re.compile(r"(?:[^*]++|\*(?!/))*+\*/")
    if delimiter in ("'", '"'):
        return re.compile(_SINGLE_QUOTED.format(q=delimiter))
    return re.compile(_MANY_LINES.format(first=delimiter[0], rest=delimiter[1:], q=delimiter))


@cache
def _landmarks(python: bool, comment: str, quotes: str) -> re.Pattern[str]:
    """What changes the state: comments, strings and brackets."""
    return re.compile("|".join(_stateful(python, comment, quotes)))


@cache
def _pattern(python: bool, comment: str, quotes: str) -> re.Pattern[str]:
    """Every token."""
    parts = [
        *_stateful(python, comment, quotes),
        r"(?P<newline>\n)",
        r"(?P<blank>[^\S\n]+)",
        r"(?P<word>[^\W\d][\w$]*|\$[\w$]*)",
        r"(?P<number>\d(?:[eE][+-]\d|[\w.])*)",
        f"(?P<operator>{_OPERATORS})",
        r"(?P<other>[\s\S])",
    ]
    return re.compile("|".join(parts))


def _stateful(python: bool, comment: str, quotes: str) -> list[str]:
    parts = []
    if comment:
        parts.append(rf"(?P<comment>{re.escape(comment)}[^\n]*+)")
    if comment == "//":
        parts.append(r"(?P<block>/\*)")
        if "`" in quotes:
            before = r"(?<=[=(,:\[!&|?{};\n])"
            parts.append(rf"{before}[^\S\n]*(?P<regex>/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*+\]|[^/\\\n\[])++/\w*)")
    if python:
        parts.append(r"""(?P<quote>(?:\b(?:[rR][bBfF]?|[bBfF][rR]?|[uU]))?(?:"{3}|'{3}|["']))""")
    elif quotes:
        parts.append(f"(?P<quote>[{re.escape(quotes)}])")
    return [*parts, r"(?P<open>[(\[{])", r"(?P<close>[)\]}])"]
