"""The index as it is now: what was built from the disk, and over it the files that have changed or are open.

Told of changes from one thread, asked from another. A file is cut of its secrets here as in the build; one that may
not be read is refused by whoever tells. The text on the line of the cursor never answers for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.index.line_weights import LineEvidence
from server.index.lines import WINDOW_BYTES, Line, LineEnds, Surroundings, Windows, evidence_of, likely_lines, line_ends
from server.index.lookup import Refused, Tier
from server.index.segment import Segment, SegmentFile
from server.lm.context import Document, Snippet, unix_lines
from server.repository.secrets import scrub

if TYPE_CHECKING:
    from server.index.opinion import FirstTokens, Opinion
    from server.lm.tokenizer import Tokenizer

MAX_ABOVE, MAX_BELOW = 65_536, 16_384  # characters of the document at hand that are searched
MAX_PAST = 1_024  # characters before the cursor that a search can look at
# Characters above and below what is searched that tell whether a secret reaches into it: a private key has many lines.
SECRET_ABOVE, SECRET_BELOW = 20_480, 1_024
MAX_FRESH = 4  # changed files that are searched one by one; more are put together where nobody waits
MAX_CHANGED_BYTES = 2_000_000  # of changed files that are held; beyond that they wait for the next build

THIS_FILE, CHANGED, REPOSITORY, DEPENDENCIES = "this file", "changed files", "repository", "dependencies"

# A file's path and text -> what of it may be searched; None for nothing.
Clean = Callable[[str, str], bytes | None]


def without_secrets(_path: str, text: str) -> bytes | None:
    """`text` with Unix line ends and its secrets cut."""
    return scrub(unix_lines(text)).text.encode("utf-8", "replace")


@dataclass(slots=True)
class _Changed:
    """A file that differs from what was built; None for one that is gone."""

    text: str | None
    is_open: bool
    is_cleaned: bool = False
    cleaned: bytes | None = None  # of `text`, made when first needed
    compared: tuple[Segment, bool] | None = None  # what was built, and whether it holds the same text
    segment: Segment | None = None


class LiveIndex:
    """One workspace folder's text, searchable. `path` everywhere is relative to the folder, parts separated by "/"."""

    def __init__(self, clean: Clean = without_secrets) -> None:
        self._clean = clean
        self._lock = threading.Lock()
        self._built: Mapping[str, Segment] = {}  # by tier name
        self._changed: dict[str, _Changed] = {}
        self._together: tuple[Mapping[str, _Changed], Segment] | None = None
        self._around: tuple[tuple[str, str, str], Segment] | None = None
        self._first_tokens: tuple[str, FirstTokens] | None = None
        self._windows = Windows()
        self._lines: tuple[tuple[Document, int, str, int], list[Line]] | None = None
        self._n_changes = 0
        self._n_changes_of: dict[str, int] = {}

    def use(self, built: Mapping[str, Segment]) -> None:
        """Puts freshly built segments in force, by tier name; what changed on disk before is in them."""
        with self._lock:
            self._built = dict(built)
            self._n_changes += 1
            self._changed = {path: changed for path, changed in self._changed.items() if changed.is_open}

    def change(self, path: str, text: str | None, *, is_open: bool) -> None:
        """A file has this text now; None when it is gone, or is not to be read any more.

        What lies on disk does not overrule what is open.
        """
        with self._lock:
            former = self._changed.get(path)
            if former is not None and former.is_open and not is_open:
                return
            if former is None or former.text != text or former.is_open != is_open:
                self._set(path, _Changed(text, is_open))

    def close(self, path: str, saved: str | None) -> None:
        """A file is no longer open; `saved` is its text on disk, None where there is none."""
        with self._lock:
            self._set(path, _Changed(saved, is_open=False))

    def version_beside(self, path: str) -> int:
        """A number that changes with everything but the text of `path` itself."""
        with self._lock:
            return self._n_changes - self._n_changes_of.get(path, 0)

    def _set(self, path: str, changed: _Changed) -> None:
        self._changed.pop(path, None)
        self._changed[path] = changed  # the last one, as the latest
        self._n_changes += 1
        self._n_changes_of[path] = self._n_changes_of.get(path, 0) + 1

    @property
    def n_changed_bytes(self) -> int:
        """How much changed text is held; above `MAX_CHANGED_BYTES` it is time for a new build."""
        with self._lock:
            return sum(len(changed.text or "") for changed in self._changed.values())

    @property
    def built(self) -> Mapping[str, Segment]:
        """What was built, by tier name."""
        return self._built

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
        text, offset = _unix(document.text, offset)
        past = _utf8(text[max(offset - MAX_PAST, 0) : offset] + unix_lines(inserted))
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
            refused=None if line.strip() else _useless_on_a_blank_line(text[offset:]),
        )

    def lines(self, document: Document, offset: int, inserted: str = "") -> list[Line]:
        """How the line at a cursor of `document` may end, the likeliest first."""
        key = document, offset, inserted, self._n_changes
        if self._lines is None or self._lines[0] != key:  # reading ahead has often asked the same
            self._lines = key, likely_lines(*self._line_ends(document, offset, inserted), self._windows)
        return self._lines[1]

    def line_evidence(self, document: Document, offset: int) -> dict[bytes, LineEvidence]:
        """What there is to judge each end of the line by, for whoever fits the weights."""
        found, cursor = self._line_ends(document, offset, "")
        return dict(zip(found, evidence_of(found, cursor, self._windows), strict=True))

    def _line_ends(self, document: Document, offset: int, inserted: str) -> tuple[LineEnds, Surroundings]:
        tiers = self.tiers(document, offset)
        text, offset = _unix(document.text, offset)
        past = _utf8(text[max(offset - MAX_PAST, 0) : offset] + unix_lines(inserted))
        rest, _, below = text[offset : offset + MAX_PAST + WINDOW_BYTES].partition("\n")
        cursor = Surroundings(document.path, past, _utf8(rest), _utf8(below)[:WINDOW_BYTES])
        refused = None if cursor.line.strip() else _useless_on_a_blank_line(text[offset:])
        return line_ends(tiers, cursor, refused), cursor

    def snippets(self, document: Document, offset: int) -> tuple[Snippet, ...]:
        """Definitions in other files for the prompt, as they were when the index was built."""
        from server.index.retrieval import snippets_for

        segment = self._built.get(REPOSITORY)
        return () if segment is None else snippets_for(document, offset, segment)

    def tiers(self, document: Document, offset: int) -> list[Tier]:
        """Everything that may be searched for a cursor of `document`."""
        with self._lock:
            built, changed = self._built, dict(self._changed)
        changed.pop(document.path, None)
        changed = {path: each for path, each in changed.items() if not self._is_built(built, path, each)}
        tiers = []
        for name, kind in ((DEPENDENCIES, "dependencies"), (REPOSITORY, "repository")):
            if name in built:
                segment = built[name]
                paths = (document.path, *changed) if name == REPOSITORY else ()
                numbers = frozenset(n for n in map(segment.number_of, paths) if n is not None)
                tiers.append(Tier(name, "dependencies" if kind == "dependencies" else "repository", segment, numbers))
        tiers += self._changed_tiers(changed)
        tiers.append(self._this_file(document, offset))
        return tiers

    def prepare(self) -> None:
        """Makes what has changed searchable, so that the next search need not: for a thread that nobody waits for."""
        with self._lock:
            built, changed = self._built, dict(self._changed)
        changed = {path: each for path, each in changed.items() if not self._is_built(built, path, each)}
        present = {path: each for path, each in changed.items() if self._cleaned(path, each) is not None}
        together = self._together[0] if self._together is not None else {}
        fresh = {path: each for path, each in present.items() if together.get(path) is not each}
        if len(fresh) > MAX_FRESH:
            self._together = present, Segment.build([_segment_file(path, each) for path, each in present.items()])
        else:
            for path, each in fresh.items():
                each.segment = each.segment or Segment.build([_segment_file(path, each)])

    def _changed_tiers(self, changed: Mapping[str, _Changed]) -> list[Tier]:
        """The changed files: those that have been put together, and one by one those that came later.

        Of those that nobody has prepared only the last few are: the others answer a little later.
        """
        together, segment = self._together or ({}, None)
        tiers = []
        if segment is not None:
            stale = {path for path, each in together.items() if changed.get(path) is not each}
            numbers = frozenset(n for n in map(segment.number_of, stale) if n is not None)
            tiers.append(Tier(CHANGED, "repository", segment, numbers))
        fresh = {path: each for path, each in changed.items() if together.get(path) is not each}
        unprepared = [path for path, each in fresh.items() if each.segment is None]
        for path in unprepared[-MAX_FRESH:]:
            if self._cleaned(path, fresh[path]) is not None:
                fresh[path].segment = Segment.build([_segment_file(path, fresh[path])])
        tiers += [Tier(CHANGED, "repository", each.segment) for each in fresh.values() if each.segment is not None]
        return tiers

    def _is_built(self, built: Mapping[str, Segment], path: str, changed: _Changed) -> bool:
        """Whether an open file is as it was built: most are, and need no segment of their own."""
        segment = built.get(REPOSITORY)
        number = None if segment is None else segment.number_of(path)
        if segment is None or number is None:
            return False
        if changed.compared is None or changed.compared[0] is not segment:
            changed.compared = segment, segment.text_of(number) == self._cleaned(path, changed)
        return changed.compared[1]

    def _cleaned(self, path: str, changed: _Changed) -> bytes | None:
        if not changed.is_cleaned:
            changed.cleaned = None if changed.text is None else self._clean(path, changed.text)
            changed.is_cleaned = True
        return changed.cleaned

    def _this_file(self, document: Document, offset: int) -> Tier:
        """The document above and below the line of the cursor; the same as long as one line is typed in."""
        text, offset = _unix(document.text, offset)
        first, start, end, last = _searched(text, offset)
        above, below = text[first:start], text[end:last]
        if self._around is None or self._around[0] != (document.path, above, below):
            parts = _clean_parts(text, first, start, last)
            files = [SegmentFile(document.path, part) for part in parts]
            self._around = (document.path, above, below), Segment.build(files)
        line = text.count("\n", 0, first) + 1
        first_lines = (line, line + above.count("\n") + 1)
        return Tier(THIS_FILE, "file", self._around[1], first_lines=first_lines)

    def _tokens_of(self, tokenizer: Tokenizer) -> FirstTokens:
        from server.index.opinion import FirstTokens

        if self._first_tokens is None or self._first_tokens[0] != tokenizer.fingerprint:
            self._first_tokens = tokenizer.fingerprint, FirstTokens(tokenizer)
        return self._first_tokens[1]


