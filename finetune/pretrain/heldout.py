"""What a base model is judged by: files, functions and lines of held-out packages.

Drawn by hash and from all packages in turn, so that every model meets the same ones and no large package decides.
Knows nothing of models.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice, zip_longest
from pathlib import Path
from typing import TypeVar

from finetune.pretrain.passages import Explained, explained_passages, parse
from finetune.pretrain.rows import by_package, read_files
from finetune.pretrain.samples import SourceFile

SEED = 0
MAX_PACKAGE_BYTES = 2_000_000
MAX_FILE_BYTES = 16_000  # longer files give their head
MIN_LINE_CHARACTERS, MAX_LINE_CHARACTERS = 5, 120
CUT_BEHIND = frozenset(".(= ")  # where people look up from the keyboard

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HeldoutLine:
    """What is to be written of a line of code: `text[start:end]` of its file, up to the line's end."""

    file: SourceFile
    start: int
    end: int


def heldout_packages(corpus: Path) -> list[list[SourceFile]]:
    """The held-out files by package, packages and files in an order drawn by hash. Raises UserError."""
    return by_package(read_files(corpus, "heldout"), MAX_PACKAGE_BYTES, SEED)


def judged_files(packages: Sequence[Sequence[SourceFile]], n_bytes: int) -> list[SourceFile]:
    """Files of `n_bytes` in all, one of each package in turn; the last one that fits may be cut."""
    files: list[SourceFile] = []
    left = n_bytes
    for file in _in_turn(packages):
        head = _head(file, min(left, MAX_FILE_BYTES))
        if head.text:
            files.append(head)
            left -= len(head.text.encode())
        if left <= 0:
            break
    return files


def judged_functions(packages: Sequence[Sequence[SourceFile]], n_functions: int) -> list[Explained]:
    """Functions with a docstring's first sentence, one of each package in turn."""
    return list(islice(_in_turn(map(_functions, packages)), n_functions))


def judged_lines(packages: Sequence[Sequence[SourceFile]], n_lines: int) -> list[HeldoutLine]:
    """Whole lines without their indentation, one of each package in turn and at most one of a file."""
    return list(islice(_in_turn(map(_lines, packages)), n_lines))


def judged_line_ends(packages: Sequence[Sequence[SourceFile]], n_lines: int) -> list[HeldoutLine]:
    """The ends of other lines, each from behind one of `CUT_BEHIND`; drawn in the same way."""
    return list(islice(_in_turn(map(_line_ends, packages)), n_lines))


def share_of(file: SourceFile, draw: str = "") -> float:
    """A number in 0..1 that belongs to the file's name, another one for each `draw`."""
    digest = blake2b(f"{SEED}:{file.package}/{file.path}{draw}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _functions(package: Iterable[SourceFile]) -> Iterator[Explained]:
    for file in package:
        found = [passage for passage in explained_passages(file.path, file.text) if passage.kind == "function"]
        yield from found[int(share_of(file) * len(found)) :][:1]


def _lines(package: Iterable[SourceFile]) -> Iterator[HeldoutLine]:
    for file in package:
        found = list(_code_lines(file))
        yield from found[int(share_of(file) * len(found)) :][:1]


def _line_ends(package: Iterable[SourceFile]) -> Iterator[HeldoutLine]:
    for file in package:
        cuts_of_lines = [(line, cuts) for line in _code_lines(file) if (cuts := _cuts(line))]
        if cuts_of_lines:
            line, cuts = cuts_of_lines[int(share_of(file, "\0line") * len(cuts_of_lines))]
            yield HeldoutLine(file, cuts[int(share_of(file, "\0cut") * len(cuts))], line.end)


def _cuts(line: HeldoutLine) -> list[int]:
    """The offsets in a line behind one of `CUT_BEHIND`, where something still follows."""
    text = line.file.text
    return [at for at in range(line.start + 1, line.end) if text[at - 1] in CUT_BEHIND and text[at : line.end].strip()]


def _code_lines(file: SourceFile) -> Iterator[HeldoutLine]:
    """The lines that are neither blank nor short nor comment, nor inside a string of several lines."""
    tree = parse(file.text)
    if tree is None:
        return
    inside_string = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno
        for number in range(node.lineno, node.end_lineno + 1)
        if node.end_lineno > node.lineno
    }
    start = 0
    for number, line in enumerate(file.text.split("\n"), start=1):
        code = line.strip()
        is_long_enough = MIN_LINE_CHARACTERS <= len(code) <= MAX_LINE_CHARACTERS
        if number > 1 and is_long_enough and number not in inside_string and not code.startswith("#"):
            first = start + len(line) - len(line.lstrip())
            yield HeldoutLine(file, first, first + len(code))
        start += len(line) + 1


def _head(file: SourceFile, n_bytes: int) -> SourceFile:
    """The file up to the last line end within `n_bytes`."""
    data = file.text.encode()
    if len(data) <= n_bytes:
        return file
    return SourceFile(file.package, file.path, data[: data.rfind(b"\n", 0, n_bytes) + 1].decode())


def _in_turn(groups: Iterable[Iterable[T]]) -> Iterator[T]:
    """The first of each group, then the second of each, and so on; groups that are used up drop out."""
    missing = object()
    for round_ in zip_longest(*groups, fillvalue=missing):
        yield from (item for item in round_ if item is not missing)  # type: ignore[misc]
