"""The first token after the cursor: which way through the pending text the model takes (token healing).

Ways are compared by their whole probability, not step by step: a short token is often likely in itself and yet cannot
be followed by the rest of the pending text (see `healing`). Knows probabilities and bytes; knows nothing of stop rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from server.lm.healing import Route, TokenIndex, routes
from server.lm.prompt import Prompt
from server.lm.reader import LogProbs, Reader, log_sum_exp
from server.lm.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Start:
    """The first token that shows something after the cursor, or ends the text there, and the route to it."""

    route: Route
    token_id: int
    shown: bytes  # its bytes after the cursor
    logprob: float  # given the text before the cursor, however that is cut into tokens


def starts(reader: Reader, prompt: Prompt, tokenizer: Tokenizer, index: TokenIndex, n: int) -> list[Start]:
    """The greedy start, then others by probability: at most `n`, which all show different bytes.

    Empty when a limit is reached before the prompt and its pending text are read.
    """
    arrivals = _Crossing(reader, prompt, tokenizer, index).arrivals()
    if not arrivals:
        return []
    total = log_sum_exp(np.array([arrival.total() for arrival in arrivals], dtype=np.float32))
    greedy = max(arrivals, key=_Arrival.best)
    others = [choice for arrival in arrivals for choice in arrival.likeliest(n)] if n > 1 else []
    others.sort(key=lambda choice: -choice[2])
    by_shown: dict[bytes, Start] = {}
    for route, token_id, logprob in [*greedy.likeliest(1), *others]:
        shown = tokenizer.token_bytes(token_id)[len(route.rest) :]
        by_shown.setdefault(shown, Start(route, token_id, shown, logprob - total))
    return list(by_shown.values())[:n]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """Where a route ends, as the model sees it."""

    route: Route
    logprob: float  # of the route's tokens
    allowed: NDArray[np.int32] | None  # ids that exceed the route's rest; None for all, the route ends at the cursor
    options: LogProbs  # of the allowed ids

    def best(self) -> float:
        """Log-probability of the likeliest way to the cursor; what follows there is left open."""
        return self.logprob if self.allowed is None else self.logprob + float(self.options.max())

    def total(self) -> float:
        """Log-probability of all ways to the cursor."""
        return self.logprob if self.allowed is None else self.logprob + log_sum_exp(self.options)

    def likeliest(self, n: int) -> list[tuple[Route, int, float]]:
        """The `n` likeliest ids from here, each with the log-probability of the route and itself."""
        best = np.arange(self.options.size) if n >= self.options.size else np.argpartition(self.options, -n)[-n:]
        ids = best if self.allowed is None else self.allowed[best]
        logprobs = self.options[best]
        return [
            (self.route, int(token_id), self.logprob + float(logprob))
            for token_id, logprob in zip(ids, logprobs, strict=True)
            if logprob > -np.inf
        ]


# What the model says at some places: ids after the prompt -> their log-probability, and those of the id behind them.
_States = dict[tuple[int, ...], tuple[float, LogProbs]]


@dataclass(frozen=True, slots=True)
class _Crossing:
    """One search, at the price of one forward or two."""

    reader: Reader
    prompt: Prompt
    tokenizer: Tokenizer
    index: TokenIndex

    def arrivals(self) -> list[_Arrival]:
        """Where the routes end, the unlikely ones left out; empty when a limit is reached.

        One forward reads the prompt and the whole pending text, and with it every route along its tokens. The most
        promising of the others costs one more, and is read only if it may beat what was found.
        """
        found = routes(self.prompt.token_ids, self.prompt.pending, self.index, self.tokenizer)
        states = self._walk(found[-1].token_ids, 0, 0.0)
        arrivals = [self._arrival(route, states) for route in found if route.token_ids in states]
        others = [route for route in found if route.token_ids not in states]
        if not arrivals or not others:
            return arrivals
        # Of equals the longest: those that begin like it are read along with it.
        detour = max(others, key=lambda route: (_first_step(route, states)[1], len(route.token_ids)))
        n_known, bound = _first_step(detour, states)
        if bound > max(map(_Arrival.best, arrivals)):
            states = self._walk(detour.token_ids, n_known, bound)
            arrivals += [self._arrival(route, states) for route in others if route.token_ids in states]
        return arrivals

    def _arrival(self, route: Route, states: _States) -> _Arrival:
        logprob, after = states[route.token_ids]
        if not route.rest:
            return _Arrival(route, logprob, None, after)
        allowed = self.index.extending(route.rest)
        return _Arrival(route, logprob, allowed, after[allowed])

    def _walk(self, token_ids: tuple[int, ...], n_known: int, logprob: float) -> _States:
        """The states after the first `n_known`, `n_known` + 1, ... of `token_ids`.

        `logprob` is that of the first `n_known`. Empty when a limit is reached or the positions do not suffice.
        """
        states: _States = {}
        sequence = [*self.prompt.token_ids, *token_ids]
        if len(sequence) > self.reader.n_positions:
            return states
        texts = list(accumulate(map(self.tokenizer.token_bytes, token_ids), initial=b""))[n_known:]
        logits = self.reader.logits(sequence, texts)
        if logits is None:
            return states
        for n_tokens, (row, text) in enumerate(zip(logits, texts, strict=True), start=n_known):
            after = self.reader.log_probs(row, text)
            states[token_ids[:n_tokens]] = logprob, after
            if n_tokens < len(token_ids):
                logprob += float(after[token_ids[n_tokens]])
        return states


def _first_step(route: Route, states: _States) -> tuple[int, float]:
    """Number and log-probability of the first ids of `route`, up to and with the one that leaves `states`."""
    token_ids = route.token_ids
    n_tokens = max(n for n in range(len(token_ids)) if token_ids[:n] in states)
    logprob, after = states[token_ids[:n_tokens]]
    return n_tokens + 1, logprob + float(after[token_ids[n_tokens]])
