"""The files of a finished run in parts of at most so many MiB, with checksums, and the files put together again.

The files are laid end to end and cut, so that few parts travel, in as many journeys as are needed. `parts.json` says
which files they make and what each part must be; it goes with every journey.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from server.lm.errors import UserError

PARTS_FILE = "parts.json"
BLOCK_BYTES = 1 << 20


class PartsError(UserError):
    """Parts cannot be written, or those that are there do not make the files."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part, or a whole file."""

    name: str
    n_bytes: int
    sha256: str


def write_parts(files: Sequence[Path], output: Path, max_bytes: int) -> list[Path]:
    """Cuts the files, laid end to end, into parts in `output`; the paths written, the manifest last.

    Former parts there are replaced. Raises `PartsError`.
    """
    whole = [_piece(path) for path in files]
    n_parts = max(1, -(-sum(piece.n_bytes for piece in whole) // max_bytes))
    parts: list[Piece] = []
    try:
        output.mkdir(parents=True, exist_ok=True)
        for former in [output / PARTS_FILE, *output.glob("part-*")]:
            former.unlink(missing_ok=True)
        for number, content in enumerate(_cut(files, max_bytes)):
            name = f"part-{number + 1}-of-{n_parts}"
            _write(output / name, content)
            parts.append(Piece(name, len(content), hashlib.sha256(content).hexdigest()))
        manifest = {"format": 1, "files": [asdict(piece) for piece in whole], "parts": [asdict(p) for p in parts]}
        _write(output / PARTS_FILE, (json.dumps(manifest, indent=1) + "\n").encode())
    except OSError as error:
        raise PartsError(f"cannot write parts into {output}: {error}; free some space, the run is whole") from error
    return [*(output / part.name for part in parts), output / PARTS_FILE]


def join_parts(folders: Sequence[Path], output: Path) -> list[str]:
    """Puts the files of parts, which may lie in several folders, into a new folder `output`; their names.

    Every missing or damaged part is named, and then nothing is written. Raises `PartsError`.
    """
    files, parts = _read_manifest(folders)
    if output.exists():
        raise PartsError(f"{output} is there already; name a folder that is not, or move it away")
    found: list[Path] = []
    wrong: list[str] = []
    for part in parts:
        candidates = [folder / part.name for folder in folders if (folder / part.name).is_file()]
        whole = [path for path in candidates if _is(path, part)]
        found += whole[:1]
        if not whole:
            wrong.append(f"{candidates[0]} is damaged" if candidates else f"{part.name} is missing")
    if wrong:
        raise PartsError(f"{'; '.join(wrong)}; copy {'it' if len(wrong) == 1 else 'them'} again")
    partial = output.with_name(output.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _split(found, files, partial)
        for file in files:
            if not _is(partial / file.name, file):
                raise PartsError(f"the parts do not make {file.name}; write them again from the run")
        partial.rename(output)
    except OSError as error:
        raise PartsError(f"cannot write {output}: {error}; free some space, the parts are whole") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [file.name for file in files]


def _read_manifest(folders: Sequence[Path]) -> tuple[list[Piece], list[Piece]]:
    """Files and parts as the folders' manifests say, which must agree; one is enough."""
    manifests: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        path = folder / PARTS_FILE
        try:
            manifests[path] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise PartsError(f"cannot read {path}: {error}; copy it again") from error
    if not manifests:
        raise PartsError(f"no {PARTS_FILE} in {', '.join(map(str, folders))}; copy it along with the parts")
    path, manifest = next(iter(manifests.items()))
    for other, content in manifests.items():
        if content != manifest:
            raise PartsError(f"{path} and {other} are of two runs; name the folders of one")
    try:
        files = [Piece(**piece) for piece in manifest["files"]]
        parts = [Piece(**piece) for piece in manifest["parts"]]
    except (KeyError, TypeError) as error:
        raise PartsError(f"cannot read {path}: {error!r}; copy it again") from error
    for piece in [*files, *parts]:
        if Path(piece.name).name != piece.name or piece.name in ("", ".", ".."):
            raise PartsError(f"{path} names {piece.name!r}, which is no plain file name; copy it again")
    return files, parts


def _cut(files: Iterable[Path], n_bytes: int) -> Iterator[bytes]:
    """The files end to end, `n_bytes` at a time; the last piece may be shorter, and is empty for empty files alone."""
    content = bytearray()
    n_cut = 0
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(min(BLOCK_BYTES, n_bytes - len(content))):
                content += block
                if len(content) == n_bytes:
                    yield bytes(content)
                    n_cut += 1
                    content.clear()
    if content or not n_cut:
        yield bytes(content)


def _split(parts: Iterable[Path], files: Iterable[Piece], folder: Path) -> None:
    """Writes the files from the parts laid end to end; what is missing at the end makes a file short."""
    blocks = _cut(parts, BLOCK_BYTES)
    rest = b""
    for file in files:
        left = file.n_bytes
        with (folder / file.name).open("wb") as stream:
            while left and (rest := rest or next(blocks, b"")):
                stream.write(rest[:left])
                taken = min(left, len(rest))
                rest, left = rest[taken:], left - taken


def _is(path: Path, piece: Piece) -> bool:
    try:
        return path.stat().st_size == piece.n_bytes and _piece(path).sha256 == piece.sha256
    except (OSError, PartsError):
        return False


def _piece(path: Path) -> Piece:
    try:
        with path.open("rb") as stream:
            return Piece(path.name, path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())
    except OSError as error:
        raise PartsError(f"cannot read {path}: {error}; end the run first") from error


def _write(path: Path, content: bytes) -> None:
    """Writes aside and renames."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
