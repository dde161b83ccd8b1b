"""Prompt to text: greedy decoding over a KV cache, and ranked alternatives to it.

Knows tokens, their probabilities and the limits of a request. Where a text should end is told by the caller's stop
rule; what it is worth is judged elsewhere. Knows nothing of editors or languages.
"""

from __future__ import annotations

import codecs
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from server.lm.crossing import Start, starts
from server.lm.engine import PREFILL_CHUNK_TOKENS, PrefixCache, never
from server.lm.healing import TokenIndex, continued
from server.lm.likelihood import log_likelihood
from server.lm.prompt import Prompt
from server.lm.reader import Limits, Reader, log_sum_exp
from server.lm.tokenizer import Tokenizer

Finish = Literal["stop", "length", "deadline", "cancelled", "unlikely"]

N_BLANK_STARTS = 16  # so many of the likeliest tokens may be line breaks with different indentation
BLANKS = (b"\n", b" ", b"\t")
# A prompt that is not in the cache takes up to a second to read. Whoever waits that long gets an answer; whoever types
# on has cancelled by then.
READING_LIMIT_S = 2.0

# Text after the cursor -> how many of its characters to keep, when it has reached its end; None to go on.
StopRule = Callable[[str], int | None]
# Text after the cursor and the log-probability of its tokens -> whether it is worth going on with.
Worth = Callable[[str, float], bool]


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
    n_drafted_tokens: int  # that were proposed, to be confirmed several at a time
    n_accepted_tokens: int  # of these, as the model would have written them
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
    proposer: Proposer | None = None,
) -> Generation:
    """The most likely text after the cursor, token by token, until `stop`, end of text, or a limit.

    `deadline` is in seconds of `time.monotonic`; it moves by the time that reading a prompt from anew takes, at most
    `READING_LIMIT_S`. At a limit, what was written until then is the answer. Bytes that are no UTF-8 end the text
    before them. With `must_begin` the text does not begin with its end or a blank: the likeliest other token comes
    first, at its own probability. ValueError for a prompt without ids, or longer than the model has positions.
    """
    limits = Limits(max_new_tokens, deadline, cancelled)
    decoder = Decoder(cache, prompt, tokenizer, index, limits, stop, must_begin=must_begin, proposer=proposer)
    return next(decoder.attempts(1))


