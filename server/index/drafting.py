"""Guesses at the next tokens, from what stands behind the longest match with the text (`Proposer` of decode).

They are confirmed several in one forward, and change the speed of decoding, never its text.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.index.lookup import Follower, Tier
from server.index.segment import MAX_MATCH_BYTES
from server.lm.tokenizer import Tokenizer

DRAFT_TOKENS = 8  # decoding of verbatim lines is 1.4 times as fast with 4, 1.6 with 8 (part `index` of the bench)
MIN_DRAFT_BYTES = 12  # a shorter match is no good guess at several tokens


class Drafter:
    """What some tiers propose behind one cursor.

    `past` is the text before the cursor; so many of its last bytes, `n_pending`, are matched instead of fed.
    """

    def __init__(self, tiers: Sequence[Tier], past: bytes, n_pending: int, tokenizer: Tokenizer) -> None:
        fed = past[: len(past) - n_pending]
        self._fed, self._n_pending = fed[-MAX_MATCH_BYTES:], n_pending
        self._followers = [Follower(tier) for tier in tiers]
        self._tokenizer = tokenizer

    def propose(self, text_so_far: bytes, max_tokens: int) -> list[int]:
        """The ids of what follows most often behind the longest match, within its line."""
        if len(text_so_far) < self._n_pending:
            return []
        text = self._fed + text_so_far
        longest = [found[0] for follower in reversed(self._followers) if (found := follower.after(text))]
        best = max(longest, key=lambda finding: finding.n_bytes, default=None)  # of equals the nearest
        if best is None or best.n_bytes < MIN_DRAFT_BYTES:
            return []
        ahead = max(best.following, key=lambda following: len(best.following[following]))
        line = ahead.split(b"\n", 1)[0]
        ids = self._tokens(line)
        if line == ahead:  # cut, perhaps within its last token
            ids = ids[:-1]
        return ids[: min(max_tokens, DRAFT_TOKENS)]

    def _tokens(self, text: bytes) -> list[int]:
        """The ids of `text` up to a character that is not whole."""
        try:
            shown = text.decode("utf-8")
        except UnicodeDecodeError as error:
            shown = text[: error.start].decode("utf-8")
        return self._tokenizer.encode_once(shown) if shown else []
