"""Checkpoints as onnx graphs, kept in the user's cache folder so that only the first start converts.

A kept graph is a folder named after everything that decides its content. It is written aside and renamed, checked
before use, and made again when damaged; the oldest ones go. Needs numpy, safetensors and onnx, no torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from numpy.typing import NDArray

from server.lm.checkpoint import Checkpoint
from server.lm.graph import Precision, build_graph

if TYPE_CHECKING:
    import onnx

logger = logging.getLogger(__name__)

# Part of a kept graph's name: raise it with every change to what `graph` or `quantisation` produce.
CONVERSION_VERSION = 5
N_KEPT_GRAPHS = 4  # two precisions, with and without an adapter

_GRAPH_FILE, _TENSORS_FILE, _CHECKSUMS_FILE = "graph.onnx", "tensors.bin", "checksums.json"
_ASIDE = "partial-"
_ASIDE_LIFETIME_S = 3600  # an older one belongs to a conversion that was killed
_ALIGNMENT = 4096  # onnxruntime maps the tensors into memory, which works in pages


def converted_graph(checkpoint: Checkpoint, precision: Precision) -> Path | bytes:
    """The graph for onnxruntime: a file in the user's cache folder, or the graph itself where nothing can be written.

    An adapter is served by a checkpoint with merged weights (`adapter.merge_adapter`) and a fingerprint of its own.
    """
    name = hashlib.sha256(f"{CONVERSION_VERSION} {precision} {checkpoint.fingerprint}".encode()).hexdigest()[:32]
    folder = _graphs_folder() / name
    if _is_whole(folder):
        _mark_used(folder)
        return folder / _GRAPH_FILE
    started = time.monotonic()
    try:
        _keep(checkpoint, precision, folder)
        graph: Path | bytes = folder / _GRAPH_FILE
    except OSError as error:
        logger.warning("converted models cannot be kept in %s (%s): every start converts again", folder.parent, error)
        graph = _in_memory(checkpoint, precision)
    else:
        _prune(folder.parent)
    logger.info("converted %s to %s in %.0f ms", checkpoint.folder, precision, 1000 * (time.monotonic() - started))
    return graph


def _graphs_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("loracle", appauthor=False) / "graphs"


def _keep(checkpoint: Checkpoint, precision: Precision, folder: Path) -> None:
    """Writes the graph beside `folder` and renames it there. OSError when the disk does not take it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=folder.parent))
    try:
        with (aside / _TENSORS_FILE).open("wb") as file:
            tensors = _TensorFile(file)
            model = build_graph(checkpoint.config, checkpoint.weights, precision, tensors.store)
            _flush(file)
        graph: bytes = model.SerializeToString()
        with (aside / _GRAPH_FILE).open("wb") as file:
            file.write(graph)
            _flush(file)
        checksums = {_TENSORS_FILE: [tensors.n_bytes, tensors.checksum], _GRAPH_FILE: [len(graph), zlib.crc32(graph)]}
        (aside / _CHECKSUMS_FILE).write_text(json.dumps(checksums), encoding="utf-8")
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder)
        try:
            aside.rename(folder)
        except OSError:
            if not _is_whole(folder):  # whole: another process was faster, and wrote the same
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _in_memory(checkpoint: Checkpoint, precision: Precision) -> bytes:
    from onnx import numpy_helper

    def store(name: str, array: NDArray[Any]) -> onnx.TensorProto:
        return numpy_helper.from_array(array, name)

    graph: bytes = build_graph(checkpoint.config, checkpoint.weights, precision, store).SerializeToString()
    return graph


class _TensorFile:
    """The tensors of a graph in a file beside it, which onnxruntime reads without a copy of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.n_bytes = 0
        self.checksum = 0

    def store(self, name: str, array: NDArray[Any]) -> onnx.TensorProto:
        """Appends the values; the tensor that says where they lie."""
        from onnx import TensorProto, helper

        self._write(bytes(-self.n_bytes % _ALIGNMENT))
        offset = self.n_bytes
        self._write(array.data.cast("B"))
        tensor = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", _TENSORS_FILE), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self.checksum = zlib.crc32(data, self.checksum)
        self.n_bytes += len(data)


def _flush(file: IO[bytes]) -> None:
    """To the disk itself: after a power failure a renamed folder must not hold empty files."""
    file.flush()
    os.fsync(file.fileno())


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds a graph just as it was written."""
    if not folder.is_dir():
        return False
    try:
        checksums = json.loads((folder / _CHECKSUMS_FILE).read_text(encoding="utf-8"))
        for name in (_GRAPH_FILE, _TENSORS_FILE):
            n_bytes, checksum = checksums[name]
            if (folder / name).stat().st_size != n_bytes or _checksum(folder / name) != checksum:
                raise ValueError(f"{name} has changed since it was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("the converted model in %s is damaged (%s)", folder, error)
        return False
    return True


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _mark_used(folder: Path) -> None:
    try:
        os.utime(folder)
    except OSError:
        pass  # a read-only cache serves as well; only the order of pruning is lost


def _prune(graphs_folder: Path) -> None:
    """Removes all but the graphs used last, and what killed conversions left behind, as far as the disk allows."""
    entries = list[tuple[float, Path]]()
    with suppress(OSError):
        for entry in graphs_folder.iterdir():
            with suppress(OSError):  # another process prunes as well
                entries.append((entry.stat().st_mtime, entry))
    entries.sort(reverse=True)
    kept = [entry for _, entry in entries if not entry.name.startswith(_ASIDE)][:N_KEPT_GRAPHS]
    for modified, entry in entries:
        is_aside = entry.name.startswith(_ASIDE)
        if (is_aside and time.time() - modified > _ASIDE_LIFETIME_S) or (not is_aside and entry not in kept):
            shutil.rmtree(entry, ignore_errors=True)
