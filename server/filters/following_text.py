"""Text that stands after the cursor already."""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.filters.candidate import Candidate, Rejection
from server.lm.cursor import Cursor, indentation, width
from server.lm.lexing import state_after, tokens

_N_LINES_BELOW = 5  # right below at the same indentation, which a line must not repeat
_SHORT = 8  # characters below which only the very next line counts as repeated: `pass`, `return`, `}`
_SAYING = 3  # word characters from which the rest of the line must not occur anywhere in the text
_LONG_HEAD = 5  # characters with which a text in mid-line must not start like the next line
_CALL = re.compile(r"(\w*)(\(.*\)|\[.*\])")  # a name's rest, and its brackets
_LONG_TAIL = 12  # characters of the next line's start at which a text is taken to run into it


def following_text(candidate: Candidate) -> Candidate | Rejection:
    """Rejects a text that says what follows, and cuts off an end that does."""
    cursor, text = candidate.cursor, candidate.text
    written, rest = text.strip(), cursor.line_suffix.strip()
    if written and rest and _is_head(written, rest):
        return Rejection("the rest of the line says the same")
    if rest:
        text = _without_call(cursor, _without_overlap(cursor, text))
        if sum(map(_is_word, rest)) >= _SAYING and rest in text:
            text = text[: text.find(rest)].rstrip()
        if not text.strip():
            return Rejection("the rest of the line says the same")
    below = list(_lines_below(cursor))
    lines = text.split("\n")
    whole = [cursor.line_prefix + lines[0], *lines[1:]]
    whole[-1] += cursor.line_suffix
    if below and _repeats_next(cursor, lines[0].strip(), whole[0].strip(), below[0].strip()):
        return Rejection("the next line says the same")
    for number, line in enumerate(whole):
        is_begun = number > 0 and number == len(whole) - 1 and _begins(line, below)
        if line.strip() and (is_begun or _stands_below(line, below)):
            if not number:
                return Rejection("a line below says the same")
            return candidate.cut(len("\n".join(lines[:number]).rstrip()))
    return candidate.with_text(text)


def still_new(candidate: Candidate) -> Candidate | Rejection:
    """Rejects what says what follows only since the parse check has shortened it."""
    return candidate if following_text(candidate) == candidate else Rejection("what is left says what follows")


def _is_head(head: str, text: str) -> bool:
    """Whether `text` starts with the whole tokens `head`."""
    if not text.startswith(head):
        return False
    return not (_is_word(head[-1:]) and _is_word(text[len(head) : len(head) + 1]))


def _repeats_next(cursor: Cursor, first: str, line: str, following: str) -> bool:
    """Whether the line that results, or the text alone, says what the next line does."""
    if not first:
        return False
    if line == following or (not cursor.line_prefix.strip() and _is_head(first, following)):
        return True
    if len(first) >= _LONG_HEAD and following.startswith(first):
        return True
    lengths = range(_LONG_TAIL, min(len(first), len(following)) + 1)
    return any(first.endswith(following[:length]) for length in lengths)


def _stands_below(line: str, below: list[str]) -> bool:
    """Whether a whole line is the next one, or a long enough one among those that follow at its indentation."""
    n_compared = _N_LINES_BELOW if len(line.strip()) >= _SHORT else 1
    at = width(indentation(line))
    for other in below[:n_compared]:
        if width(indentation(other)) != at:
            return False
        if other.rstrip() == line.rstrip():
            return True
    return False


def _begins(line: str, below: list[str]) -> bool:
    """Whether the last of several lines is a long enough beginning of the next line below."""
    return len(line.strip()) >= _LONG_TAIL and below[:1] != [] and below[0].startswith(line.rstrip())


def _lines_below(cursor: Cursor) -> Iterator[str]:
    """The lines below that are not blank."""
    n_found = 0
    for line in cursor.below:
        if line.strip():
            yield line
            n_found += 1
            if n_found == _N_LINES_BELOW:
                return


def _without_overlap(cursor: Cursor, text: str) -> str:
    """The text without the end that the rest of the line starts with; brackets alone are no overlap."""
    rest = cursor.line_suffix.rstrip()
    for length in range(min(len(text), len(rest)), 0, -1):
        overlap, kept = rest[:length], text[: len(text) - length]
        if text.endswith(overlap) and _is_repetition(cursor, kept, overlap, rest[length : length + 1]):
            return kept.rstrip() if overlap[:1].isspace() else kept
    return text


def _without_call(cursor: Cursor, text: str) -> str:
    """The text without the brackets at its end where the name that it completes has such already."""
    bracket = cursor.line_suffix[:1]
    called = _CALL.fullmatch(text)
    if bracket not in ("(", "[") or cursor.state.delimiter or called is None or not called[2].startswith(bracket):
        return text
    depth = len(cursor.state.awaited)
    if any(len(each.after.awaited) <= depth for each in list(tokens(called[2], cursor.language, cursor.state))[:-1]):
        return text  # the last bracket closes another one than the first: it is more than a call
    is_name = bool(called[1]) or (bracket == "(" and _is_word(cursor.line_prefix[-1:]))
    return called[1] if is_name or called[2] == cursor.line_suffix.strip() else text


def _is_repetition(cursor: Cursor, kept: str, overlap: str, following: str) -> bool:
    """Whether an overlap is made of whole tokens, says something, and closes nothing that the kept text opens."""
    if (_is_word(kept[-1:]) and _is_word(overlap[:1])) or (_is_word(overlap[-1:]) and _is_word(following)):
        return False
    if all(character in "()[]{}<>'\"` \t" for character in overlap):
        return False
    state = state_after(kept, cursor.language, cursor.state)
    return len(state.awaited) <= len(cursor.state.awaited) and state.delimiter in ("", cursor.state.delimiter)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
