"""The typist of the replay types what it is told to, as an editor would have it."""

from __future__ import annotations

import random

import pytest

from tests.bench.suggestion import Item
from tests.bench.typist import Key, Typist

PYTHON = '''def read(path, encoding="utf-8"):
    """The text (all of it) of a file's content."""
    names = {
        "a": [1, 2],
        'b': (3,),
    }

    if path in names:
        return call(
            path, f"{path!r}", encoding,
        )

    for each in names:
        if each:
            return None
    # don't ( leave this open
    return names[path].get(
        encoding)
'''

TYPESCRIPT = """export class Subject<T> {
  private items: T[] = [];

  next(value: T) {
    if (!this.closed) {
      this.items.forEach((item) => item.next(`${value}`));
    }
  }
}
"""


def typist(target: str, before: str = "import os\n", after: str = "\nend = 1\n", seed: int = 1) -> Typist:
    braces = target is TYPESCRIPT
    rng = random.Random(seed)
    return Typist(before, target, after, indent="  " if braces else "    ", brace_blocks=braces, rng=rng)


def typed(who: Typist) -> list[Key]:
    """All keys to the end; each does to the text what it says."""
    keys = []
    while not who.is_done:
        text = who.text
        key = who.press()
        assert text[: key.start] + key.inserted + text[key.end :] == who.text
        assert key.cursor == who.cursor <= len(who.text)
        keys.append(key)
        assert len(keys) < 2000, who.text
    return keys


def names(keys: list[Key]) -> list[str]:
    return [key.name for key in keys]


@pytest.mark.parametrize("target", [PYTHON, TYPESCRIPT, "", "x", "\n\n", "a = (\n", '"""doc"""\n', "  \n)\n"])
def test_the_document_becomes_the_target_in_its_place(target: str) -> None:
    for seed in range(5):
        who = typist(target, seed=seed)
        typed(who)
        assert who.text == "import os\n" + target + "\nend = 1\n"


def test_any_text_can_be_typed() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        target = "".join(rng.choices("ab()[]{}\"'`:,# \n", k=80))
        who = typist(target, seed=seed)
        typed(who)
        assert who.text == "import os\n" + target + "\nend = 1\n"


def test_brackets_and_quotes_are_closed_and_typed_over() -> None:
    who = typist('f("a")', seed=3)
    assert who.press().inserted == "f"
    assert who.press().inserted == "()"
    assert who.press().inserted == '""'
    who.press()
    assert who.text == 'import os\nf("a")\nend = 1\n'
    over = who.press()
    assert (over.name, over.inserted, over.end - over.start) == ('"', '"', 1)
    assert not who.is_done
    who.press()
    assert who.is_done


def test_an_apostrophe_in_a_word_is_not_closed() -> None:
    who = typist("don't")
    typed(who)
    assert who.is_done
    assert all(key.inserted in "don't" or key.inserted in "etaoinsr" for key in typed(typist("don't")))


def test_enter_indents_and_empties_blank_lines() -> None:
    who = typist("if a:\n    b\n\n    c\nd\n", seed=3)
    keys = typed(who)
    enters = [key for key in keys if key.name == "Enter"]
    assert enters[0].inserted == "\n    "
    assert enters[1].inserted == "\n    "
    assert (enters[2].end - enters[2].start, enters[2].inserted) == (4, "\n    ")  # the blank line was emptied
    assert "Backspace" in names(keys)  # `d` stands less deep than the editor guesses


def test_enter_between_brackets_puts_the_closer_on_a_line_of_its_own() -> None:
    who = typist("f(\n    a,\n)\n", seed=3)
    keys = typed(who)
    enter = next(key for key in keys if key.name == "Enter")
    assert enter.inserted == "\n    \n"
    assert "Down" in names(keys)


def test_wrong_keys_are_taken_back() -> None:
    keys = typed(typist("abcdefgh " * 40, seed=1))
    assert 1 <= names(keys).count("Backspace") < 20


def test_the_same_seed_gives_the_same_keys() -> None:
    assert typed(typist(PYTHON, seed=4)) == typed(typist(PYTHON, seed=4))


@pytest.mark.parametrize("text, n_replaced, taken", [
    ("l(a, b)", 0, True),
    ("l(a, b", 0, True),
    ("l(a, c", 0, False),
    ("l", 0, True),
    ("", 0, False),
])  # fmt: skip
def test_only_what_comes_next_is_accepted(text: str, n_replaced: int, taken: bool) -> None:
    who = typist("call(a, b)\n", seed=3)
    for _ in "cal":
        who.press()
    item = Item(text, who.cursor, who.cursor + n_replaced)
    assert who.accepts(item) is taken


def test_an_accepted_suggestion_is_typed_with_one_key() -> None:
    who = typist("call(a, b)\n", seed=3)
    for _ in "call(":
        who.press()
    at = who.cursor
    key = who.accept(Item("a, b", at, at))
    assert (key.name, key.inserted) == ("Tab", "a, b")
    assert who.text == "import os\ncall(a, b)\nend = 1\n"  # the editor's own bracket is still behind the cursor
    assert names(typed(who))[0] == ")"


def test_a_suggestion_may_take_the_closer_with_it() -> None:
    who = typist("call(a, b)\n", seed=3)
    for _ in "call(":
        who.press()
    item = Item("a, b)", who.cursor, who.cursor + 1)
    assert who.accepts(item)
    who.accept(item)
    assert who.text == "import os\ncall(a, b)\nend = 1\n"
    assert names(typed(who)) == ["Enter"]


def test_a_suggestion_over_the_text_behind_the_stretch_is_not_accepted() -> None:
    who = typist("call(a)", seed=3)
    assert not who.accepts(Item("call(a)\n", who.cursor, who.cursor + 1))
