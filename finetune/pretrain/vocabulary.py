"""The byte-level BPE of the base model, learned from the training corpus.

Merges are learned in order, so a smaller vocabulary is the head of a larger one: sizes can be compared without
learning each anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from server.lm.errors import UserError
from server.lm.tokenizer import SPECIAL_TOKEN_NAMES, BytePairTokenizer, new_backend

N_BYTES = 256
MAX_LINE_CHARACTERS = 400  # longer lines are data; they would only fill the vocabulary with tables


def learn(texts: Iterable[str], vocab_size: int) -> BytePairTokenizer:
    """A tokenizer with `vocab_size` entries: 8 markers, 256 bytes, merges by frequency."""
    from tokenizers import pre_tokenizers, trainers

    if vocab_size < len(SPECIAL_TOKEN_NAMES) + N_BYTES:
        raise UserError(f"a vocabulary needs at least {len(SPECIAL_TOKEN_NAMES) + N_BYTES} entries, not {vocab_size}")
    backend = new_backend()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKEN_NAMES),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=64,
        show_progress=False,
    )
    backend.train_from_iterator(_short_lines(texts), trainer)
    return _wrapped(backend.to_str())


def smaller(tokenizer_json: str, vocab_size: int) -> BytePairTokenizer:
    """The tokenizer that `learn` would have given for a smaller `vocab_size` from the same texts. Raises UserError."""
    data = json.loads(tokenizer_json)
    vocab: dict[str, int] = data["model"]["vocab"]
    if not len(SPECIAL_TOKEN_NAMES) + N_BYTES <= vocab_size <= len(vocab):
        raise UserError(
            f"a vocabulary of {len(vocab)} entries cannot be cut to {vocab_size}; ask for "
            f"{len(SPECIAL_TOKEN_NAMES) + N_BYTES} to {len(vocab)}, or learn a larger one"
        )
    merges: list[tuple[str, str]] = []
    # Two merges may lead to one entry, so merges are counted by what they add.
    n_entries = len(SPECIAL_TOKEN_NAMES) + N_BYTES
    for left, right in data["model"]["merges"]:
        if n_entries == vocab_size:
            break
        merges.append((left, right))
        n_entries = max(n_entries, vocab[left + right] + 1)
    data["model"]["vocab"] = {token: token_id for token, token_id in vocab.items() if token_id < vocab_size}
    data["model"]["merges"] = merges
    return _wrapped(json.dumps(data, ensure_ascii=False))


def save(tokenizer: BytePairTokenizer, folder: Path) -> None:
    """Writes `tokenizer.json` into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")


def _wrapped(tokenizer_json: str) -> BytePairTokenizer:
    import tokenizers

    backend = tokenizers.Tokenizer.from_str(tokenizer_json)
    return BytePairTokenizer(backend, hashlib.sha256(tokenizer_json.encode()).hexdigest())


def _short_lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield "\n".join(line for line in text.split("\n") if len(line) <= MAX_LINE_CHARACTERS)
