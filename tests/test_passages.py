"""Sentences on definitions, and definitions that other files use."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from finetune.pretrain.first_sentence import first_sentence
from finetune.pretrain.passages import MAX_SNIPPET_LINES, Library, explained_passages
from server.lm.context import Snippet

MODULE = '''"""Reads and writes the settings of a user."""

import json

@cached
def read(path):
    """Return the settings in a file.

    None where there is no file.
    """
    with open(path) as stream:
        return json.load(stream)

class Settings:
    """Holds what the user has chosen."""

    async def reload(self):
        "read the settings from disk again"
        self.values = await read(self.path)

    def close(self):
        self.values = None
'''


def file_of(path: str, text: str) -> SimpleNamespace:
    return SimpleNamespace(path=path, text=text)


@pytest.mark.parametrize(
    "docstring, sentence",
    [
        ("Return the sum of both.", "Return the sum of both."),
        ("return the sum of both", "Return the sum of both."),
        ("Return the sum.  And say so.", "Return the sum."),
        ("Return the sum\n    of both numbers.\n\n    More below.", "Return the sum of both numbers."),
        ("Read os.path and 3.5 of it.", "Read os.path and 3.5 of it."),
        ("Wait until it is done!", "Wait until it is done."),
        ("Return it.", None),  # too short to say something
        ("word " * 40, None),
        (":param x: the first number", None),
        ("Parameters\n---------\nx : int", None),
        (">>> add(1, 2) is three", None),
        ("TODO write this some day", None),
        ("Größe der Datei in Bytes", None),
        ("3 is the answer to all", None),
        ("x = {1: 2, 3: 4} + [5, 6]", None),  # code, not words
        ("", None),
        ("Read a file, e.g. a log. More.", "Read a file, e.g. a log."),
        ("Do this, that etc. and stop. More.", "Do this, that etc. and stop."),
        ("Return all the names etc. Then more.", "Return all the names etc."),
    ],
)
def test_a_docstring_gives_its_first_sentence_if_it_is_one(docstring, sentence):
    assert first_sentence(docstring) == sentence


def test_functions_classes_and_the_module_are_explained():
    found = {(passage.kind, passage.name): passage for passage in explained_passages("app/settings.py", MODULE)}
    assert set(found) == {
        ("module", "settings.py"),
        ("function", "read"),
        ("class", "Settings"),
        ("function", "reload"),
    }
    read = found["function", "read"]
    assert read.path == "app/settings.py"
    assert read.sentence == "Return the settings in a file."
    assert read.source == ("@cached\ndef read(path):\n    with open(path) as stream:\n        return json.load(stream)")
    assert found["function", "reload"].sentence == "Read the settings from disk again."
    assert found["function", "reload"].source.startswith("async def reload(self):\n    self.values")


def test_the_source_never_holds_its_own_sentence():
    for passage in explained_passages("app/settings.py", MODULE):
        assert passage.sentence.rstrip(".").lower() not in passage.source.lower()


def test_a_definition_of_one_line_offers_nothing():
    assert explained_passages("a.py", 'def f():\n    """Does nothing at all."""\n') == []
    assert explained_passages("a.py", 'def f(): "Does nothing at all."\n') == []


@pytest.mark.parametrize(
    "text, blocks",
    [
        (
            "def f():\n    # Both ends are cut off here.\n    a = 1\n    b = 2\n    c = 3\n\n    d = 4\n",
            [("a = 1\nb = 2\nc = 3", "Both ends are cut off here.")],
        ),
        ("# Both ends are cut off here.\na = 1\nb = 2\n", []),  # fewer than three lines
        ("# Part one.\n# Both ends are cut off here.\na = 1\nb = 2\nc = 3\n", []),  # the end of a longer comment
        ("    # Both ends are cut off here.\n    a = 1\nb = 2\nc = 3\n", []),  # the block ends with its indentation
    ],
)
def test_a_comment_of_one_sentence_explains_the_block_below(text, blocks):
    source = text if text.startswith(("def", "#")) else "if x:\n" + text
    found = [passage for passage in explained_passages("a.py", source) if passage.kind == "block"]
    assert [(passage.source, passage.sentence) for passage in found] == blocks


@pytest.mark.parametrize("text", ["def f(:\n", "\0", "(" * 5_000, "x = '\n"])
def test_a_file_that_does_not_parse_offers_nothing(text):
    assert explained_passages("a.py", text) == []
    assert Library.of([file_of("a.py", text)]).definitions == {}


def test_a_library_knows_what_is_defined_once():
    files = [
        file_of("a.py", "def load_all(x):\n    return x\n\nclass Reader:\n    def open_file(self):\n        pass\n"),
        file_of("b.py", "def shared():\n    pass\n\n@cached\ndef decorated():\n    pass\n"),
        file_of("c.py", "def shared():\n    pass\n\ndef run():\n    def inner_one():\n        pass\n"),
    ]
    definitions = Library.of(files).definitions
    assert set(definitions) == {"load_all", "Reader", "open_file", "decorated"}
    assert definitions["open_file"] == Snippet("a.py", "def open_file(self):\n    pass")
    assert definitions["decorated"].text == "@cached\ndef decorated():\n    pass"


def test_a_long_definition_is_cut():
    body = "".join(f"    x = {number}\n" for number in range(100))
    snippet = Library.of([file_of("a.py", "def long_one():\n" + body)]).definitions["long_one"]
    assert len(snippet.text.split("\n")) == MAX_SNIPPET_LINES


def test_a_file_is_shown_what_it_uses_of_others():
    library = Library.of(
        [file_of("a.py", "def load_all():\n    pass\n"), file_of("b.py", "def save_all():\n    pass\n")]
    )
    text = "load_all(save_all(load_all()))\nunknown_name()\n"
    assert [snippet.path for snippet in library.used_in(text, "c.py")] == ["a.py", "b.py"]
    assert [snippet.path for snippet in library.used_in(text, "a.py")] == ["b.py"]
    assert library.used_in("x = preload_all", "c.py") == []


SCRIPT = """/**
 * Reads the settings of a {@link User}.
 *
 * @param path - the file
 */
export async function read(path: string): Promise<Settings> {
  return JSON.parse(await load(path));
}

class Settings {
  /** Gives back what was chosen for a key. */
  get(key: string): string {
    return this.values[key];
  }

  /** @internal */
  close() {
    this.values = {};
  }
}
"""


def test_definitions_below_a_jsdoc_comment_are_explained():
    found = explained_passages("src/settings.ts", SCRIPT)
    assert [(passage.kind, passage.name, passage.sentence) for passage in found] == [
        ("function", "read", "Reads the settings of a User."),
        ("function", "get", "Gives back what was chosen for a key."),
    ]
    assert found[1].source == "get(key: string): string {\n  return this.values[key];\n}"


def test_a_script_is_never_read_as_python():
    assert explained_passages("a.js", MODULE) == []
    assert Library.of([file_of("a.js", MODULE)]).definitions == {}
