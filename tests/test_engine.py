"""Engines against transformers, and the prefix cache against an engine that only remembers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.lm.checkpoint import open_checkpoint
from server.lm.conversion import converted_graph
from server.lm.engine import PREFILL_CHUNK_TOKENS, Engine, Logits, ModelConfig, PrefixCache, default_threads
from server.lm.graph import GraphError, Precision
from server.lm.onnx_engine import OnnxEngine
from server.lm.torch_engine import TorchEngine


def make_onnx(folder: Path, precision: Precision = "fp32") -> OnnxEngine:
    checkpoint = open_checkpoint(folder)
    return OnnxEngine(checkpoint.config, converted_graph(checkpoint, precision), threads=1)


def make_torch(folder: Path) -> TorchEngine:
    return TorchEngine(open_checkpoint(folder).config, folder, threads=1)


@pytest.fixture(params=[make_onnx, make_torch], ids=["onnx", "torch"])
def engine(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> Engine:
    made: Engine = request.param(tiny_checkpoint)
    return made


def some_tokens(n_tokens: int, seed: int = 0) -> list[int]:
    return [int(token_id) for token_id in np.random.default_rng(seed).integers(8, 440, n_tokens)]


def reference_logits(folder: Path, token_ids: Sequence[int]) -> Logits:
    """What transformers says of the whole sequence, without any cache: (tokens, vocab)."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits: Logits = model(torch.tensor([token_ids]), use_cache=False).logits[0].numpy()
    return logits


def greedy(engine: Engine, prompt: Sequence[int], n_tokens: int, slot: int = 0) -> list[int]:
    cache, sequence = PrefixCache(engine, slot), list(prompt)
    for _ in range(n_tokens):
        logits = cache.advance(sequence).logits
        assert logits is not None
        sequence.append(int(logits[-1].argmax()))
    return sequence[len(prompt) :]


