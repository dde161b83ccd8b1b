"""What an adapter says of itself: what it was trained for and on, and how it did. Read before it is used."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.lm.errors import UserError

ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"  # as peft names them
MANIFEST_FILE = "manifest.json"
ADAPTER_FILES = (ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE)
SOURCE_SCORES = ("won", "lost")  # what an evaluation quotes from the repository


class AdapterError(UserError):
    """An adapter cannot be read, does not fit the checkpoint, or is of a kind that is not supported."""


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """What an adapter depends on."""

    fingerprint: str  # of the checkpoint: configuration, weights and tokenizer
    tokenizer_fingerprint: str
    prompt_version: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`."""

    base: BaseIdentity
    created_at: str  # ISO 8601, UTC
    repository: str  # the folder's name
    commit: str | None  # of git, that was trained on
    files: Mapping[str, str]  # sha256 of each of `ADAPTER_FILES`
    seed: int = 0
    plan: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)  # of the libraries
    trained_files: Mapping[str, str] = field(default_factory=dict)  # path -> sha256 of the text that was learned

    @property
    def made_at(self) -> float:
        """`created_at` in seconds since the epoch."""
        made = datetime.fromisoformat(self.created_at)
        return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of the files of an adapter. OSError where one is missing."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ADAPTER_FILES}


def manifest_text(manifest: Manifest) -> str:
    """What `manifest.json` holds."""
    values = finite(asdict(manifest))
    return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Plain values with null for each number that JSON has none for, as the bound of an interval over a single file."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` into a folder. OSError when the disk does not take it."""
    (folder / MANIFEST_FILE).write_text(manifest_text(manifest), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the adapter in a folder. AdapterError when it is missing or damaged."""
    path = folder / MANIFEST_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {each.name: values[each.name] for each in fields(Manifest) if each.name in values}
        manifest = Manifest(**{**known, "base": BaseIdentity(**values["base"])})
        if not isinstance(manifest.files, dict) or set(manifest.files) != set(ADAPTER_FILES):
            raise ValueError(f"it names the files {list(manifest.files)}, not {list(ADAPTER_FILES)}")
        _check_kinds(manifest)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(f"cannot read {path}: {error}; train the adapter again with `loracle-finetune`") from error
    return manifest


def check_whole(folder: Path, manifest: Manifest) -> None:
    """AdapterError unless the files of an adapter are those that its manifest names."""
    try:
        found = file_hashes(folder)
    except OSError as error:
        raise AdapterError(f"the adapter in {folder} is not whole: {error}; roll back, or train it again") from error
    for name, expected in manifest.files.items():
        if found[name] != expected:
            raise AdapterError(
                f"{folder / name} has the checksum {found[name][:12]}, its manifest names {expected[:12]}; "
                f"roll back with `loracle-finetune --rollback`, or train it again"
            )


def check_fits(folder: Path, manifest: Manifest, base: BaseIdentity) -> None:
    """AdapterError, with the field and both values, unless the adapter was made for this base."""
    wanted = asdict(manifest.base)
    for name, value in asdict(base).items():
        if wanted[name] != value:
            raise AdapterError(
                f"the adapter in {folder} was made for {name} = {_short(wanted[name])}, this model has "
                f"{_short(value)}; train it again with `loracle-finetune`"
            )


def without_source(manifest: Manifest) -> Manifest:
    """The manifest without the lines of the repository that an evaluation quotes; figures and names of files stay."""
    evaluation = manifest.scores.get("evaluation")
    if not isinstance(evaluation, Mapping):
        return manifest
    figures = {name: value for name, value in evaluation.items() if name not in SOURCE_SCORES}
    return replace(manifest, scores={**manifest.scores, "evaluation": figures})


def _check_kinds(manifest: Manifest) -> None:
    """ValueError or TypeError where a field is not what everybody takes it for: the file may come from anywhere."""
    base = manifest.base
    texts = [manifest.created_at, manifest.repository, base.fingerprint, base.tokenizer_fingerprint]
    texts += [*manifest.files.values()] + ([] if manifest.commit is None else [manifest.commit])
    mappings = (manifest.plan, manifest.scores, manifest.versions, manifest.trained_files)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(each, dict) for each in mappings):
        raise ValueError("a field is of the wrong kind")
    if not all(isinstance(digest, str) for digest in manifest.trained_files.values()):
        raise ValueError("trained_files names no checksums")
    _ = manifest.made_at  # a ValueError for what is no time


def _short(value: object) -> str:
    return str(value)[:12]
