"""How new a file is to the base model: nats a token of its beginning. What it knows already teaches it little."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from finetune.collect import SourceText
from finetune.lora import LoraModel
from server.lm.prompt import file_header
from server.lm.tokenizer import BytePairTokenizer

HEAD_TOKENS = 256


@torch.no_grad()
def novelty(
    model: LoraModel, tokenizer: BytePairTokenizer, files: Sequence[SourceText], max_files: int
) -> dict[str, float]:
    """Nats a token of the first `HEAD_TOKENS` of each file, by path, of so many at most. `model` is a fresh one."""
    if len(files) > max_files:
        files = random.Random(0).sample(files, max_files)
    special = tokenizer.special
    found: dict[str, float] = {}
    for file in files:
        header = [] if special is None else [*file_header(file.path, tokenizer, special), special.fim_prefix]
        ids = torch.tensor([[*header, *tokenizer.encode(file.text[: 8 * HEAD_TOKENS])[:HEAD_TOKENS]]])
        if ids.shape[1] > len(header) + 1:
            n_targets = ids.shape[1] - max(len(header), 1)
            targets = ids[:, 1:].clone()
            targets[:, : max(len(header) - 1, 0)] = -100
            found[file.path] = model.loss(ids[:, :-1], targets, n_targets).item()
    return found