class Decoder:
    """One request: what is fed, what is asked for, and the limits. See `generate` for the arguments.

    A text that is not `worth` it any more is left as it is, its `finish` says "unlikely". A text that is `expected` to
    be asked about, or written, is read in one forward with the end of the prompt.
    """

    def __init__(
        self,
        cache: PrefixCache,
        prompt: Prompt,
        tokenizer: Tokenizer,
        index: TokenIndex,
        limits: Limits,
        stop: StopRule,
        *,
        must_begin: bool = False,
        proposer: Proposer | None = None,
        worth: Worth | None = None,
        expected: str = "",
    ) -> None:
        n_prompt, n_positions = len(prompt.token_ids), cache.engine.config.n_positions
        if not 0 < n_prompt <= n_positions:
            raise ValueError(f"a prompt has 1 to {n_positions} token ids, not {n_prompt}")
        never_written = index.markers[index.markers != tokenizer.end_of_text]
        self._reader = Reader(cache, limits, tokenizer.vocab_size, never_written)
        self._prompt, self._tokenizer, self._index = prompt, tokenizer, index
        self._max_new_tokens, self._stop, self._proposer = limits.max_new_tokens, stop, proposer
        self._must_begin, self._worth, self._expected = must_begin, worth, expected
        self._cache, self._limits = cache, limits
        self._n_cached = min(cache.n_common(prompt.token_ids), n_prompt - 1)  # the last is always fed
        self.prefill_ms = 0.0  # until the prompt and its pending text were read
        self._pending_logprob = 0.0
        self._found: list[Start] | None = None

    def attempts(self, n: int) -> Iterator[Generation]:
        """What `generate` gives, then at most `n` - 1 others that start with the next likely token after the cursor.

        Each is written only when it is asked for; none after a limit is reached.
        """
        found = self._starts(n)
        yield self._write(found[0] if found else None)
        for start in found[1:]:
            if self._is_at_limit():
                return
            yield self._write(start)

    def alternatives(self, n: int) -> list[Generation]:
        """At most `n` different texts: what `generate` gives, then others by their probability per token.

        The others start with another token after the cursor and go on greedily from there; none is empty. Fewer at the
        deadline or when cancelled, but always the first.
        """
        first, *_ = self.attempts(1)
        others: dict[str, Generation] = {}
        for start in self._starts(2 * n)[1:]:  # some may lead to the same text, or to none
            if len(others) >= n - 1 or self._is_at_limit():
                break
            other = self._write(start)
            if other.text and other.text != first.text:
                others.setdefault(other.text, other)
        return [first, *sorted(others.values(), key=lambda other: -other.mean_logprob)]

    def log_likelihood(self, text: str, at_least: float = -math.inf) -> float | None:
        """How likely the model finds `text` after the cursor, natural logarithm (see `likelihood`); None at a limit."""
        if not self._starts(1):
            return None
        reader, prompt, tokenizer, index = self._reader, self._prompt, self._tokenizer, self._index
        return log_likelihood(text, reader, prompt, tokenizer, index, self._pending_logprob, at_least)

    def _starts(self, n: int) -> list[Start]:
        """The starts to write from, the greedy one first; none when a limit comes before the first token."""
        if self._max_new_tokens <= 0:
            return []
        if self._found is not None and n <= len(self._found):
            return self._found[:n]
        began = time.perf_counter()
        if self._found is None:
            self._read_prompt()
            self._read_expected()
        n_more = N_BLANK_STARTS if self._must_begin else 0
        found, self._pending_logprob = starts(self._reader, self._prompt, self._tokenizer, self._index, n + n_more)
        if self._must_begin:
            found = [start for start in found if start.shown and not start.shown.startswith(BLANKS)] or found
        self.prefill_ms += 1000 * (time.perf_counter() - began)
        self._found = found
        return found[:n]

    def _is_at_limit(self) -> bool:
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

    def _read_expected(self) -> None:
        """Reads the text that is expected; what it says about the end of the prompt is known from then on."""
        if self._expected:
            text = self._prompt.pending + self._expected.encode()
            token_ids = continued(self._prompt.token_ids, text, self._tokenizer)
            sequence = [*self._prompt.token_ids, *token_ids]
            if len(sequence) <= self._reader.n_positions:
                self._reader.logits(sequence, len(token_ids) + 1)

    def _write(self, start: Start | None) -> Generation:
        """The greedy text from `start` on; an empty one for None."""
        began = time.perf_counter()
        written = _Written(self._stop)
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
            n_drafted_tokens=written.n_drafted,
            n_accepted_tokens=written.n_accepted,
            prefill_ms=self.prefill_ms,
            decode_ms=1000 * (time.perf_counter() - began),
        )

    def _go_on(self, start: Start, written: _Written) -> Finish:
        """Adds to `written` what follows `start`. The last token is not fed: nothing is asked after it."""
        sequence = [*self._prompt.token_ids, *start.route.token_ids, start.token_id]
        text_so_far = self._prompt.pending + start.shown
        while written.n_tokens < self._max_new_tokens and len(sequence) <= self._reader.n_positions:
            if self._worth is not None and not self._worth(written.text, written.logprob):
                return "unlikely"
            n_left = self._max_new_tokens - written.n_tokens - 1
            draft = [] if self._reader.knows(sequence) else self._draft(len(sequence), text_so_far, n_left)
            written.n_drafted += len(draft)
            logits = self._reader.logits(sequence + draft, len(draft) + 1)
            if logits is None:
                return self._reader.stopped_by or "length"
            for row, drafted in zip(logits, [*draft, None], strict=True):
                log_probs = self._reader.log_probs(row)
                token_id = int(log_probs.argmax())
                data = self._tokenizer.token_bytes(token_id)
                if token_id == self._tokenizer.end_of_text or data.startswith(b"\n"):
                    written.end_logprob = log_sum_exp(log_probs[self._index.ends_line])
                if token_id == self._tokenizer.end_of_text:
                    return "stop"
                sequence.append(token_id)
                text_so_far += data
                written.n_accepted += token_id == drafted
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


class _Written:
    """What was written after the cursor, token by token."""

    def __init__(self, stop: StopRule) -> None:
        self.n_tokens = self.n_drafted = self.n_accepted = 0
        self.end_logprob = self.logprob = 0.0
        self.text = ""
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._texts: list[str] = []
        self._logprobs: list[float] = []
        self._n_kept: int | None = None

    def add(self, data: bytes, logprob: float) -> bool:
        """Whether the text has ended with the token whose bytes are `data`: by the stop rule, or because it is no text.

        A character that is not complete yet shows with the token that completes it.
        """
        self.n_tokens += 1
        try:
            shown = self._decoder.decode(data)
        except UnicodeDecodeError:
            return True
        self.text += shown
        self.logprob += logprob
        self._texts.append(shown)
        self._logprobs.append(logprob)
        self._n_kept = self._stop(self.text)
        return self._n_kept is not None

    def kept(self) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
        """The text up to its end, and the texts and log-probabilities of the tokens that have a part in it."""
        text = self.text[: self._n_kept]
        texts: list[str] = []
        n_left = len(text)
        for shown in self._texts:
            if n_left <= 0:
                break
            texts.append(shown[:n_left])
            n_left -= len(shown)
        return text, tuple(texts), tuple(self._logprobs[: len(texts)])
