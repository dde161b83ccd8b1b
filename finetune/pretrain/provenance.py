"""Where training rows come from: written beside them, carried into a run's recipe, compared before time is spent.

Rows without such a file (older ones, or made elsewhere) are taken as they are: what is not recorded is not compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetune.pretrain import samples
from server.lm.errors import UserError

SHARES = {
    "explanation": samples.SHARE_EXPLANATION,
    "infilling": samples.SHARE_INFILLING,
    "snippets": samples.SHARE_SNIPPETS,
    "end_in_line": samples.SHARE_END_IN_LINE,
    "end_of_block": samples.SHARE_END_OF_BLOCK,
}
BUDGET = frozenset({"minutes", "tokens"})  # a run may go on for longer, or end sooner


class ProvenanceError(UserError):
    """Two things that are to be used together were not made for each other."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a file of rows was made from, and how."""

    corpus: str  # `Manifest.identity`
    tokenizer: str  # `Tokenizer.fingerprint`
    length: int
    seed: int
    max_package_bytes: int
    split: str = "train"  # or "heldout"
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))


def provenance_path(rows: Path) -> Path:
    """The file beside a file of rows: `rows.npy.json` for `rows.npy`."""
    return rows.with_name(rows.name + ".json")


def write_provenance(rows: Path, provenance: Provenance) -> None:
    """Notes where the rows of a file come from. Raises UserError."""
    path = provenance_path(rows)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(asdict(provenance), indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); free some space or name another file") from error


def read_provenance(rows: Path) -> Provenance | None:
    """Where the rows of a file come from; None where nobody noted it. Raises `ProvenanceError`."""
    path = provenance_path(rows)
    try:
        return parse_provenance(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ProvenanceError) as error:
        raise ProvenanceError(f"cannot read {path}: {error}; make the rows again") from error


def parse_provenance(data: Any) -> Provenance:
    """What `asdict` made of a `Provenance`, read back. Raises `ProvenanceError`."""
    try:
        return Provenance(**data)
    except TypeError as error:
        raise ProvenanceError(f"this is no record of where rows come from: {error}") from error


def check_rows(rows: Mapping[Path, Provenance | None], tokenizer: str | None) -> None:
    """Raises `ProvenanceError` for rows of another tokenizer, of held-out packages, or of more than one corpus."""
    first: tuple[Path, Provenance] | None = None
    for path, found in rows.items():
        if found is None:
            continue
        if tokenizer is not None and found.tokenizer != tokenizer:
            raise ProvenanceError(
                f"{path} was made with the tokenizer {_short(found.tokenizer)}, this run has {_short(tokenizer)}; "
                f"name the --tokenizer of the rows, or make them again"
            )
        if found.split != "train":
            raise ProvenanceError(
                f"{path} was made from the packages that are held out; name rows of the training packages"
            )
        first = first or (path, found)
        if found.corpus != first[1].corpus:
            raise ProvenanceError(
                f"{first[0]} was made from the corpus {_short(first[1].corpus)}, {path} from {_short(found.corpus)}; "
                f"make both from one, so that what is held out is held out of both"
            )


def check_corpus(recipe: Mapping[str, Any], identity: str, corpus: Path) -> None:
    """Raises `ProvenanceError` for a corpus other than the one that a run's rows were made from."""
    for name in ("rows", "long_rows"):
        recorded = (recipe.get(name) or {}).get("corpus")
        if recorded not in (None, identity):
            raise ProvenanceError(
                f"{corpus} is the corpus {_short(identity)}, the run was trained on {_short(recorded)}, which may "
                f"hold what the first holds out; name the corpus that the rows were made from"
            )


def check_recipe(folder: Path, former: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Raises `ProvenanceError` where a run is to go on with another recipe; its budget may change."""
    changes = [change for name in sorted(former.keys() - BUDGET) for change in _changes(name, name, former, recipe)]
    if changes:
        raise ProvenanceError(
            f"the run in {folder} has another recipe: {'; '.join(changes)}; give the former values, or another --output"
        )


def _changes(name: str, key: str, former: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is recorded in both and differs, in words."""
    if key not in now or former[key] == now[key]:
        return
    before, after = former[key], now[key]
    if isinstance(before, dict) and isinstance(after, dict):
        for inner in before:
            yield from _changes(f"{name}.{inner}", inner, before, after)
    else:
        yield f"{name} was {before}, is now {after}"


def _short(digest: str) -> str:
    return digest[:12]
