"""Prompt to text: greedy decoding over a KV cache, and ranked alternatives to it.

Knows tokens, their probabilities and the limits of a request. Where a text should end is told by the caller's stop
rule; what it is worth is judged elsewhere. Knows nothing of editors or languages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal, Protocol

from server.lm.crossing import Start, starts
from server.lm.engine import PREFILL_CHUNK_TOKENS, PrefixCache, never
from server.lm.healing import TokenIndex
from server.lm.prompt import Prompt
from server.lm.reader import Limits, Mixer, Reader, log_sum_exp
from server.lm.tokenizer import Tokenizer
from server.lm.written import StopRule, Written

Finish = Literal["stop", "length", "deadline", "cancelled", "unlikely"]

N_BLANK_STARTS = 16  # so many of the likeliest tokens may be line breaks with different indentation
BLANKS = (b"\n", b" ", b"\t")
# A prompt that is not in the cache takes up to a second to read. Whoever waits that long gets an answer; whoever types
# on has cancelled by then.
READING_LIMIT_S = 2.0

# Log-probability of the least likely line of a text so far -> whether the text is worth going on with.
Worth = Callable[[float], bool]


class Proposer(Protocol):
    """A guess at the next tokens, so that one forward can confirm several. Changes the speed, never the text."""

    def propose(self, text_so_far: bytes, max_tokens: int) -> list[int]:
        """At most `max_tokens` ids that may follow `text_so_far`; empty when there is nothing to go by."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What the model wrote after the cursor for one prompt, before any filter."""

    text: str
    finish: Finish
    mean_logprob: float  # natural log, over `token_logprobs`; 0.0 when there are none
    token_logprobs: tuple[float, ...]  # one for each token that has a part in `text`
    token_texts: tuple[str, ...]  # beside them; together they are `text`
    end_logprob: float  # that the text ends there, by whatever line break or end; 0.0 where a limit ended it
    n_prompt_tokens: int  # that were to be fed; pending text is not among them
    n_cached_tokens: int  # of these, found in the KV cache
    n_new_tokens: int  # written after the cursor, those behind the end of `text` included
    prefill_ms: float  # until the prompt and its pending text were read
    decode_ms: float  # after that


def generate(
    cache: PrefixCache,
    prompt: Prompt,
    tokenizer: Tokenizer,
    index: TokenIndex,
    *,
    stop: StopRule,
    max_new_tokens: int,
    deadline: float | None = None,
    cancelled: Callable[[], bool] = never,
    must_begin: bool = False,
    mixer: Mixer | None = None,
    proposer: Proposer | None = None,
) -> Generation:
    """The most likely text after the cursor, token by token, until `stop`, end of text, or a limit.

    `deadline` is in seconds of `time.monotonic`; it moves by the time that reading a prompt from anew takes, at most
    `READING_LIMIT_S`. At a limit, what was written until then is the answer. Bytes that are no UTF-8 end the text
    before them. With `must_begin` the text does not begin with its end or a blank: the likeliest other token comes
    first, at its own probability. ValueError for a prompt without ids, or longer than the model has positions.
    """
    limits = Limits(max_new_tokens, deadline, cancelled)
    decoder = _Decoder(cache, prompt, tokenizer, index, limits, stop, must_begin, mixer, proposer)
    found = decoder.starts(1)
    return decoder.write(found[0] if found else None)


def attempts(
    cache: PrefixCache,
    prompt: Prompt,
    tokenizer: Tokenizer,
    index: TokenIndex,
    n: int,
    *,
    stop: StopRule,
    max_new_tokens: int,
    deadline: float | None = None,
    cancelled: Callable[[], bool] = never,
    must_begin: bool = False,
    mixer: Mixer | None = None,
    proposer: Proposer | None = None,
    worth: Worth | None = None,
) -> Iterator[Generation]:
    """What `generate` gives, then at most `n` - 1 others that start with the next likely token after the cursor.

    Each is written only when it is asked for; none after a limit is reached. One that is not `worth` it any more is
    left as it is, its `finish` says "unlikely".
    """
    limits = Limits(max_new_tokens, deadline, cancelled)
    decoder = _Decoder(cache, prompt, tokenizer, index, limits, stop, must_begin, mixer, proposer, worth)
    found = decoder.starts(n)
    yield decoder.write(found[0] if found else None)
    for start in found[1:]:
        if decoder.is_at_limit():
            return
        yield decoder.write(start)


def alternatives(
    cache: PrefixCache,
    prompt: Prompt,
    tokenizer: Tokenizer,
    index: TokenIndex,
    n: int,
    *,
    stop: StopRule,
    max_new_tokens: int,
    deadline: float | None = None,
    cancelled: Callable[[], bool] = never,
    must_begin: bool = False,
    mixer: Mixer | None = None,
    proposer: Proposer | None = None,
) -> list[Generation]:
    """At most `n` different texts: what `generate` gives, then others by their probability per token.

    The others start with another token after the cursor and go on greedily from there; none is empty. Fewer at the
    deadline or when cancelled, but always the first.
    """
    limits = Limits(max_new_tokens, deadline, cancelled)
    decoder = _Decoder(cache, prompt, tokenizer, index, limits, stop, must_begin, mixer, proposer)
    found = decoder.starts(2 * n)  # some may lead to the same text, or to none
    first = decoder.write(found[0] if found else None)
    others: dict[str, Generation] = {}
    for start in found[1:]:
        if len(others) >= n - 1 or decoder.is_at_limit():
            break
        other = decoder.write(start)
        if other.text and other.text != first.text:
            others.setdefault(other.text, other)
    return [first, *sorted(others.values(), key=lambda other: -other.mean_logprob)]


