"""Somebody who types a known text in an editor, key by key: what each key does to the document.

The editor closes brackets and quotes by itself and lets them be typed over, indents after Enter, and empties the blank
lines that it indented. The typist corrects the editor's guesses, strikes a wrong key now and then, and takes it back.
Pure: the same seed gives the same keys. Knows nothing of servers or time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.bench.suggestion import Item

CLOSER_OF = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "`": "`"}
_QUOTES = "\"'`"
_LEAVES_BLOCK = ("return", "pass", "break", "continue", "raise")
_WRONG_KEY_RATE = 0.015
_BLANKS = " \t"


@dataclass(frozen=True, slots=True)
class Key:
    """One key, and the edit it makes: `inserted` in place of the characters from `start` to `end`."""

    name: str
    start: int
    end: int
    inserted: str
    cursor: int  # after the edit

    @property
    def is_edit(self) -> bool:
        return self.start != self.end or bool(self.inserted)


class Typist:
    """Types `target` between `before` and `after`. `text` and `cursor` are the editor's."""

    def __init__(
        self, before: str, target: str, after: str, *, indent: str, brace_blocks: bool, rng: random.Random
    ) -> None:
        self._before, self._target, self._after = before, target, after
        self._indent, self._brace_blocks = indent, brace_blocks
        self._rng = rng
        self._n_done = 0  # characters of the target that stand before the cursor
        self._extra = ""  # behind them: a wrong character, or an indentation that the target does not have
        self._tail = ""  # behind the cursor: what the editor closed by itself

    @property
    def text(self) -> str:
        """The document."""
        return self._head + self._tail + self._after

    @property
    def cursor(self) -> int:
        return len(self._head)

    @property
    def is_done(self) -> bool:
        """Whether the document is the target in its place."""
        return self._n_done == len(self._target) and not self._tail and not self._extra

    def accepts(self, item: Item) -> bool:
        """Whether the item is what would be typed next: then Tab saves keys."""
        return self._taken(item) is not None

    def accept(self, item: Item) -> Key:
        """Takes the item over, which must be one that `accepts`."""
        taken = self._taken(item)
        assert taken is not None
        self._n_done, self._extra, self._tail = taken
        return Key("Tab", item.start, item.end, item.text, self.cursor)

    def press(self) -> Key:
        """The next key; there must be one."""
        assert not self.is_done
        rest = self._target[self._n_done :]
        if self._extra and rest.startswith(self._extra):
            self._n_done, self._extra = self._n_done + len(self._extra), ""
            rest = self._target[self._n_done :]
        if self._extra:
            return self._enter() if rest.startswith("\n") and not self._extra.strip(_BLANKS) else self._backspace()
        if self._tail and self._tail[0] not in rest:
            return self._delete()
        if self._tail and rest.startswith("\n") and self._tail[0] in _QUOTES:
            return self._delete()  # a string that the typist does not want
        if (over := self._overtyped(rest)) is not None:
            return over
        if rest.startswith("\n"):
            return self._enter()
        if rest[0].isalpha() and self._rng.random() < _WRONG_KEY_RATE:
            return self._wrong()
        return self._character(rest)

    @property
    def _head(self) -> str:
        return self._before + self._target[: self._n_done] + self._extra

    def _taken(self, item: Item) -> tuple[int, str, str] | None:
        """What the state would be with the item accepted; None when the text would not be the target's."""
        n_over = item.end - self.cursor
        if not item.text or not 0 <= n_over <= len(self._tail) or item.start < len(self._before):
            return None
        written = (self._head[: item.start] + item.text)[len(self._before) :]
        is_next = self._target.startswith(written) and len(written) > self._n_done
        return (len(written), "", self._tail[n_over:]) if is_next else None

    def _edit(self, name: str, start: int, end: int, inserted: str) -> Key:
        return Key(name, start, end, inserted, self.cursor)

    def _backspace(self) -> Key:
        """Takes back a wrong character, or one step of an indentation that is too deep."""
        at = self.cursor
        step = len(self._indent) if not self._extra.strip(_BLANKS) else 1
        self._extra = self._extra[:-step]
        return self._edit("Backspace", self.cursor, at, "")

    def _delete(self) -> Key:
        """Removes what the editor closed and nobody wants."""
        self._tail = self._tail[1:]
        return self._edit("Delete", self.cursor, self.cursor + 1, "")

    def _overtyped(self, rest: str) -> Key | None:
        """The key that goes over what the editor closed already; None when the target does not go on with it."""
        closers = self._tail.lstrip("\n" + _BLANKS)
        blanks = self._tail[: len(self._tail) - len(closers)]
        if blanks and rest.startswith(blanks + closers[:1]):
            self._tail, self._n_done = closers, self._n_done + len(blanks)
            return self._edit("Down", self.cursor, self.cursor, "")
        if blanks and rest.lstrip("\n" + _BLANKS)[:1] == closers[:1]:
            self._tail = closers  # the closer belongs elsewhere than where the editor put it
            return self._edit("Join", self.cursor, self.cursor + len(blanks), "")
        if not self._tail or blanks or rest[0] != self._tail[0]:
            return None
        at = self.cursor
        self._tail, self._n_done = self._tail[1:], self._n_done + 1
        return self._edit(rest[0], at, at + 1, rest[0])

    def _enter(self) -> Key:
        """A line break, with the indentation that the editor puts behind it."""
        at = self.cursor - len(self._extra)  # an indented line that stays blank is emptied
        line = self._head[: len(self._head) - len(self._extra)].rpartition("\n")[2]
        indentation = line[: len(line) - len(line.lstrip(_BLANKS))] or self._extra
        code = line.strip()
        deeper = indentation
        if code[-1:] in tuple("([{") or (not self._brace_blocks and code.endswith(":")):
            deeper += self._indent
        elif not self._brace_blocks and code.split("(")[0].split(" ")[0] in _LEAVES_BLOCK:
            deeper = deeper[: -len(self._indent)]
        pushed = f"\n{indentation}" if self._tail and code[-1:] in tuple("([{") else ""
        end = self.cursor
        self._n_done, self._extra = self._n_done + 1, ""
        self._tail = pushed + self._tail
        inserted = "\n" + deeper + pushed
        rest = self._target[self._n_done :]
        wanted = rest[: len(rest) - len(rest.lstrip(_BLANKS))]
        n_common = next((n for n in range(len(deeper), 0, -1) if wanted.startswith(deeper[:n])), 0)
        self._n_done, self._extra = self._n_done + n_common, deeper[n_common:]
        return self._edit("Enter", at, end, inserted)

    def _wrong(self) -> Key:
        """A neighbour of the right key, to be taken back."""
        at = self.cursor
        self._extra = self._rng.choice("etaoinsr")
        return self._edit(self._extra, at, at, self._extra)

    def _character(self, rest: str) -> Key:
        """The next character, with what the editor closes after it; the Tab key where the target is indented."""
        at = self.cursor
        line = self._head.rpartition("\n")[2]
        if rest[0] in _BLANKS and not line.strip(_BLANKS):
            n_blanks = len(rest) - len(rest.lstrip(_BLANKS))
            n_typed = min(n_blanks, len(self._indent))
            self._n_done += n_typed
            return self._edit("Indent", at, at, rest[:n_typed])
        closer = CLOSER_OF[rest[0]] if self._is_closed(rest[0], line) else ""
        self._n_done += 1
        self._tail = closer + self._tail
        return self._edit(rest[0], at, at, rest[0] + closer)

    def _is_closed(self, character: str, line: str) -> bool:
        """Whether the editor closes `character` by itself: nothing may follow but what it closed before."""
        if character not in CLOSER_OF or (self._tail + self._after)[:1] not in ("", "\n", " ", *CLOSER_OF.values()):
            return False
        if character not in _QUOTES:
            return True
        word = line[len(line.rstrip("rbfuRBFU")) :] if line else ""
        before = line[: len(line) - len(word)][-1:]
        return not (before.isalnum() or before in (*_QUOTES, "\\", "_")) and self._tail[:1] not in tuple(_QUOTES)
