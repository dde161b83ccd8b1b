"""The document at hand: what of it is searched around a cursor, and what is of no use there. Pure functions."""

from __future__ import annotations

from server.index.lookup import Refused
from server.lm.context import unix_lines
from server.repository.secrets import scrub

MAX_ABOVE, MAX_BELOW = 65_536, 16_384  # characters of the document at hand that are searched
MAX_PAST = 1_024  # characters before the cursor that a search can look at
# Characters above and below what is searched that tell whether a secret reaches into it: a private key has many lines.
SECRET_ABOVE, SECRET_BELOW = 20_480, 1_024


def unix_at(text: str, offset: int) -> tuple[str, int]:
    """The text with Unix line ends, and the offset in it; inside a line break is before it."""
    if "\r" not in text:
        return text, offset
    if text[max(offset - 1, 0) : offset + 1] == "\r\n":
        offset -= 1
    return unix_lines(text), len(unix_lines(text[:offset]))


def utf8(text: str) -> bytes:
    """The bytes of a text, those that a tokenizer sees: a lone surrogate becomes U+FFFD."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")


def searched(text: str, offset: int) -> tuple[int, int, int, int]:
    """Where the searched lines above the cursor's start and end, and where those below it do."""
    start = text.rfind("\n", 0, offset) + 1
    first = max(start - MAX_ABOVE, 0)
    first = text.find("\n", first - 1, start) + 1 if first else 0
    end = text.find("\n", offset) + 1 or len(text)
    last = min(end + MAX_BELOW, len(text))
    last = max(text.rfind("\n", 0, last) + 1, end) if last < len(text) else last
    return first, start, end, last


def clean_parts(text: str, first: int, start: int, last: int) -> tuple[bytes, bytes]:
    """What is searched above and below the line at `start`, cleaned with what stands around it: no cut takes a line."""
    begin = max(first - SECRET_ABOVE, 0)
    cleaned = scrub(unix_lines(text[begin : last + SECRET_BELOW])).text.encode("utf-8", "replace")
    n_first, n_start, n_last = (text.count("\n", begin, place) for place in (first, start, last))
    lines = cleaned.splitlines(keepends=True)
    below = lines[n_start + 1 : n_last] if last < len(text) else lines[n_start + 1 :]
    return b"".join(lines[n_first:n_start]), b"".join(below)


def useless_on_a_blank_line(after: str) -> Refused:
    """What is not to be written where a line begins: nothing, more indentation, and the line that stands below."""
    below = next((line.strip() for line in after[:MAX_PAST].split("\n") if line.strip()), "")
    next_line = utf8(below)

    def refused(following: bytes) -> bool:
        line, ending, _ = following.partition(b"\n")
        return not line.strip() or line[:1] in (b" ", b"\t") or (bool(ending) and line.rstrip() == next_line)

    return refused
