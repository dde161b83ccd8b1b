"""An adapter as one zip file, to be carried elsewhere: weights, figures and names of files, no source text.

What comes back from such a file is checked as the work of a stranger.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from server.lm.adapter_manifest import (
    ADAPTER_FILES,
    MANIFEST_FILE,
    AdapterError,
    BaseIdentity,
    Manifest,
    check_fits,
    check_whole,
    manifest_text,
    read_manifest,
    without_source,
)
from server.lm.errors import UserError

if TYPE_CHECKING:
    from server.lm.checkpoint import Weights

MAX_BYTES = 500_000_000
_FILES = (*ADAPTER_FILES, MANIFEST_FILE)
# What zipfile raises for what is no zip file, damaged, or of a kind that it does not read.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, OverflowError, RuntimeError, ValueError, LookupError)


def pack(folder: Path, manifest: Manifest, file: Path) -> None:
    """Writes the adapter of a folder into `file`, which is replaced whole. OSError when the disk refuses.

    The manifest goes without the lines of the repository that the evaluation quotes; nothing else in it is source.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ADAPTER_FILES:
                archive.write(folder / name, name)
            archive.writestr(MANIFEST_FILE, manifest_text(without_source(manifest)))
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def unpack(file: Path, folder: Path) -> None:
    """Writes what a zip file holds into a folder. UserError for what `pack` did not make, or did not make so.

    OSError when the folder cannot be written.
    """
    for name, content in _contents(file).items():
        (folder / name).write_bytes(content)


def check_serves(folder: Path, base: BaseIdentity, weights: Weights) -> Manifest:
    """The manifest of the adapter in a folder, all of which has been tried. AdapterError says what is wrong with it.

    It is whole, made for this base, and can be merged into `weights`, every tensor of it, into numbers.
    """
    manifest = read_manifest(folder)
    check_whole(folder, manifest)
    check_fits(folder, manifest, base)
    _check_merges(folder, weights)
    return manifest


def _contents(file: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            if sorted(archive.namelist()) != sorted(_FILES):
                raise ValueError(f"it holds {archive.namelist()[:5]}")
            if sum(info.file_size for info in infos.values()) > MAX_BYTES:
                raise ValueError("it is larger than any adapter")
            if any(info.flag_bits & 1 for info in infos.values()):
                raise ValueError("it is encrypted")
            # No more is read than the size that was just looked at.
            return {name: archive.read(info) for name, info in infos.items()}
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise UserError(
            f"{file} is no exported adapter, or damaged: {reason}; make one with `loracle-finetune REPO --export FILE`"
        ) from error


def _check_merges(folder: Path, weights: Weights) -> None:
    import numpy as np

    from server.lm.adapter import merge_adapter, taught_tokens

    try:
        if min(taught_tokens(folder), default=0) < 0:
            raise ValueError("it names tokens below 0")
        merged = merge_adapter(weights, folder)
        with np.errstate(all="ignore"):
            wrong = [name for name in merged if not np.isfinite(merged[name]).all()]
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise AdapterError(f"the adapter in {folder} cannot be merged: {error}; train it again") from error
    if wrong:
        raise AdapterError(f"the adapter in {folder} makes {wrong[0]} hold what is no number; train it again")
