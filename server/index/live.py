"""The index as it is now: what was built from the disk, and over it the files that have changed or are open.

Told of changes from one thread, asked from another. A file that may not be read is refused by whoever tells, and one
that is not as it was built is hidden by them. The text on the line of the cursor never answers for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from server.index.at_hand import MAX_PAST, clean_parts, searched, unix_at, useless_on_a_blank_line, utf8
from server.index.beside import ThreadBeside
from server.index.built_files import BuiltFiles, numbers_of
from server.index.changed import CHANGED, Changed, Clean, Searchable, without_secrets
from server.index.line_weights import LineEvidence
from server.index.lines import WINDOW_BYTES, Line, LineEnds, Surroundings, line_ends
from server.index.lookup import Tier
from server.index.ranking import Found, Ranking
from server.index.segment import Segment, SegmentFile
from server.lm.context import Document, Snippet, unix_lines

if TYPE_CHECKING:
    from server.index.continuations import FirstTokens
    from server.index.opinion import Opinion
    from server.lm.tokenizer import Tokenizer

MAX_CHANGED_BYTES = 2_000_000  # of changed files that are held; beyond that they wait for the next build

THIS_FILE, REPOSITORY, DEPENDENCIES = "this file", "repository", "dependencies"


class LiveIndex:
    """One workspace folder's text, searchable. `path` everywhere is relative to the folder, parts separated by "/"."""

    def __init__(self, clean: Clean = without_secrets) -> None:
        self._searchable = Searchable(clean)
        self._lock = threading.Lock()
        self._built = BuiltFiles({})
        self._changed: dict[str, Changed] = {}  # none of these is hidden in `_built`
        self._around: tuple[tuple[str, str, str], Segment] | None = None
        self._first_tokens: tuple[str, FirstTokens] | None = None
        self._thread = ThreadBeside("loracle-index")
        self._ranking = Ranking(self._thread)
        self._n_changes = 0
        self._n_changes_of: dict[str, int] = {}

    def use(self, built: Mapping[str, Segment], hidden: Collection[str] = ()) -> None:
        """Puts freshly built segments in force, by tier name; what changed on disk before is in them.

        Those files that are `hidden` do not answer until they are shown.
        """
        with self._lock:
            self._changed = {path: changed for path, changed in self._changed.items() if changed.is_open}
            self._built = BuiltFiles(built, set(hidden) - self._changed.keys())
            self._n_changes += 1

    def hide(self, paths: Iterable[str]) -> None:
        """What was built of these files does not answer any more; what is known to be newer still does."""
        with self._lock:
            self._n_changes += self._built.hide(path for path in paths if path not in self._changed)

    def forget(self, paths: Iterable[str]) -> None:
        """Nothing that is known of these files from the disk answers any more; what is open still does."""
        with self._lock:
            closed = [path for path in paths if path not in self._changed or not self._changed[path].is_open]
            for path in closed:
                self._changed.pop(path, None)
            self._built.hide(closed)
            self._n_changes += bool(closed)

    def show(self, paths: Iterable[str]) -> None:
        """What was built of these files answers again."""
        with self._lock:
            self._n_changes += self._built.show(paths)

    def paths_below(self, folders: Collection[str]) -> set[str]:
        """The files in some folders that were built or have changed on disk; the empty name is the whole."""
        with self._lock:
            closed = [path for path, changed in self._changed.items() if not changed.is_open]
            found = self._built.below(folders)
        found.update(path for path in closed if "" in folders or any(each in folders for each in _folders_of(path)))
        return found

    def built_text(self, path: str) -> bytes | None:
        """What was built of one of the workspace's files."""
        segment = self._built.segments.get(REPOSITORY)
        number = None if segment is None else segment.number_of(path)
        return None if segment is None or number is None else segment.text_of(number)

    def change(self, path: str, text: str | None, *, is_open: bool) -> None:
        """A file has this text now; None when it is gone, or is not to be read any more.

        What lies on disk does not overrule what is open.
        """
        with self._lock:
            former = self._changed.get(path)
            if former is not None and former.is_open and not is_open:
                return
            if former is None or former.text != text or former.is_open != is_open:
                self._set(path, Changed(text, is_open))

    def close(self, path: str, saved: str | None) -> None:
        """A file is no longer open; `saved` is its text on disk, None where there is none."""
        with self._lock:
            self._set(path, Changed(saved, is_open=False))

    def version_beside(self, path: str) -> int:
        """A number that changes with everything but the text of `path` itself."""
        with self._lock:
            return self._n_changes - self._n_changes_of.get(path, 0)

    def _set(self, path: str, changed: Changed) -> None:
        self._changed.pop(path, None)
        if changed.text is None and not changed.is_open:
            self._built.hide([path])
        else:
            self._changed[path] = changed  # the last one, as the latest
            self._built.show([path])
        self._n_changes += 1
        self._n_changes_of[path] = self._n_changes_of.get(path, 0) + 1

    @property
    def n_changed_bytes(self) -> int:
        """How much text of files that changed on disk is held; above `MAX_CHANGED_BYTES` it is time for a new build."""
        with self._lock:
            return sum(len(changed.text or "") for changed in self._changed.values() if not changed.is_open)

    @property
    def built(self) -> Mapping[str, Segment]:
        """What was built, by tier name."""
        return self._built.segments

    def opinion(
        self,
        document: Document,
        offset: int,
        n_pending: int,
        tokenizer: Tokenizer,
        *,
        inserted: str = "",
        multiline: bool = False,
        names: Iterable[str] = (THIS_FILE, CHANGED, REPOSITORY, DEPENDENCIES),
    ) -> Opinion:
        """What is to be mixed in at a cursor of `document`, from the tiers named."""
        wanted = frozenset(names)
        tiers = [tier for tier in self.tiers(document, offset) if tier.name in wanted]
        text, offset = unix_at(document.text, offset)
        past = utf8(text[max(offset - MAX_PAST, 0) : offset] + unix_lines(inserted))
        from server.index.opinion import Opinion

        first_tokens = self._tokens_of(tokenizer)
        line = past[past.rfind(b"\n") + 1 :]
        return Opinion(
            tiers,
            past,
            n_pending,
            first_tokens,
            tokenizer.end_of_text,
            ends_line=not multiline,
            refused=None if line.strip() else useless_on_a_blank_line(text[offset:]),
            thread=self._thread,
        )

    def ranked(self, document: Document, offset: int, inserted: str = "") -> Future[list[Line]]:
        """How the line at a cursor of `document` may end, the likeliest first, once that is known.

        It is found out in another thread. What was asked before and has not begun is cancelled.
        """
        key = document, offset, inserted, self._n_changes
        known = self._ranking.known(key)  # reading ahead has often asked the same
        return known or self._ranking.begin(key, self._line_ends(document, offset, inserted))

    def lines(self, document: Document, offset: int, inserted: str = "") -> list[Line]:
        """The same for whoever waits."""
        return self.ranked(document, offset, inserted).result()

    def line_evidence(self, document: Document, offset: int) -> dict[bytes, LineEvidence]:
        """What there is to judge each end of the line by, for whoever fits the weights."""
        return self._ranking.evidence(self._line_ends(document, offset, ""))

    def _line_ends(self, document: Document, offset: int, inserted: str) -> Found:
        """What searches for the ends: in any thread, in what is known now."""
        tiers = self.tiers(document, offset)

        def found() -> tuple[LineEnds, Surroundings]:
            text, at = unix_at(document.text, offset)
            past = utf8(text[max(at - MAX_PAST, 0) : at] + unix_lines(inserted))
            rest, _, below = text[at : at + MAX_PAST + WINDOW_BYTES].partition("\n")
            cursor = Surroundings(document.path, past, utf8(rest), utf8(below)[:WINDOW_BYTES])
            refused = None if cursor.line.strip() else useless_on_a_blank_line(text[at:])
            return line_ends(tiers, cursor, refused), cursor

        return found

    def snippets(self, document: Document, offset: int) -> tuple[Snippet, ...]:
        """Definitions in other files for the prompt, as they were when the index was built."""
        from server.index.retrieval import snippets_for

        with self._lock:
            segment = self._built.segments.get(REPOSITORY)
            gone = self._built.hidden.union(path for path, changed in self._changed.items() if changed.text is None)
        return () if segment is None else snippets_for(document, offset, segment, gone)

    def shut_down(self) -> None:
        """Ends the thread that works while the model reads; there are no lines from now on."""
        self._thread.shutdown(wait=False)

    def tiers(self, document: Document, offset: int) -> list[Tier]:
        """Everything that may be searched for a cursor of `document`."""
        with self._lock:
            built, hidden, changed = self._built.segments, self._built.hidden_numbers, dict(self._changed)
        changed.pop(document.path, None)
        changed = self._searchable.differing(changed, built.get(REPOSITORY))
        tiers = []
        if DEPENDENCIES in built:
            tiers.append(Tier(DEPENDENCIES, "dependencies", built[DEPENDENCIES], hidden[DEPENDENCIES]))
        if REPOSITORY in built:
            newer = numbers_of(built[REPOSITORY], (document.path, *changed))
            tiers.append(Tier(REPOSITORY, "repository", built[REPOSITORY], hidden[REPOSITORY] | newer))
        tiers += self._searchable.tiers(changed)
        tiers.append(self._this_file(document, offset))
        return tiers

    def prepare(self) -> None:
        """Makes what has changed searchable, so that the next search need not: for a thread that nobody waits for."""
        with self._lock:
            built, changed = self._built.segments, dict(self._changed)
        self._searchable.prepare(changed, built.get(REPOSITORY))

    def _this_file(self, document: Document, offset: int) -> Tier:
        """The document above and below the line of the cursor; the same as long as one line is typed in."""
        text, offset = unix_at(document.text, offset)
        first, start, end, last = searched(text, offset)
        above, below = text[first:start], text[end:last]
        if self._around is None or self._around[0] != (document.path, above, below):
            parts = clean_parts(text, first, start, last)
            files = [SegmentFile(document.path, part) for part in parts]
            self._around = (document.path, above, below), Segment.build(files)
        line = text.count("\n", 0, first) + 1
        first_lines = (line, line + above.count("\n") + 1)
        return Tier(THIS_FILE, "file", self._around[1], first_lines=first_lines)

    def _tokens_of(self, tokenizer: Tokenizer) -> FirstTokens:
        from server.index.continuations import FirstTokens

        if self._first_tokens is None or self._first_tokens[0] != tokenizer.fingerprint:
            self._first_tokens = tokenizer.fingerprint, FirstTokens(tokenizer)
        return self._first_tokens[1]


def _folders_of(path: str) -> Iterator[str]:
    """The folders that a path lies in, the innermost first, without the whole."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
