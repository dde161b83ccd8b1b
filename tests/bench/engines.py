"""The engines side by side: the same weights, the same tokens, one after the other in every round.

Each engine runs in a process of its own, is fed only what its cache lacks, and answers the same three questions: a
prompt nothing of which is known, one more keystroke, and a whole completion; the last also beside a busy neighbour.
Ratios are medians over the rounds of what an engine took to what our 8-bit engine took in the same round. All engines
in fp32 must write the same tokens as the reference, or their rows are marked.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from server.lm.engine import ModelConfig, default_threads
from tests.bench.busy import busy_neighbour
from tests.bench.engines_candidates import CANDIDATES, OWN, REFERENCE
from tests.bench.engines_process import EngineFailure, EngineProcess, Writer
from tests.bench.engines_report import (
    BUSY,
    COLD,
    COMPLETION,
    KEYSTROKE,
    N_CACHED,
    N_COMPLETION,
    N_TYPED,
    Block,
    Timed,
    report,
)
from tests.bench.engines_weights import gpt2_shape, write_random_checkpoint
from tests.bench.machine import n_cores
from tests.bench.options import Options
from tests.bench.page import Report
from tests.bench.table import BenchError

SHAPES = (gpt2_shape(n_layer=8, n_head=8, n_embd=512), gpt2_shape(n_layer=12, n_head=8, n_embd=512))
N_ROUNDS, N_QUICK_ROUNDS = 7, 1
N_KEYSTROKES = 3  # in a round: one alone is over too soon to be timed well
N_COMPARED, N_QUICK_COMPARED = 100, 10
# Threads of some libraries go on spinning for a while after their work, and would slow down who comes next.
_REST_S = 0.25
_MAX_BLOCK_S = 150.0  # no round begins later: a slow machine gets fewer rounds, not a longer wait


def run(options: Options) -> Report:
    """Both shapes, with the threads that the server takes, then with one for each core."""
    if not (OWN.is_installed and REFERENCE.is_installed):
        raise BenchError("onnxruntime, onnx, torch and transformers are needed to compare engines")
    blocks: list[Block] = []
    for config in SHAPES:
        with tempfile.TemporaryDirectory(prefix="loracle-bench-engines-") as name:
            folder = Path(name)
            write_random_checkpoint(folder, config)
            agreement = compared(folder, config, options.n(N_COMPARED, N_QUICK_COMPARED))
            for threads in sorted({default_threads(), n_cores()}):
                timed = timed_in_turn(folder, config, threads, options.n(N_ROUNDS, N_QUICK_ROUNDS))
                blocks.append(Block(config, threads, timed, agreement))
                print(f"  {blocks[-1].title}: done", flush=True)
    blocks.sort(key=lambda block: block.threads)
    return report(blocks)


def prompt_of(config: ModelConfig, n_tokens: int) -> list[int]:
    """Token ids, always the same."""
    return [int(token_id) for token_id in np.random.default_rng(3).integers(1, config.vocab_size, n_tokens)]


def compared(folder: Path, config: ModelConfig, n_tokens: int) -> dict[str, str]:
    """For each engine that is there what sets it apart from the reference, or how much it has in common with it.

    Its conversion is judged by the tokens that it, or its twin in fp32, writes after the prompt; they must be those
    of the reference. An 8-bit engine is also asked for the best token after each of `n_tokens` known ones.
    """
    prompt = prompt_of(config, N_CACHED + n_tokens)
    expected, expected_best = _greedy_and_best(REFERENCE.name, REFERENCE.make, folder, prompt)
    result: dict[str, str] = {}
    for candidate in CANDIDATES:
        if candidate is REFERENCE or not candidate.is_installed:
            continue
        try:
            written, best = _greedy_and_best(candidate.name, candidate.make, folder, prompt)
            exact = written
            if candidate.exact_twin is not None:
                name = f"{candidate.name} in fp32"
                exact, _ = _greedy_and_best(name, candidate.exact_twin, folder, prompt[: N_CACHED + N_TYPED])
        except EngineFailure as error:
            result[candidate.name] = f"✗ {error}"
            continue
        if (candidate.is_exact or candidate.exact_twin) and exact != expected:
            result[candidate.name] = "✗ other tokens in fp32"
        elif candidate.is_exact:
            result[candidate.name] = "same tokens"
        else:
            n_same = sum(mine == theirs for mine, theirs in zip(best, expected_best, strict=True))
            result[candidate.name] = f"{100 * n_same / len(best):.0f} % of best tokens"
    return result


def _greedy_and_best(
    name: str, make: Callable[[Path, int], Writer], folder: Path, prompt: Sequence[int]
) -> tuple[tuple[int, ...], list[int]]:
    """The completion after the cached and typed tokens, and the best token after each one from the cached on."""
    with EngineProcess(name, partial(make, folder, default_threads())) as engine:
        engine.wait_until_loaded()
        engine.write(prompt[:N_CACHED], 0, 1)
        greedy = engine.write(prompt[: N_CACHED + N_TYPED], N_CACHED, N_COMPLETION).tokens
        best = [engine.write(prompt[: n + 1], n, 1).tokens[0] for n in range(N_CACHED, len(prompt))]
    return greedy, best


def timed_in_turn(folder: Path, config: ModelConfig, threads: int, n_rounds: int) -> dict[str, Timed]:
    """All engines, taking turns; who begins changes from round to round."""
    result = {candidate.name: Timed() for candidate in CANDIDATES}
    prompt = prompt_of(config, N_CACHED + N_TYPED)
    with ExitStack() as stack:
        running: list[EngineProcess] = []
        for candidate in CANDIDATES:
            if not candidate.is_installed:
                result[candidate.name].problem = "not installed"
                continue
            engine = stack.enter_context(EngineProcess(candidate.name, partial(candidate.make, folder, threads)))
            try:
                engine.wait_until_loaded()
                _round(engine, prompt)  # the first one touches memory that no other does
                running.append(engine)
            except EngineFailure as error:
                result[candidate.name].problem = str(error)
        ends_at = time.monotonic() + _MAX_BLOCK_S
        for number_of_round in range(n_rounds):
            if number_of_round and time.monotonic() > ends_at:
                break
            by = number_of_round % max(len(running), 1)
            in_turn = [*running[by:], *running[:by]]
            for engine in in_turn:
                _keep(result[engine.name], lambda engine=engine: _round(engine, prompt))
            if threads == n_cores() > 1:
                continue  # no core is left for a neighbour, and torch comes to a standstill beside one
            with busy_neighbour():
                for engine in in_turn:
                    _keep(result[engine.name], lambda engine=engine: {BUSY: _completion(engine, prompt)})
    return result


def _keep(timed: Timed, ask: Callable[[], Mapping[str, float]]) -> None:
    """Adds what an engine took; where it fails the others go on without it."""
    if timed.problem:
        return
    try:
        taken = ask()
    except EngineFailure as error:
        timed.problem = str(error)
        return
    for case, seconds in taken.items():
        timed.seconds.setdefault(case, []).append(seconds)


def _round(engine: EngineProcess, prompt: Sequence[int]) -> dict[str, float]:
    """Seconds by case."""
    time.sleep(_REST_S)
    cold = engine.write(prompt[:N_CACHED], 0, 1).seconds
    engine.write(prompt, N_CACHED, 1)  # where a library needs to be told what to keep, this is the call
    keystrokes = [engine.write(prompt, N_CACHED, 1).seconds for _ in range(N_KEYSTROKES)]
    return {COLD: cold, KEYSTROKE: statistics.median(keystrokes), COMPLETION: _completion(engine, prompt)}


def _completion(engine: EngineProcess, prompt: Sequence[int]) -> float:
    return engine.write(prompt, N_CACHED, N_COMPLETION).seconds
