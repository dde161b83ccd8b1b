"""The model that is adapted: its folder, its tokenizer with the prompt's markers, and the tokens that are new to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from server.lm.adapter_manifest import BaseIdentity
from server.lm.checkpoint import Weights, open_checkpoint
from server.lm.errors import UserError
from server.lm.model import base_identity
from server.lm.model_folder import resolve_model
from server.lm.tokenizer import BytePairTokenizer, SpecialTokens, load_tokenizer

MAX_TOKENS = 2**16  # rows of training hold ids of 16 bits


@dataclass(frozen=True, slots=True)
class Base:
    """A GPT-2 that can be adapted."""

    folder: Path
    tokenizer: BytePairTokenizer  # with markers
    special: SpecialTokens
    new_tokens: tuple[int, ...]  # markers that the model does not know yet; their rows are trained whole
    identity: BaseIdentity
    n_positions: int
    weights: Weights = field(repr=False)  # each is read from its file when asked for

    @property
    def knows_markers(self) -> bool:
        """Whether it was trained with the prompt's markers."""
        return not self.new_tokens


def open_base(model: str) -> Base:
    """The model `default`, in a folder, or of a name in the local hub cache.

    A plain GPT-2 is given the markers. UserError for a model that cannot be read, or cannot be taught them.
    """
    checkpoint = open_checkpoint(resolve_model(model))
    plain = load_tokenizer(checkpoint.folder)
    tokenizer = plain.with_markers()
    new = tuple(range(plain.vocab_size, tokenizer.vocab_size))
    if tokenizer.vocab_size > MAX_TOKENS:
        raise UserError(
            f"the model in {checkpoint.folder} has {plain.vocab_size} tokens, more than the {MAX_TOKENS - len(new)} "
            f"that can be adapted; use --base default, or another GPT-2"
        )
    if new and not checkpoint.config.tied_head:
        raise UserError(
            f"the model in {checkpoint.folder} lacks the markers of the prompt and has a head of its own "
            f"(tie_word_embeddings is false), so they cannot be taught to it; use --base default, or a tied GPT-2"
        )
    identity, n_positions = base_identity(checkpoint, plain), checkpoint.config.n_positions
    assert tokenizer.special is not None  # `with_markers` has just seen to that
    return Base(checkpoint.folder, tokenizer, tokenizer.special, new, identity, n_positions, checkpoint.weights)
