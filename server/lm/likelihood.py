"""How likely the model finds a given text after the cursor, and that the line ends behind it: one short forward.

Knows tokens and probabilities; where the text comes from, and what is made of the answer, is decided elsewhere.
"""

from __future__ import annotations

import math

from server.lm.healing import TokenIndex, continued
from server.lm.prompt import Prompt
from server.lm.reader import Reader, log_sum_exp
from server.lm.tokenizer import Tokenizer


def log_likelihood(
    text: str,
    reader: Reader,
    prompt: Prompt,
    tokenizer: Tokenizer,
    index: TokenIndex,
    pending_logprob: float,
    at_least: float = -math.inf,
) -> float | None:
    """Natural logarithm of the probability that the line at the cursor ends exactly as `text` says.

    Given the text before the cursor, however that is cut into tokens: `pending_logprob` is that of the prompt's pending
    text. Minus infinity where what is known without a forward tells that it is less than `at_least`. None when a limit
    is reached, or where the positions do not suffice.
    """
    token_ids = continued(prompt.token_ids, prompt.pending + text.encode(), tokenizer)
    sequence = [*prompt.token_ids, *token_ids]
    if not token_ids or len(sequence) > reader.n_positions:
        return None
    n_known = reader.n_known(sequence, len(token_ids) + 1)
    known = reader.logits(sequence[: len(prompt.token_ids) + n_known - 1], n_known) if n_known else None
    if known is not None:
        begun = zip(map(reader.log_probs, known), token_ids, strict=False)
        if sum(float(row[token_id]) for row, token_id in begun) - pending_logprob < at_least:
            return -math.inf
    logits = reader.logits(sequence, len(token_ids) + 1)
    if logits is None:
        return None
    *along, last = map(reader.log_probs, logits)
    total = sum(float(row[token_id]) for row, token_id in zip(along, token_ids, strict=True))
    return min(total + log_sum_exp(last[index.ends_line]) - pending_logprob, 0.0)
