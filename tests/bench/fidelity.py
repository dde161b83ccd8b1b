"""Whether the fast path says the same as the exact one: onnxruntime beside transformers, cached beside full, 8 bits
beside fp32.

Greedy tokens are compared at real prompts. A difference where the reference's two best logits are closer than `TIE` is
none: both are right, and what follows is no longer comparable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.bench.heldout import draw_files, draw_offsets
from tests.bench.options import Options
from tests.bench.table import BenchError, Row, share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from server.lm.engine import Engine
    from server.lm.model import LoadedModel
    from server.lm.tokenizer import Tokenizer

PART = "fidelity"
N_PROMPTS, N_QUICK_PROMPTS = 200, 5
N_TEXT_TOKENS, N_QUICK_TEXT_TOKENS = 20_000, 1_500
N_NEW_TOKENS = 24
TIE = 1e-3
MAX_LOSS_PERCENT, MIN_SAME_PERCENT = 0.5, 98.0
_WINDOW_TOKENS = 640  # of text, as many as a prompt shows
_CHUNK_TOKENS = 32

Agreement = Literal["same", "tie", "different"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine makes of the tokens of a text."""

    bits: float
    best: NDArray[np.intp]  # the most likely id in the place of each


def run(options: Options) -> list[Row]:
    """Compares the engines on prompts and text of the held-out files."""
    if not options.files:
        raise BenchError("no held-out file was fetched")
    return [*_greedy_rows(options), *_precision_rows(options)]


def greedy(engine: Engine, token_ids: Sequence[int], n_new: int) -> list[int]:
    """The most likely ids after a prompt, one at a time over the KV cache."""
    from server.lm.engine import PrefixCache

    cache, sequence = PrefixCache(engine, 0), list(token_ids)
    for _ in range(n_new):
        logits = cache.advance(sequence).logits
        assert logits is not None
        sequence.append(int(logits[-1].argmax()))
    return sequence[len(token_ids) :]


def agreement(reference: Engine, token_ids: Sequence[int], written: Sequence[int]) -> Agreement:
    """Whether an engine that reads all at once, nothing cached, would have written the same after the prompt.

    By induction it would when each id is its best after those before.
    """
    sequence = [*token_ids, *written]
    logits = reference.logits(1, sequence[:-1], 0, len(written))
    for row, token_id in zip(logits, written, strict=True):
        best = int(row.argmax())
        if best != token_id:
            return "tie" if float(row[best] - row[token_id]) < TIE else "different"
    return "same"


def _greedy_rows(options: Options) -> list[Row]:
    from server.lm.model import load_model

    model = load_model(options.model, "onnx", "fp32")
    reference = load_model(options.model, "torch").engine
    prompts = _prompts(options, model)
    found: dict[str, list[Agreement]] = {"transformers": [], "full decode": []}
    for prompt in prompts:
        written = greedy(model.engine, prompt, N_NEW_TOKENS)
        found["transformers"].append(agreement(reference, prompt, written))
        found["full decode"].append(agreement(model.engine, prompt, written))
    return [
        Row(
            PART,
            f"fp32, cached, other tokens than {name}",
            agreements.count("different"),
            "prompts",
            at_most=0,
            note=f"of {len(agreements)}, {N_NEW_TOKENS} tokens each; {agreements.count('tie')} at a tie below {TIE:g}",
        )
        for name, agreements in found.items()
    ]


def _prompts(options: Options, model: LoadedModel) -> list[tuple[int, ...]]:
    """What the server would feed at held-out cursors."""
    from server.lm.context import Document, context_at
    from server.lm.languages import language_for
    from server.lm.prompt import completion_prompt

    n_positions = model.engine.config.n_positions
    prompts = []
    for file, offset in draw_offsets(options.files, options.n(N_PROMPTS, N_QUICK_PROMPTS), PART):
        document = Document(file.uri, file.path, language_for(file.language_id), file.text)
        context = context_at(document, offset)
        prompt = completion_prompt(context, model.tokenizer, model.token_index, n_positions, N_NEW_TOKENS)
        prompts.append(prompt.token_ids)
    return prompts


def _precision_rows(options: Options) -> list[Row]:
    from server.lm.model import load_model

    exact = load_model(options.model, "onnx", "fp32")
    fast = load_model(options.model, "onnx", "int8")
    n_wanted = N_QUICK_TEXT_TOKENS if options.quick else N_TEXT_TOKENS
    n_tokens = n_bytes = n_same = 0
    exact_bits = fast_bits = 0.0
    for head, text in _texts(options, exact, n_wanted):
        first, second = read(exact.engine, head, text), read(fast.engine, head, text)
        exact_bits, fast_bits = exact_bits + first.bits, fast_bits + second.bits
        n_same += int((first.best == second.best).sum())
        n_tokens += len(text)
        n_bytes += bytes_of(text, exact.tokenizer)
    note = f"over {n_tokens} tokens"
    loss = 100 * (fast_bits / exact_bits - 1) if exact_bits else None
    return [
        Row(PART, "bits per byte, fp32", exact_bits / n_bytes if n_bytes else None, note=note),
        Row(PART, "bits per byte, 8 bits", fast_bits / n_bytes if n_bytes else None, note=note),
        Row(PART, "8 bits, worse by", loss, "%", at_most=MAX_LOSS_PERCENT, note=note),
        Row(PART, "8 bits, same best token", share(n_same, n_tokens), "%", at_least=MIN_SAME_PERCENT, note=note),
    ]


def read(engine: Engine, head: Sequence[int], text: Sequence[int]) -> Reading:
    """Feeds `text` behind `head`, in chunks as the server does, and looks at what was expected in its places."""
    import numpy as np

    sequence = [*head, *text][:-1]
    rows = []
    for start in range(0, len(sequence), _CHUNK_TOKENS):
        chunk = sequence[start : start + _CHUNK_TOKENS]
        rows.append(np.array(engine.logits(0, chunk, start, len(chunk))))
    logits = np.concatenate(rows)[-len(text) :].astype(np.float64)
    best = logits.argmax(axis=-1)
    peak = logits.max(axis=-1, keepdims=True)
    log_sums = peak[:, 0] + np.log(np.exp(logits - peak).sum(axis=-1))
    nats = log_sums - logits[np.arange(len(text)), np.array(text)]
    return Reading(float(nats.sum()) / math.log(2), best)


def bytes_of(token_ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """The length of the text of the ids."""
    return sum(len(tokenizer.token_bytes(token_id)) for token_id in token_ids)


def _texts(options: Options, model: LoadedModel, n_tokens: int) -> Iterator[tuple[list[int], list[int]]]:
    """Pieces of the held-out files as tokens, `n_tokens` in all, each behind what stands in front of a prefix."""
    from server.lm.prompt import file_header

    tokenizer, special = model.tokenizer, model.tokenizer.special
    n_left = n_tokens
    for file in draw_files(options.files, max(n_tokens // 200, 1), f"{PART}/text"):
        head = [tokenizer.end_of_text or 0]
        if special is not None:
            head = [*file_header(file.path, tokenizer, special), special.fim_prefix]
        ids = tokenizer.encode(file.text)
        start = max((len(ids) - _WINDOW_TOKENS) // 2, 0)
        text = ids[start : start + min(_WINDOW_TOKENS, n_left)]
        if len(text) > 1:
            yield head, text
            n_left -= len(text)
        if n_left <= 1:
            return
