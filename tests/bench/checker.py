"""Whether an item spoils the document: a judge that was written apart from the server's filters and knows none of them.

An item *repeats* when it ends with what the rest of the line begins with, holds the whole rest, is its beginning, or
makes a line that the next line is already. Whole words only: brackets and blanks alone are no repetition, they are
judged by the syntax.

An item *adds a syntax error* when the document was sound before it and is not with it. Sound before: as it stands, or
without the cursor's line, or with `pass` (`;`) in its place. With it: as it stands, or with a body for the block that
the item opens. In a document that is not sound either way, the number of errors that tree-sitter sees must not grow.
Text that only lacks a comma, a colon or, after a comment, the statement itself, where the line was unsound before
anyway, is *unfinished*, and so is the header of a block that lacks its end and its body: no error is added, but it is
counted. Python is judged by its compiler on the whole document,
TypeScript by tree-sitter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tree_sitter


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong with an item, in words; empty where nothing is."""

    repeats: str = ""
    breaks: str = ""
    is_unfinished: bool = False

    @property
    def is_sound(self) -> bool:
        return not (self.repeats or self.breaks)


def judge(before: str, item: str, after: str, language_id: str) -> Judgement:
    """The judgement on `item` between the text before and after what it replaces."""
    breaks, is_unfinished = syntax(before, item, after, language_id)
    return Judgement(repetition(before, item, after), breaks, is_unfinished)


def repetition(before: str, item: str, after: str) -> str:
    """What of the text that follows the item says again; empty when nothing."""
    rest, _, below = after.partition("\n")
    rest = rest.rstrip()
    for length in range(min(len(item), len(rest)), 0, -1):
        overlap = rest[:length]
        starts_word = not (_is_word((before + item[:-length])[-1:]) and _is_word(overlap[0]))
        if item.endswith(overlap) and _says(overlap) and starts_word and _ends_word(overlap, rest[length:]):
            return f"it ends with {overlap!r}, which follows"
    written, following = item.strip(), rest.strip()
    if sum(map(_is_word, following)) >= 3 and following in written:
        return f"it holds {following!r}, which follows"
    if _says(written) and following.startswith(written) and _ends_word(written, following[len(written) :]):
        return f"what follows starts with {written!r}"
    next_line = next((line.rstrip() for line in below.split("\n") if line.strip()), "")
    lines = (before.rpartition("\n")[2] + item + rest).split("\n")
    if _says(next_line) and any(line.rstrip() == next_line for line in lines):
        return f"the next line is {next_line.strip()!r} already"
    return ""


def syntax(before: str, item: str, after: str, language_id: str) -> tuple[str, bool]:
    """The syntax error that an item adds, empty for none, and whether it only lacks its end."""
    sound, neutral = _RULES[language_id]
    above, line_break, head = before.rpartition("\n")
    rest, next_break, below = after.partition("\n")

    def around(line: str) -> str:
        return above + line_break + line + next_break + below

    line = head + item + rest
    if any(sound(around(whole)) for whole in (line, *_with_body(line, language_id))):
        return "", False
    indentation = head[: len(head) - len(head.lstrip())]
    was_sound = sound(before + after)
    if not was_sound and any(
        sound(around(line + end)) and not sound(around(line + other)) for end, other in _HEADER_ENDS[language_id]
    ):
        return "", True
    if was_sound or sound(around("")) or sound(around(indentation + neutral)):
        last = line.rpartition("\n")[2]
        ends = (",", ":", ":,", f"\n{last[: len(last) - len(last.lstrip())]}{neutral}")
        if not was_sound and any(sound(around(line + end)) for end in ends):
            grown = n_errors(around(line), language_id) - n_errors(before + after, language_id)
            return (f"unfinished, and {grown} errors more", False) if grown > 0 else ("", True)
        return "the document was sound before", False
    n_before, n_after = (n_errors(text, language_id) for text in (before + after, around(line)))
    return (f"{n_before} errors before, {n_after} after", False) if n_after > n_before else ("", False)


def _with_body(line: str, language_id: str) -> Iterator[str]:
    """The line with a body for the block that it opens at its end, if it does."""
    last = line.rpartition("\n")[2]
    indentation, code = last[: len(last) - len(last.lstrip())], last.strip()
    if language_id == "python":
        if code.endswith(":"):
            yield f"{line}\n{indentation} pass"
            yield f"{line}\n{indentation} case _: pass"
            yield f"{line}\n{indentation} pass\n{indentation}finally: pass"
        if code.startswith("@"):
            yield f"{line}\n{indentation}def _(): pass"
    elif code.endswith("{"):
        yield f"{line}\n{indentation}}}"
        yield f"{line}\n{indentation}}});"


def compiles(source: str) -> bool:
    """Whether Python's compiler takes the text. Nothing is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<document>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def n_errors(source: str, language_id: str) -> int:
    """The errors that tree-sitter sees: text it cannot place, and tokens it misses."""
    root = _parser(language_id).parse(source.encode("utf-8", "replace")).root_node
    found, waiting = 0, [root] if root.has_error else []
    while waiting:
        node = waiting.pop()
        found += node.is_error or node.is_missing
        waiting += [child for child in node.children if child.has_error]
    return found


def _is_clean_typescript(source: str) -> bool:
    return n_errors(source, "typescript") == 0


# What takes a language's text, and the statement that may stand anywhere.
_RULES: dict[str, tuple[Callable[[str], bool], str]] = {
    "python": (compiles, "pass"),
    "typescript": (_is_clean_typescript, ";"),
}
# What completes a block's header, a function's without its parameters included; and what must not do so as well: after
# `a +` braces are an object, and as good as any other value.
_HEADER_ENDS = {
    "python": ((": pass", " 0"), ("(): pass", " 0")),
    "typescript": ((" {}", " 0"), ("() {}", "() 0")),
}


@lru_cache
def _parser(language_id: str) -> tree_sitter.Parser:
    import tree_sitter
    import tree_sitter_python
    import tree_sitter_typescript

    grammar = {"python": tree_sitter_python.language, "typescript": tree_sitter_typescript.language_typescript}
    return tree_sitter.Parser(tree_sitter.Language(grammar[language_id]()))


def _says(text: str) -> bool:
    """Whether a text holds anything but brackets, quotes, operators and blanks."""
    return any(map(_is_word, text))


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _ends_word(text: str, following: str) -> bool:
    """Whether `text` ends where a word does."""
    return not (_is_word(text[-1:]) and _is_word(following[:1]))
