"""What each byte of a Python text is part of: a keyword, a name, a string and so on.

Reads Python through `tokenize`. Knows nothing of models.
"""

from __future__ import annotations

import io
import keyword
import tokenize
from collections.abc import Iterator
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

KINDS = ("keyword", "name", "operator", "number", "string", "docstring", "comment", "layout")
LAYOUT = KINDS.index("layout")  # line breaks, indentation and blanks between tokens

# A formatted string is one token up to Python 3.11 and several since; both are counted as a whole.
_F_START, _F_END = getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "FSTRING_END", -1)
_BREAKS = frozenset({tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER})

Kinds = NDArray[np.uint8]


def byte_kinds(text: str) -> Kinds | None:
    """The place in `KINDS` of each UTF-8 byte of a text; None where Python cannot cut the text into tokens."""
    kinds = np.full(len(text), LAYOUT, dtype=np.uint8)
    lines = text.split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    try:
        for kind, (row, column), (end_row, end_column) in _spans(text):
            kinds[starts[row - 1] + column : starts[end_row - 1] + end_column] = kind
    except (tokenize.TokenError, SyntaxError):
        return None
    code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    sizes = 1 + (code_points >= 0x80) + (code_points >= 0x800) + (code_points >= 0x10000)
    return np.repeat(kinds, sizes)


def _spans(text: str) -> Iterator[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Kind, start and end of each token that is no layout; rows from 1, columns in characters."""
    begins_statement, depth = True, 0
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token, following in zip(tokens, tokens[1:], strict=False):
        if token.type in _BREAKS:
            begins_statement = begins_statement or token.type == tokenize.NEWLINE
            continue
        depth += (token.type == _F_START) - (token.type == _F_END)
        if depth or token.type == _F_END:
            kind = "string"
        elif token.type == tokenize.STRING:
            is_alone = begins_statement and following.type in (tokenize.NEWLINE, tokenize.COMMENT)
            kind = "docstring" if is_alone else "string"
        elif token.type == tokenize.NAME:
            kind = "keyword" if keyword.iskeyword(token.string) else "name"
        else:
            kind = {tokenize.NUMBER: "number", tokenize.COMMENT: "comment"}.get(token.type, "operator")
        begins_statement = begins_statement and token.type == tokenize.COMMENT
        yield KINDS.index(kind), token.start, token.end