# What a checkpoint may look like.
SHAPES: list[dict[str, Any]] = [
    {},
    {"n_embd": 48, "n_head": 3},  # no multiple of the quantisation block
    {"n_embd": 40, "n_head": 5, "n_inner": 72, "n_layer": 1},
    {"n_positions": 128, "vocab_size": 441, "layer_norm_epsilon": 1e-3},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_mode_gives_the_logits_of_transformers(
    make_checkpoint: Callable[..., Path], shape: dict[str, Any]
) -> None:
    folder, token_ids = make_checkpoint(**shape), some_tokens(100)
    logits = make_onnx(folder).logits(0, token_ids, 0, len(token_ids))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference_logits(folder, token_ids), atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_eight_bits_stay_close_to_the_exact_logits(make_checkpoint: Callable[..., Path], shape: dict[str, Any]) -> None:
    folder, token_ids = make_checkpoint(**shape), some_tokens(100)
    exact, rounded = (make_onnx(folder, precision).logits(0, token_ids, 0, 100) for precision in ("fp32", "int8"))
    difference = np.sqrt(np.mean((exact - rounded) ** 2)) / exact.std()
    assert 0 < difference < 0.06  # 0.03 here; a scale or a block out of place gives 0.3 and more


def test_untied_head_is_used(make_checkpoint: Callable[..., Path]) -> None:
    from safetensors.numpy import load_file, save_file

    folder = make_checkpoint(tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"][::-1].copy()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    logits = make_onnx(folder).logits(0, some_tokens(10), 0, 10)
    np.testing.assert_allclose(logits, reference_logits(folder, some_tokens(10)), atol=1e-3)
    assert make_onnx(folder, "int8").logits(0, some_tokens(10), 0)[0].argmax() == logits[-1].argmax()


def test_both_engines_write_the_same_greedy_tokens(tiny_checkpoint: Path) -> None:
    onnx, torch = make_onnx(tiny_checkpoint), make_torch(tiny_checkpoint)
    for seed in range(5):
        prompt = some_tokens(30 * seed + 1, seed)
        assert greedy(onnx, prompt, 12) == greedy(torch, prompt, 12)


@pytest.mark.parametrize(
    "cuts", [[1], [63, 64], [100, 101, 102], range(1, 150)], ids=["early", "middle", "late", "every token"]
)
def test_cached_and_chunked_decode_equal_one_full_pass(engine: Engine, cuts: Sequence[int]) -> None:
    token_ids = some_tokens(150)
    full = engine.logits(1, token_ids, 0, len(token_ids))
    edges = [0, *cuts, len(token_ids)]
    parts = [
        engine.logits(0, token_ids[start:end], start, end - start) for start, end in zip(edges, edges[1:], strict=False)
    ]
    np.testing.assert_allclose(np.concatenate(parts), full, atol=1e-4)


def test_eight_bit_results_do_not_depend_on_the_chunks(tiny_checkpoint: Path) -> None:
    engine, token_ids = make_onnx(tiny_checkpoint, "int8"), some_tokens(150)
    full = engine.logits(0, token_ids, 0, 150)
    parts = [engine.logits(1, token_ids[start : start + 25], start, 25) for start in range(0, 150, 25)]
    np.testing.assert_allclose(np.concatenate(parts), full, atol=1e-4)


def test_slots_do_not_disturb_each_other(engine: Engine) -> None:
    first, second = some_tokens(50, 1), some_tokens(70, 2)
    alone = engine.logits(0, first, 0)
    engine.logits(0, first[:30], 0)
    engine.logits(1, second, 0)
    np.testing.assert_allclose(engine.logits(0, first[30:], 30), alone, atol=1e-4)


def test_any_shorter_prefix_can_be_continued(engine: Engine) -> None:
    first, second = some_tokens(90, 1), some_tokens(40, 2)
    engine.logits(0, first, 0)
    continued = engine.logits(0, second, 35)
    np.testing.assert_allclose(continued, engine.logits(1, first[:35] + second, 0), atol=1e-4)


def test_only_the_wanted_positions_come_back(engine: Engine) -> None:
    token_ids = some_tokens(20)
    everything = engine.logits(0, token_ids, 0, 20)
    for n_keep in (0, 1, 3, 20):
        kept = engine.logits(0, token_ids, 0, n_keep)
        assert kept.shape == (n_keep, 440)
        np.testing.assert_allclose(kept, everything[20 - n_keep :], atol=1e-4)


@pytest.mark.parametrize("n_tokens, n_past, n_keep", [(0, 0, 0), (5, 1020, 1), (1025, 0, 1), (3, 0, 4), (3, -1, 1)])
def test_what_cannot_be_fed_is_a_value_error(engine: Engine, n_tokens: int, n_past: int, n_keep: int) -> None:
    with pytest.raises(ValueError, match="cannot|exceed the 1024 positions"):
        engine.logits(0, some_tokens(n_tokens), n_past, n_keep)


def test_the_last_position_can_be_used(engine: Engine) -> None:
    token_ids = some_tokens(1024)
    full = engine.logits(0, token_ids, 0)
    engine.logits(1, token_ids[:1023], 0)
    np.testing.assert_allclose(engine.logits(1, token_ids[1023:], 1023), full, atol=1e-4)


def test_head_width_that_onnxruntime_cannot_do_is_named(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint(n_embd=60, n_head=5)
    with pytest.raises(GraphError, match=r"width 12 .*n_embd = 60 / n_head = 5.*--engine torch"):
        make_onnx(folder)
    assert make_torch(folder).logits(0, [8], 0).shape == (1, 440)


def test_one_core_is_left_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for n_cores, n_threads in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=n_cores: set(range(n)), raising=False)
        assert default_threads() == n_threads


class RememberingEngine:
    """Logits that say what the slot holds: the first is the number of positions, the second a sum of their ids."""

    n_slots = 2

    def __init__(self, n_positions: int = 1024) -> None:
        self.config = ModelConfig(1, 1, 8, 32, n_positions, 2, 1e-5)
        self.slots: list[list[int]] = [[], []]
        self.fed: list[int] = []  # tokens per call
        self.fails_after = 1000

    def logits(self, slot: int, token_ids: Sequence[int], n_past: int, n_keep: int = 1) -> Logits:
        held = self.slots[slot]
        assert n_past <= len(held), "positions that were never fed"
        if len(self.fed) >= self.fails_after:
            raise RuntimeError("out of memory")
        self.fed.append(len(token_ids))
        held[n_past:] = token_ids
        ends = range(len(held) - n_keep + 1, len(held) + 1)
        return np.array([[end, weighted_sum(held[:end])] for end in ends], np.float32).reshape(n_keep, 2)


def weighted_sum(token_ids: Sequence[int]) -> int:
    return sum(rank * token_id for rank, token_id in enumerate(token_ids, 1)) % 65536


sequences = st.lists(st.integers(0, 2), min_size=1, max_size=200)
requests = st.lists(st.tuples(sequences, st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=8)


@given(requests)
@settings(max_examples=100, deadline=None)
def test_whatever_came_before_the_logits_are_those_of_the_whole_sequence(
    sent: list[tuple[list[int], int, int]],
) -> None:
    engine = RememberingEngine()
    cache = PrefixCache(engine, 1)
    for token_ids, n_keep, n_chunks in sent:
        n_keep = min(n_keep, len(token_ids))
        budget = iter([False] * n_chunks)
        advance = cache.advance(token_ids, n_keep=n_keep, should_stop=lambda left=budget: next(left, True))
        n_held = advance.n_reused + advance.n_fed
        assert list(cache.tokens) == token_ids[:n_held] == engine.slots[1][:n_held]
        assert advance.finished == (n_held == len(token_ids)) == (advance.logits is not None)
        if advance.logits is not None:
            ends = range(len(token_ids) - n_keep + 1, len(token_ids) + 1)
            assert advance.logits.tolist() == [[end, weighted_sum(token_ids[:end])] for end in ends]


def test_only_what_is_new_is_fed() -> None:
    cache = PrefixCache(engine := RememberingEngine(), 0)
    cache.advance(some_tokens(50))
    advance = cache.advance([*some_tokens(50)[:40], 1, 2, 3])
    assert (advance.n_reused, advance.n_fed, engine.fed[-1]) == (40, 3, 3)


def test_the_last_token_is_fed_again_for_its_logits() -> None:
    cache = PrefixCache(RememberingEngine(), 0)
    cache.advance([5, 6, 7])
    for token_ids, n_keep, expected in (([5, 6, 7], 1, (2, 1)), ([5, 6], 1, (1, 1)), ([5, 6], 2, (0, 2))):
        advance = cache.advance(token_ids, n_keep=n_keep)
        assert (advance.n_reused, advance.n_fed) == expected


def test_prefill_stops_between_chunks_and_goes_on_from_there() -> None:
    cache = PrefixCache(engine := RememberingEngine(), 0)
    token_ids = some_tokens(3 * PREFILL_CHUNK_TOKENS + 10)
    stopped = cache.advance(token_ids, should_stop=lambda: len(engine.fed) == 2)
    assert (stopped.logits, stopped.n_fed, stopped.finished) == (None, 2 * PREFILL_CHUNK_TOKENS, False)
    resumed = cache.advance(token_ids)
    assert (resumed.n_reused, resumed.finished) == (2 * PREFILL_CHUNK_TOKENS, True)
    assert engine.fed == [PREFILL_CHUNK_TOKENS] * 3 + [10]


def test_a_sequence_that_is_too_long_changes_nothing() -> None:
    cache = PrefixCache(RememberingEngine(n_positions=10), 0)
    cache.advance([1, 2, 3])
    for token_ids in ([], [1] * 11):
        with pytest.raises(ValueError, match="at least one token|exceed the 10 positions"):
            cache.advance(token_ids)
    assert cache.tokens == (1, 2, 3)


def test_after_a_failure_the_cache_claims_no_more_than_it_holds() -> None:
    cache = PrefixCache(engine := RememberingEngine(), 0)
    cache.advance([1, 2, 3, 4])
    engine.fails_after = 2
    with pytest.raises(RuntimeError):
        cache.advance([1, 2] + [9] * 100)
    assert cache.tokens == (1, 2, *[9] * PREFILL_CHUNK_TOKENS)
