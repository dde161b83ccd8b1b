"""What decoding has written after the cursor so far: tokens become text, and the stop rule says where that ends."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable

# Text after the cursor -> how many of its characters to keep, when it has reached its end; None to go on.
StopRule = Callable[[str], int | None]


class Written:
    """What was written after the cursor, token by token."""

    def __init__(self, stop: StopRule) -> None:
        self.n_tokens = 0
        self.end_logprob = 0.0
        self.least_logprob = math.inf  # of its lines, each with the line break before it
        self.text = ""
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._texts: list[str] = []
        self._logprobs: list[float] = []
        self._line_logprob = 0.0  # of the last line so far
        self._former_logprob = math.inf  # the least of those before it
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
        if shown.startswith("\n"):
            self._former_logprob, self._line_logprob = self.least_logprob, 0.0
        self._line_logprob += logprob
        self.least_logprob = min(self._former_logprob, self._line_logprob)
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
