"""How likely what is left of a text is right."""

from __future__ import annotations

import math

from server.filters.candidate import Candidate, Rejection


def confidence_of(candidate: Candidate) -> float:
    """0..1: how likely the line at the cursor ends exactly as the candidate's first line; 1 without any tokens.

    That is what its tokens say together. That the text ends there counts where nothing was cut off its end.
    """
    line = candidate.text.split("\n", 1)[0]
    logprobs = []
    n_left = len(line)
    for text, logprob in zip(candidate.token_texts, candidate.token_logprobs, strict=False):
        if n_left <= 0:
            break
        logprobs.append(logprob)
        n_left -= len(text)
    if logprobs and n_left == 0 and len(logprobs) == len(candidate.token_logprobs):
        logprobs.append(candidate.end_logprob)
    return min(math.exp(sum(logprobs)), 1.0)


def confidence(candidate: Candidate) -> Candidate | Rejection:
    """Rejects what is less likely right than the setting wants."""
    value = confidence_of(candidate)
    if value < candidate.min_confidence:
        return Rejection(f"the confidence {value:.2f} is below {candidate.min_confidence:.2f}")
    return candidate
