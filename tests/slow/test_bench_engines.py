"""The engines that are timed side by side compute the same: greedy tokens in fp32, whatever their caches hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import engines_own, engines_peers
from tests.bench.engines import prompt_of
from tests.bench.engines_process import Writer
from tests.bench.engines_weights import gpt2_shape, write_random_checkpoint

pytestmark = pytest.mark.slow

TINY = gpt2_shape(n_layer=2, n_head=4, n_embd=64, vocab_size=500)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("random")
    write_random_checkpoint(folder, TINY)
    return folder


def test_the_reference_and_generate_write_the_same_whatever_was_cached(checkpoint: Path) -> None:
    prompt = prompt_of(TINY, 80)
    writers = [engines_own.reference(checkpoint, 1), engines_peers.Transformers(checkpoint, 1)]
    expected = writers[0].write(prompt, 0, 8)
    assert len(set(expected)) > 2  # not one token for ever, in which all would agree
    for writer in writers:
        assert writer.write(prompt, 0, 8) == expected
        assert writer.write(prompt[:70], 40, 1) != []
        assert writer.write(prompt, 70, 8) == expected


@pytest.mark.parametrize("library, make", [
    ("llama_cpp", lambda folder: engines_peers.LlamaCpp(folder, "F32", 1, uses_flash_attention=False)),
    ("ctranslate2", lambda folder: engines_peers.CTranslate2(folder, "float32", 1)),
])  # fmt: skip
def test_others_write_the_same_in_fp32(checkpoint: Path, library: str, make: Callable[[Path], Writer]) -> None:
    pytest.importorskip(library)
    prompt = prompt_of(TINY, 80)
    expected = engines_own.reference(checkpoint, 1).write(prompt, 0, 8)
    writer = make(checkpoint)
    assert writer.write(prompt, 0, 8) == expected
    assert writer.write(prompt, 70, 8) == expected
    assert writer.write(prompt, 75, 8) == expected
