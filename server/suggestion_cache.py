"""Suggestions that were offered before, found again while the user types along them.

Answers without the model when the text is what it was when the suggestion was made, plus the first characters of the
suggestion: also after a correction inside them, and with a bracket or quote that the editor closed by itself. Knows
nothing of editors or the model; the key that a caller gives covers all else that an answer depends on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.completion import Suggestion

CLOSERS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "`": "`"}
MAX_ENTRIES = 64
# An entry keeps the whole text that it belongs to alive; one key's worth of a ten-megabyte file would be ten megabytes.
MAX_CHARACTERS = 12_000_000


@dataclass(frozen=True, slots=True)
class Offer:
    """A suggestion under the name by which the editor tells that it was accepted."""

    id: str
    suggestion: Suggestion


@dataclass(frozen=True, slots=True)
class _Entry:
    """What was answered to one question; `offers` is empty when there was nothing worth offering."""

    uri: str
    text: str
    offset: int
    key: Hashable
    invoked: bool
    offers: tuple[Offer, ...]


class SuggestionCache:
    """The latest answers, newest first. Used from one thread only."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._n_stored = 0

    def store(self, uri: str, text: str, offset: int, key: Hashable, offers: Sequence[Offer], *, invoked: bool) -> None:
        """Remembers the answer to a question, an empty one too; `invoked`: a key asked for alternatives."""
        self._n_stored += 1
        self._entries[self._n_stored] = _Entry(uri, text, offset, key, invoked, tuple(offers))
        while len(self._entries) > MAX_ENTRIES or (len(self._entries) > 1 and self._n_characters() > MAX_CHARACTERS):
            self._entries.popitem(last=False)

    def find(self, uri: str, text: str, offset: int, key: Hashable, *, invoked: bool) -> tuple[Offer, ...] | None:
        """What a remembered answer still offers for this cursor; None when the model must be asked.

        Once the user has typed, only those of several offers are left that begin with what was typed. Who asks for
        alternatives always gets new ones, and these, held to lower standards, are otherwise only typed along.
        """
        for entry in reversed(self._entries.values()):
            if entry.uri != uri or entry.key != key:
                continue
            if entry.invoked == invoked and entry.offset == offset and entry.text == text:
                return entry.offers
            if invoked or offset <= entry.offset:
                continue
            left = [offer for known in entry.offers if (offer := _typed_along(entry, known, text, offset)) is not None]
            if left:
                return tuple(left)
        return None

    def forget(self, uri: str) -> None:
        """Drops what belongs to a document that was closed."""
        for number in [number for number, entry in self._entries.items() if entry.uri == uri]:
            del self._entries[number]

    def clear(self) -> None:
        """Drops everything: the model or the settings have changed."""
        self._entries.clear()

    def _n_characters(self) -> int:
        # Entries one key apart have different texts, but the same one asked about twice counts once.
        return sum(len(text) for text in {id(entry.text): entry.text for entry in self._entries.values()}.values())


def _typed_along(entry: _Entry, offer: Offer, text: str, offset: int) -> Offer | None:
    """What remains of an offer when its first characters stand before the cursor; None if something else does."""
    was = offer.suggestion
    n_typed = offset - was.start
    typed = was.text[: max(n_typed, 0)]
    n_closed = (len(text) - offset) - (len(entry.text) - entry.offset)
    # The cheap tests come first: the texts are compared only if their lengths fit.
    if n_typed >= len(was.text) or not 0 <= n_closed <= len(typed):
        return None
    if text[was.start : offset] != typed or not text.startswith(entry.text[: was.start]):
        return None
    if not text.endswith(entry.text[entry.offset :]):
        return None
    rest = was.text[n_typed:]
    closers = text[offset : offset + n_closed]
    if not closers:
        return _moved(offer, rest, offset, offset)
    if closers != _closers_behind(typed, n_closed):
        return None
    if rest.endswith(closers):
        kept = rest[: -len(closers)]
        return _moved(offer, kept, offset, offset) if kept else None
    return _moved(offer, rest, offset, offset + n_closed) if _holds(rest, closers) else None


def _moved(offer: Offer, text: str, start: int, end: int) -> Offer:
    return Offer(offer.id, replace(offer.suggestion, text=text, start=start, end=end))


def _closers_behind(typed: str, n_closers: int) -> str:
    """What an editor that closes brackets and quotes has put behind the cursor after `typed`, innermost first."""
    open_now: list[str] = []
    for character in typed:
        if open_now and character == open_now[-1]:
            open_now.pop()
        elif character in CLOSERS:
            open_now.append(CLOSERS[character])
    return "".join(islice(reversed(open_now), n_closers))


def _holds(text: str, characters: str) -> bool:
    """Whether `characters` occur in `text` in their order: an editor shows no item that drops what it overwrites."""
    remaining = iter(text)
    return all(character in remaining for character in characters)
