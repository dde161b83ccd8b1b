"""Markers of the prompt and characters that nobody types end a text."""

from __future__ import annotations

import re

from server.filters.candidate import Candidate

# Also the spellings of other infilling models, whose checkpoints can be served. U+FFFD stands for a character that
# the generation left unfinished.
_NOT_TYPED = re.compile(
    r"<\|(?:endoftext|fim_prefix|fim_suffix|fim_middle|fim_pad|file|file_sep|repo_name|doc|pad|snippet)\|>"
    r"|<(?:fim_prefix|fim_suffix|fim_middle|fim_pad|file_sep|repo_name)>"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd\ud800-\udfff\ufeff]"
)


def special_tokens(candidate: Candidate) -> Candidate:
    """The text before the first marker of a prompt, control character or unfinished character."""
    text = candidate.text.replace("\r\n", "\n")
    match = _NOT_TYPED.search(text)
    return candidate.with_text(text if match is None else text[: match.start()])
