"""Kept graphs: made once, checked, made again when damaged; and the quantisation they carry."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from server.lm import conversion
from server.lm.checkpoint import open_checkpoint
from server.lm.conversion import N_KEPT_GRAPHS, converted_graph
from server.lm.onnx_engine import OnnxEngine
from server.lm.quantisation import BLOCK_SIZE, quantise

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def graphs(user_directory: Path) -> Path:
    """Where the graphs of this test are kept."""
    folder = platformdirs.user_cache_path("loracle", appauthor=False) / "graphs"
    assert folder.is_relative_to(user_directory)
    return folder


@pytest.fixture
def n_built(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many graphs were built so far."""
    built: list[object] = []
    real = conversion.build_graph

    def counting(*arguments: object) -> object:
        built.append(arguments)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion, "build_graph", counting)
    return lambda: len(built)


def convert(folder: Path, precision: str = "int8") -> Path:
    graph = converted_graph(open_checkpoint(folder), precision)  # type: ignore[arg-type]
    assert isinstance(graph, Path)
    return graph


def first_logits(folder: Path, graph: Path | bytes) -> list[float]:
    engine = OnnxEngine(open_checkpoint(folder).config, graph, threads=1)
    return [float(value) for value in engine.logits(0, [8, 9, 10], 0)[0]]


def test_a_graph_is_converted_once(tiny_checkpoint: Path, graphs: Path, n_built: Callable[[], int]) -> None:
    first = convert(tiny_checkpoint)
    assert convert(tiny_checkpoint) == first
    assert n_built() == 1
    assert first.is_relative_to(graphs)
    assert [entry.name for entry in graphs.iterdir()] == [first.parent.name]  # nothing left beside it


def test_model_precision_and_conversion_version_have_graphs_of_their_own(
    make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint()
    found = {convert(folder, "int8"), convert(folder, "fp32"), convert(make_checkpoint("other", n_layer=1))}
    monkeypatch.setattr(conversion, "CONVERSION_VERSION", conversion.CONVERSION_VERSION + 1)
    found.add(convert(folder))
    assert len(found) == 4


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("file", ["graph.onnx", "tensors.bin", "checksums.json"])
@pytest.mark.parametrize("damage", [flip_a_byte, truncate, Path.unlink], ids=lambda damage: damage.__name__)
def test_a_damaged_graph_is_made_again(
    tiny_checkpoint: Path, n_built: Callable[[], int], file: str, damage: Callable[[Path], None]
) -> None:
    graph = convert(tiny_checkpoint)
    expected = first_logits(tiny_checkpoint, graph)
    damage(graph.parent / file)
    assert convert(tiny_checkpoint) == graph
    assert n_built() == 2
    assert first_logits(tiny_checkpoint, graph) == expected


def test_where_nothing_can_be_written_the_graph_is_made_in_memory(
    tiny_checkpoint: Path, graphs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = first_logits(tiny_checkpoint, convert(tiny_checkpoint))
    graphs.rename(graphs.with_name("moved"))
    graphs.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        graph = converted_graph(open_checkpoint(tiny_checkpoint), "int8")
    assert isinstance(graph, bytes)
    assert str(graphs) in caplog.text
    assert first_logits(tiny_checkpoint, graph) == expected


def test_a_disk_that_fills_up_leaves_nothing_behind(
    tiny_checkpoint: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "_flush", full)
    assert isinstance(converted_graph(open_checkpoint(tiny_checkpoint), "int8"), bytes)
    assert list(graphs.iterdir()) == []


def test_another_process_may_be_faster(tiny_checkpoint: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = conversion.build_graph

    def slow(*arguments: object) -> object:
        monkeypatch.setattr(conversion, "build_graph", real)
        convert(tiny_checkpoint)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion, "build_graph", slow)
    assert convert(tiny_checkpoint).is_file()
    assert len(list(graphs.iterdir())) == 1


def test_the_graphs_used_last_are_kept(
    make_checkpoint: Callable[..., Path], graphs: Path, n_built: Callable[[], int]
) -> None:
    folders = [make_checkpoint(str(rank), n_layer=1, n_positions=16 + rank) for rank in range(N_KEPT_GRAPHS + 1)]
    made = [convert(folder) for folder in folders[:N_KEPT_GRAPHS]]
    for age, graph in enumerate(reversed(made)):
        os.utime(graph.parent, (1e9 - age, 1e9 - age))
    convert(folders[0])  # the oldest, but used again
    last = convert(folders[-1])
    kept = {entry.name for entry in graphs.iterdir()}
    assert kept == {graph.parent.name for graph in [made[0], *made[2:], last]}
    assert n_built() == N_KEPT_GRAPHS + 1


def test_what_a_killed_conversion_left_is_removed(tiny_checkpoint: Path, graphs: Path) -> None:
    for name, seconds in (("partial-killed", 1e9), ("partial-running", 4e9)):
        (graphs / name).mkdir(parents=True)
        os.utime(graphs / name, (seconds, seconds))
    graph = convert(tiny_checkpoint)
    assert {entry.name for entry in graphs.iterdir()} == {"partial-running", graph.parent.name}


def test_what_another_process_removes_meanwhile_is_passed_over(
    tiny_checkpoint: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (graphs / "partial-killed").mkdir(parents=True)
    os.utime(graphs / "partial-killed", (1e9, 1e9))
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / "gone", *real(folder)]))
    graph = convert(tiny_checkpoint)
    assert graph.is_file()
    assert list(real(graphs)) == [graph.parent]


def test_a_folder_that_cannot_be_pruned_serves(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, n_built: Callable[[], int]
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert convert(tiny_checkpoint).is_file()
    assert n_built() == 1


def test_serving_needs_no_torch(tiny_checkpoint: Path) -> None:
    program = (
        "import sys; from server.lm.model import load_model; load_model(sys.argv[1], threads=1); "
        "print([name for name in ('torch', 'transformers', 'peft', 'onnxruntime.quantization') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_checkpoint)], env=environment, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.parametrize("shape", [(5, 64), (3, 40), (1, 7), (1500, 32)], ids=str)
def test_every_weight_is_within_half_a_step(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    codes, scales = quantise(matrix)
    n_blocks = -(-shape[1] // BLOCK_SIZE)
    assert (codes.shape, scales.shape) == ((shape[0], n_blocks, BLOCK_SIZE), (shape[0], n_blocks))
    steps = np.repeat(np.abs(scales), BLOCK_SIZE, axis=1)[:, : shape[1]]
    values = (scales[:, :, None] * (codes.astype(np.float32) - 128)).reshape(shape[0], -1)[:, : shape[1]]
    # The largest value of the short side may lie a step beyond the last code.
    assert np.all(np.abs(values - matrix) <= 1.001 * steps)
    assert np.mean(np.abs(values - matrix) <= 0.501 * steps) > 0.99
    largest = np.abs(matrix).max()
    assert np.abs(values).max() == pytest.approx(largest, rel=1e-6)


def test_weights_that_are_all_zero_stay_zero() -> None:
    codes, scales = quantise(np.zeros((2, 32), np.float32))
    assert np.all(codes == 128) and np.all(scales == 0)
