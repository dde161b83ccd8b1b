"""Cursors in held-out files with the rest of the line as it was, drawn by hash: the same ones in every run.

Lines of 6 to 160 characters without their indentation, that are neither comment nor import (nor part of one over
several lines). Three kinds:

- *next_line*: the cursor stands behind the indentation.
- *mid_line*: behind a `.`, `(`, `=` or blank inside the line's code, which one is drawn by hash.
- *api_line*: before the line's first name that this file has nowhere else (as a word, comments and strings counted),
  that is no word of the language's own library, and that the repository's other files have as a name.

A line gives at most one case of a kind. What is to be written is the rest of the line; the document that is opened has
the text before the cursor and, from the line's end on, the text after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.bench.heldout import SourceFile
from tests.bench.quality.reading import WORD, Reading, read
from tests.bench.quality.repository import Repository, drawn

Kind = Literal["next_line", "mid_line", "api_line"]
KINDS: tuple[Kind, ...] = ("next_line", "mid_line", "api_line")
LINE_LENGTHS = range(6, 161)
_CUT_BEHIND = ".(= "


@dataclass(frozen=True, slots=True)
class Case:
    """One cursor."""

    repository: str
    kind: Kind
    path: str
    language_id: str
    line: int  # from 1
    before: str
    target: str  # the rest of the line, without blanks at its end
    after: str

    @property
    def id(self) -> str:
        """The name of the case in every run."""
        return f"{self.repository}/{self.kind}/{self.path}:{self.line}"

    @property
    def file(self) -> str:
        """The file that it is from, with the repository."""
        return f"{self.repository}/{self.path}"

    @property
    def document(self) -> str:
        return self.before + self.after


def draw(repository: Repository, n_a_kind: int, own_names: frozenset[str]) -> list[Case]:
    """`n_a_kind` cases of each kind, fewer where there are not so many, ordered by file and line.

    `own_names` are the words of the language's own library. A smaller draw is part of a larger one.
    """
    elsewhere = frozenset(name for file in repository.on_disk for _, name in read(file.text, file.language_id).names)
    wanted = elsewhere - own_names
    found: dict[Kind, list[Case]] = {kind: [] for kind in KINDS}
    for file in repository.held_out:
        for case in _cases_in(repository.name, file, wanted):
            found[case.kind].append(case)
    kept = [case for kind in KINDS for case in sorted(found[kind], key=lambda each: drawn(each.id))[:n_a_kind]]
    return sorted(kept, key=lambda case: (case.path, case.line, KINDS.index(case.kind)))


def _cases_in(repository: str, file: SourceFile, wanted: frozenset[str]) -> Iterator[Case]:
    """All cases of a file. `wanted` are the names that an api line may be about."""
    reading = read(file.text, file.language_id)
    in_file = Counter(WORD.findall(file.text))
    start = 0
    for number, line in enumerate(file.text.split("\n"), start=1):
        first, end = start + len(line) - len(line.lstrip()), start + len(line)
        start = end + 1
        if len(line.strip()) not in LINE_LENGTHS or not reading.is_code(first, end):
            continue
        cursors: dict[Kind, int | None] = {
            "next_line": first,
            "mid_line": _cut(file.text, first, reading.code_end(first, end), f"{repository}/{file.path}:{number}"),
            "api_line": _api_name(reading, first, end, Counter(WORD.findall(line)), in_file, wanted),
        }
        for kind, cursor in cursors.items():
            if cursor is not None:
                target = file.text[cursor:end].rstrip()
                before, after = file.text[:cursor], file.text[end:]
                yield Case(repository, kind, file.path, file.language_id, number, before, target, after)


def _cut(text: str, first: int, end: int, key: str) -> int | None:
    """A place inside the code from `first` to `end` to cut at; None where there is none."""
    code = text[first:end].rstrip()
    places = [first + at for at in range(1, len(code)) if code[at - 1] in _CUT_BEHIND]
    return places[int(drawn("cut", key) * len(places))] if places else None


def _api_name(
    reading: Reading,
    first: int,
    end: int,
    in_line: Counter[str],
    in_file: Counter[str],
    wanted: frozenset[str],
) -> int | None:
    """The place of the first name of a line that the file has nowhere else and others have; None without one."""
    names = (place for place in reading.names if first <= place[0] < end)
    return next((at for at, name in names if name in wanted and in_line[name] == in_file[name]), None)


def count(cases: Sequence[Case], kind: Kind) -> int:
    """How many cases are of a kind."""
    return sum(case.kind == kind for case in cases)