class _Decoder:
    """One request: what is fed, what is asked for, and the limits."""

    def __init__(
        self,
        cache: PrefixCache,
        prompt: Prompt,
        tokenizer: Tokenizer,
        index: TokenIndex,
        limits: Limits,
        stop: StopRule,
        must_begin: bool,
        mixer: Mixer | None,
        proposer: Proposer | None,
        worth: Worth | None = None,
    ) -> None:
        n_prompt, n_positions = len(prompt.token_ids), cache.engine.config.n_positions
        if not 0 < n_prompt <= n_positions:
            raise ValueError(f"a prompt has 1 to {n_positions} token ids, not {n_prompt}")
        never_written = index.markers[index.markers != tokenizer.end_of_text]
        self._reader = Reader(cache, limits, tokenizer.vocab_size, never_written, mixer)
        self._prompt, self._tokenizer, self._index = prompt, tokenizer, index
        self._max_new_tokens, self._stop, self._proposer = limits.max_new_tokens, stop, proposer
        self._must_begin, self._worth = must_begin, worth
        self._cache, self._limits = cache, limits
        self._n_cached = min(cache.n_common(prompt.token_ids), n_prompt - 1)  # the last is always fed
        self._prefill_ms = 0.0

    def starts(self, n: int) -> list[Start]:
        """The starts to write from, the greedy one first; none when a limit comes before the first token."""
        if self._max_new_tokens <= 0:
            return []
        began = time.perf_counter()
        self._read_prompt()
        n_more = N_BLANK_STARTS if self._must_begin else 0
        found = starts(self._reader, self._prompt, self._tokenizer, self._index, n + n_more)
        if self._must_begin:
            found = [start for start in found if start.shown and not start.shown.startswith(BLANKS)] or found
        self._prefill_ms = 1000 * (time.perf_counter() - began)
        return found[:n]

    def is_at_limit(self) -> bool:
        """Whether there is no time for another text."""
        return self._reader.limits.reached() is not None

    def _read_prompt(self) -> None:
        """Reads a prompt that is new to the cache, and moves the deadline by as much."""
        known = self._prompt.token_ids[:-1]  # the last is fed with the first question
        if len(known) - self._n_cached < PREFILL_CHUNK_TOKENS:
            return
        began, cancelled = time.monotonic(), self._limits.cancelled
        until = began + READING_LIMIT_S
        self._cache.advance(known, n_keep=0, should_stop=lambda: cancelled() or time.monotonic() >= until)
        if self._limits.deadline is not None:
            spent = min(time.monotonic() - began, READING_LIMIT_S)
            self._reader.limits = replace(self._limits, deadline=self._limits.deadline + spent)

    def write(self, start: Start | None) -> Generation:
        """The greedy text from `start` on; an empty one for None."""
        began = time.perf_counter()
        written = Written(self._stop)
        finish: Finish = self._reader.stopped_by or "length"
        if start is not None:
            if start.token_id == self._tokenizer.end_of_text:
                written.end_logprob = start.logprob
            ended = start.token_id == self._tokenizer.end_of_text or written.add(start.shown, start.logprob)
            finish = "stop" if ended else self._go_on(start, written)
        text, texts, logprobs = written.kept()
        return Generation(
            text=text,
            finish=finish,
            mean_logprob=sum(logprobs) / len(logprobs) if logprobs else 0.0,
            token_logprobs=logprobs,
            token_texts=texts,
            end_logprob=written.end_logprob,
            n_prompt_tokens=len(self._prompt.token_ids),
            n_cached_tokens=self._n_cached,
            n_new_tokens=written.n_tokens,
            prefill_ms=self._prefill_ms,
            decode_ms=1000 * (time.perf_counter() - began),
        )

    def _go_on(self, start: Start, written: Written) -> Finish:
        """Adds to `written` what follows `start`. The last token is not fed: nothing is asked after it."""
        sequence = [*self._prompt.token_ids, *start.route.token_ids, start.token_id]
        text_so_far = self._prompt.pending + start.shown
        while written.n_tokens < self._max_new_tokens and len(sequence) <= self._reader.n_positions:
            if self._worth is not None and not self._worth(written.least_logprob):
                return "unlikely"
            draft = self._draft(len(sequence), text_so_far, self._max_new_tokens - written.n_tokens - 1)
            texts = list(accumulate(map(self._tokenizer.token_bytes, draft), initial=text_so_far))
            logits = self._reader.logits(sequence + draft, texts)
            if logits is None:
                return self._reader.stopped_by or "length"
            for row, drafted in zip(logits, [*draft, None], strict=True):
                log_probs = self._reader.log_probs(row, text_so_far)
                token_id = int(log_probs.argmax())
                data = self._tokenizer.token_bytes(token_id)
                if token_id == self._tokenizer.end_of_text or data.startswith(b"\n"):
                    written.end_logprob = log_sum_exp(log_probs[self._index.ends_line])
                if token_id == self._tokenizer.end_of_text:
                    return "stop"
                sequence.append(token_id)
                text_so_far += data
                if written.add(data, float(log_probs[token_id])):
                    return "stop"
                if token_id != drafted:
                    break
        return "length"

    def _draft(self, n_fed: int, text_so_far: bytes, max_tokens: int) -> list[int]:
        """Ids that may follow the `n_fed` before them, to be confirmed in the same forward."""
        max_tokens = min(max_tokens, self._reader.n_positions - n_fed)
        if self._proposer is None or max_tokens <= 0:
            return []
        draft = self._proposer.propose(text_so_far, max_tokens)[:max_tokens]
        return [token_id for token_id in draft if 0 <= token_id < self._tokenizer.vocab_size]
