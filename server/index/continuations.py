"""What stood behind the places that look like a cursor, cut into first tokens: tier by tier, for one request.

Where somebody says which places come next, they are looked at beforehand, in another thread: the model's forwards leave
the interpreter to others, so that whoever waits for the model does not wait for this. Knows tokens; nothing of
probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from server.index.lookup import Finding, Follower, Refused, Tier
from server.index.segment import MAX_MATCH_BYTES
from server.index.weights import ORDER, Kind, Level
from server.lm.tokenizer import Tokenizer

FIRST_TOKEN_BYTES = 24  # of what follows, enough to tell its first token
MAX_CACHED = 20_000


class FirstTokens:
    """First token of a text, remembered: the same few words follow again and again. For any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[bytes, int], int | None] = {}

    def of(self, text: bytes, n_written: int = 0) -> int | None:
        """The id that `text` goes on with behind its first `n_written` bytes, a character's beginning.

        None where that character is not whole, or where no token starts behind them.
        """
        key = text, n_written
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= MAX_CACHED:
                self._known.clear()
            token_id = self._known[key] = self._behind(n_written, self.all_of(text))
            return token_id

    def _behind(self, n_bytes: int, ids: Sequence[int]) -> int | None:
        for token_id in ids:
            if n_bytes <= 0:
                return token_id if n_bytes == 0 else None
            n_bytes -= len(self.bytes_of(token_id))
        return None

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes of an id."""
        return self._tokenizer.token_bytes(token_id)

    def all_of(self, text: bytes) -> list[int]:
        """The ids of `text` up to a character that is not whole."""
        try:
            shown = text.decode("utf-8")
        except UnicodeDecodeError as error:
            shown = text[: error.start].decode("utf-8")
        return self._tokenizer.encode_once(shown) if shown else []


@dataclass(frozen=True, slots=True)
class Continuation:
    """What follows in one tier, where so much of the past agrees."""

    kind: Kind
    level: Level
    tier: Tier
    finding: Finding
    places: Mapping[int, Sequence[int]]  # looked at, by the token that comes next there
    line_breaks: frozenset[int]  # of these tokens
    is_forced: bool  # the pending text goes on, and the tokens are the next of it

    @property
    def likeliest(self) -> bytes:
        """What follows most often."""
        following = self.finding.following
        return max(following, key=lambda text: len(following[text]))


class Continuations:
    """What follows behind the text at one cursor, as it is written.

    `past` is the text before the cursor; `n_pending` so many of its last bytes are matched instead of fed. What is
    `refused` does not count right behind the cursor. `thread` looks at places beforehand; not without one.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        past: bytes,
        n_pending: int,
        first_tokens: FirstTokens,
        refused: Refused | None = None,
        thread: Executor | None = None,
    ) -> None:
        fed = past[: len(past) - n_pending]
        self.pending = past[len(past) - n_pending :]
        self._fed = fed[-MAX_MATCH_BYTES:]
        self._followers = [Follower(tier) for tier in tiers]  # several tiers may have one name
        self._first_tokens, self._refused, self._thread = first_tokens, refused, thread
        self._known: dict[bytes, Sequence[Continuation]] = {}
        self._ahead: Future[None] | None = None  # while it runs, the followers are the thread's

    def text_at(self, text_so_far: bytes) -> bytes:
        """What is compared with the tiers where `text_so_far` follows the fed prompt, pending text included."""
        return self._fed + (text_so_far if len(text_so_far) >= len(self.pending) else self.pending)

    def prepare(self, texts: Sequence[bytes]) -> None:
        """Looks at what follows behind these, in their order, while something else is done."""
        self._settle()
        missing = [text for text in texts if text not in self._known]
        if self._thread is None or not missing:
            return
        try:
            self._ahead = self._thread.submit(self._know, missing)
        except RuntimeError:  # the index is shut down
            self._thread = None

    def behind(self, text_so_far: bytes) -> Sequence[Continuation]:
        """What follows there, in the order of `ORDER`: at most one for each kind and level, the longest match."""
        self._settle()
        if text_so_far not in self._known:
            self._know([text_so_far])
        return self._known[text_so_far]

    def may_agree(self, text_so_far: bytes, n_bytes: int) -> bool:
        """False where no match of so many bytes is to be expected, by the one at a text that this one goes on from.

        Costs no look-up.
        """
        self._settle()
        for n_added in range(len(text_so_far) - len(self.pending) + 1):
            known = self._known.get(text_so_far[: len(text_so_far) - n_added])
            if known is not None:
                return max((each.finding.n_bytes for each in known), default=0) + n_added >= n_bytes
        return True

    def _settle(self) -> None:
        """Waits for what is being looked at; what has not begun is done by whoever needs it."""
        if self._ahead is not None and not self._ahead.cancel():
            self._ahead.result()
        self._ahead = None

    def _know(self, texts: Sequence[bytes]) -> None:
        for text_so_far in texts:
            self._known[text_so_far] = self._looked_up(text_so_far)

    def _looked_up(self, text_so_far: bytes) -> list[Continuation]:
        text = self.text_at(text_so_far)
        refused = self._refused if len(text_so_far) <= len(self.pending) else None
        found: dict[tuple[Kind, Level], tuple[Tier, Finding]] = {}
        for follower in self._followers:
            levels: tuple[Level, Level] = ("longest", "shorter")
            for level, finding in zip(levels, follower.after(text, refused), strict=False):
                key = (follower.tier.kind, level)
                if key not in found or finding.n_bytes > found[key][1].n_bytes:
                    found[key] = (follower.tier, finding)
        begun, forced = _begun_character(text_so_far), self.pending[len(text_so_far) :]
        return [self._cut(*key, *found[key], begun, forced) for key in ORDER if key in found]

    def _cut(self, kind: Kind, level: Level, tier: Tier, finding: Finding, begun: bytes, forced: bytes) -> Continuation:
        """The places looked at, by the token that comes next there."""
        before, n_begun, first_of = begun + forced, len(begun), self._first_tokens.of
        by_head: dict[bytes, list[int]] = {}  # many texts that go on differently begin alike
        for text, places in finding.following.items():
            if text:
                by_head.setdefault(_head(text), []).extend(places)
        by_token: dict[int, list[int]] = {}
        line_breaks = set()
        for head, places in by_head.items():
            token_id = first_of(before + head, n_begun)
            if token_id is None:
                continue
            if head.startswith(b"\n"):
                line_breaks.add(token_id)
            by_token.setdefault(token_id, []).extend(places)
        return Continuation(kind, level, tier, finding, by_token, frozenset(line_breaks), bool(forced))


def _begun_character(text: bytes) -> bytes:
    """The bytes of the UTF-8 character that `text` ends in the middle of; most often there is none."""
    for n_bytes in range(1, min(len(text), 3) + 1):
        first = text[-n_bytes]
        if first < 0x80 or first >= 0xC0:
            n_whole = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            return text[-n_bytes:] if n_whole > n_bytes else b""
    return b""


def _head(text: bytes) -> bytes:
    """As much of `text` as its first token can take: no token crosses a line break."""
    if text.startswith(b"\n"):
        return text[: len(text) - len(text[1:].lstrip(b" \t"))]
    return text[:FIRST_TOKEN_BYTES].split(b"\n", 1)[0]
