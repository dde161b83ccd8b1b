"""How sure the model was of what is left of its text."""

from __future__ import annotations

import math

from server.filters.candidate import Candidate, Rejection


def confidence_of(candidate: Candidate) -> float:
    """0..1: the geometric mean of the probabilities of the tokens that the text is made of; 1 without any."""
    logprobs = []
    n_left = len(candidate.text)
    for text, logprob in zip(candidate.token_texts, candidate.token_logprobs, strict=False):
        if n_left <= 0:
            break
        logprobs.append(logprob)
        n_left -= len(text)
    return min(math.exp(sum(logprobs) / len(logprobs)), 1.0) if logprobs else 1.0


def confidence(candidate: Candidate) -> Candidate | Rejection:
    """Rejects what the model was less sure of than the setting wants."""
    value = confidence_of(candidate)
    if value < candidate.min_confidence:
        return Rejection(f"the confidence {value:.2f} is below {candidate.min_confidence:.2f}")
    return candidate
