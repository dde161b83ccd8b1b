"""Held-out files, and places in them drawn the same way every time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.repositories import Package

# The largest files would otherwise be most of the sample: two of tweepy's hold three quarters of its lines.
_MAX_COUNTED_LINES = 800
_LANGUAGES = {".py": "python", ".ts": "typescript"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One held-out text."""

    path: str  # with the package in front: "fabric/connection.py"
    language_id: str  # as editors name it
    text: str

    @property
    def uri(self) -> str:
        """A name for the protocol; nothing is read from there."""
        return f"file:///held-out/{self.path}"


def files_of(sources: Mapping[Package, Path]) -> list[SourceFile]:
    """The usable files of fetched packages, ordered by path: UTF-8 with Unix line ends, not generated, not tiny."""
    found = []
    for package, folder in sources.items():
        for path in sorted(folder.rglob("*")):
            language_id = _LANGUAGES.get(path.suffix)
            if language_id is None or path.name.endswith(("_pb2.py", ".d.ts")):
                continue
            try:
                text = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue
            if "\r" not in text and text.count("\n") >= 30:
                name = f"{package.name}/{path.relative_to(folder).as_posix()}"
                found.append(SourceFile(name, language_id, text))
    return sorted(found, key=lambda file: file.path)


def generator(*key: object) -> random.Random:
    """Random numbers that depend on nothing but the key."""
    return random.Random("/".join(map(str, key)))


def draw_files(files: Sequence[SourceFile], n: int, key: str) -> list[SourceFile]:
    """`n` draws, a file with more lines the more often."""
    weights = [min(file.text.count("\n"), _MAX_COUNTED_LINES) for file in files]
    return generator(key).choices(files, weights, k=n)


def draw_offsets(files: Sequence[SourceFile], n: int, key: str) -> list[tuple[SourceFile, int]]:
    """`n` places anywhere in the files, ordered by file and offset."""
    rng = generator(key, "offsets")
    places = [(file, rng.randrange(len(file.text) + 1)) for file in draw_files(files, n, key)]
    return sorted(places, key=lambda place: (place[0].path, place[1]))