def _segment_file(path: str, changed: _Changed) -> SegmentFile:
    return SegmentFile(path, changed.cleaned or b"")


def _unix(text: str, offset: int) -> tuple[str, int]:
    """The text with Unix line ends, and the offset in it; inside a line break is before it."""
    if "\r" not in text:
        return text, offset
    if text[max(offset - 1, 0) : offset + 1] == "\r\n":
        offset -= 1
    return unix_lines(text), len(unix_lines(text[:offset]))


def _utf8(text: str) -> bytes:
    """The bytes of a text, those that a tokenizer sees: a lone surrogate becomes U+FFFD."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")


def _searched(text: str, offset: int) -> tuple[int, int, int, int]:
    """Where the searched lines above the cursor's start and end, and where those below it do."""
    start = text.rfind("\n", 0, offset) + 1
    first = max(start - MAX_ABOVE, 0)
    first = text.find("\n", first - 1, start) + 1 if first else 0
    end = text.find("\n", offset) + 1 or len(text)
    last = min(end + MAX_BELOW, len(text))
    last = max(text.rfind("\n", 0, last) + 1, end) if last < len(text) else last
    return first, start, end, last


def _clean_parts(text: str, first: int, start: int, last: int) -> tuple[bytes, bytes]:
    """What is searched above and below the line at `start`, cleaned with what stands around it: no cut takes a line."""
    begin = max(first - SECRET_ABOVE, 0)
    cleaned = without_secrets("", text[begin : last + SECRET_BELOW]) or b""
    n_first, n_start, n_last = (text.count("\n", begin, place) for place in (first, start, last))
    lines = cleaned.splitlines(keepends=True)
    below = lines[n_start + 1 : n_last] if last < len(text) else lines[n_start + 1 :]
    return b"".join(lines[n_first:n_start]), b"".join(below)


def _useless_on_a_blank_line(after: str) -> Refused:
    """What is not to be written where a line begins: nothing, more indentation, and the line that stands below."""
    below = next((line.strip() for line in after[:MAX_PAST].split("\n") if line.strip()), "")
    next_line = _utf8(below)

    def refused(following: bytes) -> bool:
        line, ending, _ = following.partition(b"\n")
        return not line.strip() or line[:1] in (b" ", b"\t") or (bool(ending) and line.rstrip() == next_line)

    return refused
