"""A package as a repository on disk from which some files are missing: those that the answers are judged by.

The library's own source files, without tests, documentation, bundled data and bundled foreign code. About 15 % of them
are held out by a hash of their path. Only the others are written into the folder in which the server is started.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from tests.bench.heldout import SourceFile
from tests.bench.repositories import Package

HELD_OUT_SHARE = 0.15
MAX_FILE_BYTES = 500_000
_LANGUAGES = {".py": "python", ".ts": "typescript"}
_NOT_OWN = frozenset("test tests docs doc examples extra data contrib vendor _vendor".split())
_GENERATED = ("_pb2.py", "_pb2_grpc.py", ".d.ts")


@dataclass(frozen=True, slots=True)
class Repository:
    """A package's files; paths are relative to the root and say the package's folder first."""

    name: str
    root: Path  # on disk, with `on_disk` in it
    on_disk: tuple[SourceFile, ...]
    held_out: tuple[SourceFile, ...]

    def uri(self, path: str) -> str:
        """Where an editor would have a file open."""
        return (self.root / path).as_uri()


def prepare(package: Package, sources: Path, folder: Path) -> Repository:
    """The package's files, split, and those that are not held out written below `folder`."""
    files = own_files(package, sources)
    held_out = tuple(file for file in files if is_held_out(package.name, file.path))
    on_disk = tuple(file for file in files if file not in held_out)
    root = folder / package.name
    write(on_disk, root)
    return Repository(package.name, root, on_disk, held_out)


def write(files: Iterable[SourceFile], root: Path) -> None:
    """Puts files where they belong below `root`, which is made."""
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8", newline="")


def own_files(package: Package, sources: Path) -> list[SourceFile]:
    """The library's usable files by path: UTF-8 with Unix line ends, not generated, of a common size."""
    above = sources if package.sources == "." else sources.parent
    found = []
    for path in sorted(sources.rglob("*")):
        relative = path.relative_to(above)
        language_id = _LANGUAGES.get(path.suffix)
        if language_id is None or path.name.endswith(_GENERATED) or _NOT_OWN & set(relative.parts[:-1]):
            continue
        content = path.read_bytes()
        if b"\r" in content or b"\0" in content or len(content) > MAX_FILE_BYTES:
            continue
        try:
            found.append(SourceFile(relative.as_posix(), language_id, content.decode("utf-8")))
        except UnicodeDecodeError:
            continue
    return sorted(found, key=lambda file: file.path)


def is_held_out(name: str, path: str) -> bool:
    """Whether a file is one that answers are judged by; the same on every machine."""
    return drawn(name, path) < HELD_OUT_SHARE


def drawn(*key: object) -> float:
    """A number from 0 up to 1 that depends on nothing but the key."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
