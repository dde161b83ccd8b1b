"""The record of a corpus: which packages it was made of, in which version, under which licence.

A corpus is a folder with `train.jsonl`, `heldout.jsonl` (one {"package", "path", "text"} a line) and
`manifest.json`. Names no folder of the machine that built it.
"""

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from server.lm.errors import UserError

FORMAT = 1
Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("heldout", "train")


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """One package that gave at least one file."""

    name: str
    version: str
    archive: str  # file name; "" for the standard library
    sha256: str
    licence: str
    n_files: int
    n_bytes: int
    split: Split


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a corpus holds and what was left out, by reason."""

    identity: str  # see `identity`
    python: str  # of the build: what parses depends on it
    packages: tuple[PackageRecord, ...]
    dropped_packages: dict[str, list[str]] = field(default_factory=dict)
    dropped_files: dict[str, int] = field(default_factory=dict)
    n_secrets_cut: int = 0

    def totals(self) -> dict[str, dict[str, int]]:
        """Packages, files and bytes of each split."""
        totals: dict[str, dict[str, int]] = {split: {"packages": 0, "files": 0, "bytes": 0} for split in SPLITS}
        for package in self.packages:
            of_split = totals[package.split]
            of_split["packages"] += 1
            of_split["files"] += package.n_files
            of_split["bytes"] += package.n_bytes
        return totals


def identity(folder: Path) -> str:
    """sha256 over the corpus files of a folder: two corpora with the same one are the same text. Raises UserError."""
    digest = sha256()
    for split in SPLITS:
        path = folder / f"{split}.jsonl"
        try:
            digest.update(f"{split}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); build the corpus again") from error
    return digest.hexdigest()


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Writes the manifest as JSON with sorted, stable content."""
    document = {"format": FORMAT, **asdict(manifest), "totals": manifest.totals()}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file. Raises UserError when it is missing, damaged or of another format."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"manifest {path} cannot be read ({error.strerror}); name an existing manifest.json") from error
    except ValueError as error:
        raise UserError(f"manifest {path} is not JSON ({error}); build the corpus again") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise UserError(
            f"manifest {path} has format {found}, this version reads format {FORMAT}; build the corpus again"
        )
    try:
        packages = tuple(PackageRecord(**record) for record in document["packages"])
        return Manifest(
            document["identity"],
            document["python"],
            packages,
            document["dropped_packages"],
            document["dropped_files"],
            document["n_secrets_cut"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"manifest {path} is damaged (field {error}); build the corpus again") from error
