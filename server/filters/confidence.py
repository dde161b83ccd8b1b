"""How likely what is left of a text is right."""

from __future__ import annotations

import math

from server.filters.candidate import Candidate, Rejection


def confidence_of(candidate: Candidate) -> float:
    """0..1: how likely the text goes on exactly so to the end of its first line that is not blank; 1 without tokens.

    That is what its tokens say together. That the text ends there counts where nothing was cut off its end.
    """
    text = candidate.text
    end = text.find("\n", len(text) - len(text.lstrip()))
    logprobs = []
    n_left = end if end >= 0 else len(text)
    for text, logprob in zip(candidate.token_texts, candidate.token_logprobs, strict=False):
        if n_left <= 0:
            break
        logprobs.append(logprob)
        n_left -= len(text)
    if logprobs and n_left == 0 and len(logprobs) == len(candidate.token_logprobs):
        logprobs.append(candidate.end_logprob)
    return min(math.exp(sum(logprobs)), 1.0)


def likely_lines(candidate: Candidate) -> Candidate:
    """The text before the first of its later lines that is less likely right than the setting wants."""
    if candidate.min_confidence <= 0:
        return candidate
    least, position, spent = math.log(candidate.min_confidence), 0, 0.0
    for text, logprob in zip(candidate.token_texts, candidate.token_logprobs, strict=False):
        line_break = candidate.text.rfind("\n", 0, position)
        if candidate.text.startswith("\n", position):  # a line begins with what breaks the one before
            line_break, spent = position, 0.0
        spent += logprob
        if line_break >= 0 and spent < least and candidate.text[:line_break].strip():
            return candidate.cut(len(candidate.text[:line_break].rstrip()))
        position += len(text)
    return candidate


def confidence(candidate: Candidate) -> Candidate | Rejection:
    """Rejects what is less likely right than the setting wants."""
    value = confidence_of(candidate)
    if value < candidate.min_confidence:
        return Rejection(f"the confidence {value:.2f} is below {candidate.min_confidence:.2f}")
    return candidate
