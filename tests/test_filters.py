"""Each filter by its cases, the cursor drawn; then the pipeline as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import split_at_cursor

from server.filters.brackets import brackets
from server.filters.candidate import Candidate, Rejection
from server.filters.closers import closers
from server.filters.confidence import confidence, confidence_of, likely_lines
from server.filters.following_text import following_text
from server.filters.indentation import indent
from server.filters.parse_check import parse_check
from server.filters.people import people
from server.filters.pipeline import FILTERS, apply
from server.filters.repetition import repetition
from server.filters.special_tokens import special_tokens
from server.filters.stop import stop
from server.filters.trivial import trivial
from server.filters.unfinished import unfinished
from server.lm import validity
from server.lm.cursor import cursor_between
from server.lm.languages import language_for


def candidate(document: str, generated: str, language: str = "python", **fields: Any) -> Candidate:
    text, offset = split_at_cursor(document)
    return Candidate(generated, cursor_between(text[:offset], text[offset:], language_for(language)), **fields)


def left_by(run: Callable[[Candidate], Candidate | Rejection], *args: Any, **fields: Any) -> str | None:
    """What one filter leaves of a generated text; None when it rejects it."""
    result = run(candidate(*args, **fields))
    return None if isinstance(result, Rejection) else result.text


def offer(*args: Any, **fields: Any) -> str | None:
    """What all filters leave."""
    left = apply(candidate(*args, **fields)).candidate
    return left.text if left else None


@pytest.mark.parametrize(
    ("generated", "left"),
    [
        ("x = 1", "x = 1"),
        ("x = 1<|endoftext|>y", "x = 1"),
        ("x<|fim_middle|>", "x"),
        ("<|file|>a.py\n", ""),
        ("x<fim_suffix>y", "x"),
        ("a <| b |> c", "a <| b |> c"),  # no marker, just pipes
        ("a\x00b", "a"),
        ("caf\ufffd", "caf"),  # a character that was cut in the middle of its bytes
        ("x\ud800", "x"),
        ("a\r\nb", "a\nb"),
        ("a\tb", "a\tb"),
        ("naïve = '漢'", "naïve = '漢'"),
    ],
)
def test_special_tokens_end_a_text(generated: str, left: str) -> None:
    assert left_by(special_tokens, "<|>", generated) == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("<|>", "x = 1\ny = 2\n", "x = 1"),
        ("<|>", "x = 1   \ny", "x = 1"),
        ("x = 1<|>", "\ny = 2", ""),
        ("<|>", "x = 1", "x = 1"),
        ("total = add(<|>)\n", "1, 2)\n", "1, 2"),
        ("f(<|>)", "g(x), h(y)) + 1\n", "g(x), h(y)"),
        ("f(<|>", "a)\nb", "a)"),
        ('print("<|>")', 'hello")\n', "hello"),
        ("if <|>:", "x\n", "x"),
        ("f(a<|>, c)", ", b, c)\n", ", b, c)"),
    ],
)
def test_one_line_ends_with_its_line_or_its_pair(document: str, generated: str, left: str) -> None:
    assert left_by(stop, document, generated) == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("def f():\n    <|>\n", "x = 1\n    return x\n\ndef g():\n", "x = 1\n    return x"),
        ("def f():\n    <|>\n", "return 1\nprint(f())\n", "return 1"),
        (
            "def f():\n    <|>\n",
            "if x:\n        y\n    z\n",
            "if x:\n        y\n    z\n",
        ),  # goes on: nothing has ended it
        ("def f():\n    <|>\n", "a = 1\n\n    b = 2\n\n\n    c = 3\n", "a = 1\n\n    b = 2"),  # a second blank line
        ("def f():\n    <|>\n", "x = (\n1,\n    )\ny", "x = (\n1,\n    )"),  # inside brackets nothing counts
        ("def f():\n    <|>\n", 's = """\na\n"""\ny', 's = """\na\n"""'),
        ("def f():\n    <|>\n    return 1\n", "x = 2\n    return 1\n", "x = 2"),  # the line below
        ("def f():\n    <|>\n", "x()\n    x()\n    x()\n    x()\n", "x()\n    x()"),
        (
            "def f():\n    <|>\n",
            "".join(f"x{i} = 1\n    " for i in range(20)),
            "\n    ".join(f"x{i} = 1" for i in range(10)),
        ),
        ("for x in y:<|>\n", "\n    a\nb", "\n    a"),
        ("f(<|>)\n", "a,\n  b", "a,"),  # a rest of the line: one line only
    ],
)
def test_several_lines_end_with_their_block(document: str, generated: str, left: str) -> None:
    assert left_by(stop, document, generated, multiline=True) == left.rstrip()


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("function f() {\n  <|>\n}\n", "g();\n  return 1;\n}\n", "g();\n  return 1;"),
        ("function f() {\n  <|>", "return 1;\n}\nfunction g() {", "return 1;\n}"),  # the brace is missing
        ("function f() {\n  <|>", "if (x) {\n    y();\n  }\n  z();\n}\n", "if (x) {\n    y();\n  }\n  z();\n}"),
        ("function f() {\n  <|>\n}\nfunction g() {}\n", "return 1;\n}\n\nfunction h() {", "return 1;"),
    ],
)
def test_a_block_with_braces_ends_at_its_brace(document: str, generated: str, left: str) -> None:
    assert left_by(stop, document, generated, "typescript", multiline=True) == left


@pytest.mark.parametrize(
    ("document", "generated", "finish", "left"),
    [
        ("<|>", "return valu", "stop", "return valu"),
        ("y = <|>", "return valu", "length", "return"),
        ("<|>", "x = foo(a, b", "deadline", "x = foo(a"),
        ("<|>", "x = foo(a) + ", "length", "x = foo(a)"),
        ("y = <|>", "x = 'unfinish", "length", "x"),
        ("<|>", "x", "length", ""),
        ("s = 'a <|>", "long sente", "length", "long"),
        ("<|>", "# a long comm", "length", "# a long"),
        ("<|>", "x = 1  # c", "length", "x = 1"),
        ("<|>", "x = y[0]", "cancelled", "x = y[0]"),
        ("def f():\n    <|>\n", "x = 1\n    y = ca", "length", "x = 1"),
        ("def f():\n    <|>\n", "x = 1\n    ", "length", "x = 1"),
        ("<|>", "f(x).y.", "length", "f(x).y"),
    ],
)
def test_an_unfinished_end_is_cut_off(document: str, generated: str, finish: str, left: str) -> None:
    assert left_by(unfinished, document, generated, finish=finish) == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("print(<|>)", "x)", "x"),
        ("print(<|>)", "f(x))", "f(x)"),
        ("print(<|>)", "f(x)", "f(x)"),
        ("print(x<|>)", ")", ""),
        ("d[<|>]", "key] = 1", "key"),
        ("d = {<|>}", "'a': 1}", "'a': 1"),
        ('print("<|>")', 'hello")', "hello"),
        ("x = '<|>'", "it\\'s'", "it\\'s"),
        ('x = """<|>"""', 'Text."""', "Text."),
        ("f(g(<|>))", "x))", "x"),
        ("def f(<|>):", "self, x):", "self, x"),
        ("f(<|> )", "x)", "x"),
        ("print(<|>", "x)", "x)"),  # nothing there
        ("print(<|>]", "x)", "x)"),  # not its pair
        ("x = (<|>) # c", "')')", "')'"),
    ],
)
def test_closing_brackets_and_quotes_are_not_doubled(document: str, generated: str, left: str) -> None:
    assert left_by(closers, document, generated) == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("x = <|>", "f(a)", "f(a)"),
        ("f(<|>", "a)", "a)"),
        ("f(<|>", "a))", "a)"),
        ("x = <|>", "a)", "a"),
        ("x = <|>", "a]", "a"),
        ("f(\n    <|>\n)\n", "a)", "a"),  # closed below
        ("f(\n    <|>\n)\n", "a, b", "a, b"),
        ("f(<|>, c)", "g(", "g"),  # opened before existing text
        ("f(<|>, c)", "g(a)", "g(a)"),
        ("f(<|>, c)", "'a", ""),
        ("x = <|>", "'abc", ""),  # a string of one quote ends with its line
        ("x = <|>", "f('abc", "f("),
        ("x = 'a<|>'", "b' + 'c", "b' + 'c"),
        ("x = 'a <|> c'", "b'", "b"),
        ("x = <|>", "f(", "f("),  # at the line's end the parse check decides
        ("x = <|>", '"""text', '"""text'),
        ("x = <|>  # a (", "f(b)", "f(b)"),
        ("f(')', <|>", "x)", "x)"),  # a bracket in a string is none
        ("# (\nx = <|>", "a)", "a"),
        ("if f(x<|>):", ") and (y", ") and (y"),
    ],
)
def test_brackets_and_quotes_fit_the_rest_of_the_line(document: str, generated: str, left: str) -> None:
    assert left_by(brackets, document, generated) == left


def test_brackets_mean_nothing_in_plain_text() -> None:
    assert left_by(brackets, "a list:\n<|>", "1) it's so", "plaintext") == "1) it's so"


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("f(a, <|>, c)", "b, c", "b"),
        ("f(<|>a, b)", "a, b)", None),
        ("f(<|>a, b)", "a", None),
        ("f(<|>ab)", "a", "a"),  # no whole token
        ("x = <|>bar(1)", "foo + bar(1)", "foo + "),
        ("if x<|>:", " == 1:", " == 1"),
        ("f(<|>)", "g(x)", "g(x)"),  # its own bracket
        ("f(<|>, c)", "g(x, c)", "g(x, c)"),  # closes what it opened
        ("a = <|> + 1", "b + 1", "b"),
        ("<|>\nx = 1\n", "x = 1", None),
        ("<|>\n\n\nx = 1\n", "x = 1", None),
        ("ret<|>\nreturn x\n", "urn x", None),
        ("<|>\nreturn value\n", "return", None),
        ("<|>\nreturn value\n", "ret", "ret"),
        ("<|>\nvalues = 1\n", "valu", "valu"),
        ("<|>\nvalues = 1\n", "value", None),  # long enough to look like it
        ("y = <|>\nself.total = 1\n", "self.total", None),  # starts like the next line
        ("y = <|>\nself.x = 1\n", "self", "self"),
        ("y = <|>\nself.result = compute()\n", "a + self.result = comp", None),  # runs into it
        ("    <|>\n    self.b = b\n    self.c = c\n", "self.c = c", None),
        ("    <|>\n    x = 1\n    pass\n", "pass", "pass"),
        ("    if a:\n        <|>\n    if b:\n        return False\n", "return False", "return False"),  # another block
        ("    <|>\n    def f(self): ...\n        pass\n    @property\n", "@property", "@property"),
        ("    <|>\nreturn None\n", "return None", None),
        ("x: int | None =<|> None\n", " None,", None),  # holds the rest of the line
        ("f(<|>value)\n", "first, value) + last", "first,"),
        ("x = 'a'\n<|>", "x = 'b'", "x = 'b'"),
    ],
)
def test_text_after_the_cursor_is_not_said_again(document: str, generated: str, left: str | None) -> None:
    assert left_by(following_text, document, generated) == left


@pytest.mark.parametrize("last", ["c = compute(3)", "c = compute("])
def test_several_lines_stop_before_the_line_below(last: str) -> None:
    document = "a = 1\n<|>\nc = compute(3)\n"
    assert left_by(following_text, document, f"b = 2\n{last}", multiline=True) == "b = 2"


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("x = compute(a)\n<|>", "x = compute(a)", None),
        ("x = compute(a)\n\n<|>", "x = compute(a)", None),
        ("x = compute(a)\n<|>", "x = compute(b)", "x = compute(b)"),
        ("x = compute(a)\nx = compute(<|>", "a)", "a)"),  # asked for by hand
        ("    }\n    <|>", "}", "}"),
        ("<|>", "a, b, a, b, a, b, a, b, a, b, a, b", None),
        ("<|>", "very long words, very long words, very long words, and", None),
        ("<|>", "# " + "-" * 60, "# " + "-" * 60),
        ("<|>", "x = [0, 1, 0, 1]", "x = [0, 1, 0, 1]"),
        ("def f():\n    <|>\n", "a()\n    b()\n    b()", "a()\n    b()"),
        ("def f():\n    <|>\n", "a()\n    b()\n    a()\n    b()", "a()\n    b()"),
        ("def f():\n    <|>\n", "x = [\n        ],\n        ],", "x = [\n        ],\n        ],"),
    ],
)
def test_nothing_is_said_twice(document: str, generated: str, left: str | None) -> None:
    assert left_by(repetition, document, generated) == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("def f():\n<|>", "return 1", None),  # left of the block
        ("def f():\n<|>", "    return 1", None),  # Tab is wanted for the indentation
        ("def f():\n    <|>", "return 1", "return 1"),
        ("def f(a,\n      b):\n    <|>", "return 1", "return 1"),
        ("def f(\n    a,\n):\n    <|>", "return 1", "return 1"),
        ("def f():  # c\n<|>", "return 1", None),
        ("def f():\n    x = 1\n<|>", "def g():", "def g():"),
        ("def f():\n    x = 1\n    <|>", "return x", "return x"),
        ("def f():\n    x = 1\n<|>\n    y = 2\n", "z = 3", None),  # the block goes on below
        ("def f():\n    x = 1\n  <|>", "return x", None),  # no such level
        ("def f():\n    x = 1\n        <|>", "return x", None),
        ("class A:\n    def f(self):\n        x\n    <|>", "def g(self):", "def g(self):"),
        ("x = [\n  <|>\n]", "1,", "1,"),  # inside brackets everything goes
        ('"""\n <|>\n"""', "text", "text"),
        ("<|>", "import os", "import os"),
        ("<|>x", "y", "y"),
        ("if a:\n<|>    x", "y", None),  # inside of an indentation
        ("x<|>", " = 1", " = 1"),
        ("if x:\n    y\n<|>", "else:", "else:"),
        ("for a in b:\n<|>\n    x\n", "if c:", None),
    ],
)
def test_an_automatic_text_starts_at_the_blocks_indentation(document: str, generated: str, left: str | None) -> None:
    assert left_by(indent, document, generated) == left


def test_who_asks_is_given_the_indentation_too() -> None:
    assert left_by(indent, "def f():\n<|>", "    return 1", is_automatic=False) == "    return 1"
    assert left_by(indent, "def f():\n<|>", "return 1", is_automatic=False) is None


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("function f() {\n<|>\n}", "return 1;", None),
        ("function f() {\n  <|>\n}", "return 1;", "return 1;"),
        ("function f() {\n  g();\n<|>", "}", "}"),
        ("const x = [\n<|>\n];", "1,", "1,"),
    ],
)
def test_blocks_with_braces_have_an_indentation_too(document: str, generated: str, left: str | None) -> None:
    assert left_by(indent, document, generated, "javascript") == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("def f():\n\t<|>\n", "if x:\n        y", "if x:\n\t\ty"),
        ("def f():\n\tx\n\t<|>\n", "if x:\n\t\ty", "if x:\n\t\ty"),
        ("if a:\n    b\ndef f():\n    <|>\n", "if x:\n\t\ty", "if x:\n        y"),
        ("if a:\n  b\ndef f():\n  <|>\n", "if x:\n\t\ty", "if x:\n    y"),
        ("<|>\n", "if x:\n\ty", "if x:\n\ty"),  # the file has no habit yet
    ],
)
def test_tabs_or_spaces_as_in_the_file(document: str, generated: str, left: str) -> None:
    assert left_by(indent, document, generated, multiline=True) == left


@pytest.mark.parametrize(
    ("generated", "left"),
    [
        ("x = 1\n        y = 2", "x = 1"),  # deeper without a header
        ("if x:\n        y = 2\n    z = 3", "if x:\n        y = 2\n    z = 3"),
        ("if x:\n        y = 2\n      z = 3", "if x:\n        y = 2"),  # back to no level
        ("x = f(\n            1)\n    y = 2", "x = f(\n            1)\n    y = 2"),
    ],
)
def test_several_lines_keep_to_their_levels(generated: str, left: str) -> None:
    assert left_by(indent, "def f():\n    <|>\n", generated, multiline=True) == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("x = <|>", "f(1)", "f(1)"),
        ("x = <|>", "f(1", "f"),  # back to the last valid token
        ("x = <|>", "= 1", None),
        ("<|>", "x = foo(", "x = foo"),
        ("<|>", "x = [1, 2", "x"),
        ("if x<|>", " == 1:", " == 1:"),
        ("if x<|>\n    y = 1\n", " == 1:", " == 1:"),
        ("def f(<|>)\n    return 1\n", "a", "a"),  # the colon is still to come
        ("def f(self, <|>)", "url: str", "url: str"),  # the body too
        ("def f(self, url<|>)", ": str = ''", ": str = ''"),
        ("def f(self, <|>)\n\ndef g(): ...\n", "url: str", "url: str"),
        ("class A:\n    def f(\n        self,\n        <|>)\n\n    def g(self): ...\n", "url: str,", "url: str,"),
        ("class A:\n    def f(\n        self,\n        <|>\n    )\n\n    def g(self): ...\n", "url: str,", "url: str,"),
        ("def f(\n    self,\n    <|>)\n\nx = 1\n", "url: str = [", "url: str"),
        ("def f(\n    self,\n    <|>)\n\nx = 1\n", "url str,", "url"),
        ("def f(\n    self,\n    <|>\n):\n    return 1\n", "a: int) -> int", "a: int"),  # closed below
        ("if (\n    a\n    and <|>\n):\n    pass\n", "b)", "b"),
        ("with foo(\n    a,\n    <|>\n    c,\n):\n    pass\n", "b) as f", None),
        ("foo(\n    a,\n    <|>\n)\n", "b)  # done", "b"),
        ("x = foo(<|>", "1)\nif y", "1)"),
        ("def play<|>\n\nx = 1\n", "_media(", "_media"),  # nothing closes it
        ("def play<|>\n\nx = 1\n", "_media(self) -> int", "_media(self) -> int"),
        ("class A:\n    x = 1\n\n    <|>\n\n    y = 1\n", "def play", None),  # sound without it
        ("while <|>", "not x.done", "not x.done"),
        ("x = <|>\n\nif y:\n", "lambda", None),
        ("<|>", "for x in y:", "for x in y:"),  # so is the body
        ("<|>", "try:", "try:"),
        ("<|>", "match x:", "match x:"),
        ("if a:\n    b\n<|>", "else:", "else:"),
        ("<|>", "else:", None),
        ("<|>", "x = lambda:", "x"),
        ("<|>\ndef f(): ...", "@cache", "@cache"),
        ("<|>\nx = 1", "@cache", None),
        ("@<|>", "cache", "cache"),  # a function will follow
        ("<|>", "return 1", None),  # outside of a function
        ("def f():\n    <|>", "return 1", "return 1"),
        ("class A:\n    def f(self):\n        x = 1\n        <|>\n\n    def g(self): ...\n", "return x)", "return x"),
        ("parser.add<|>\n    '--x',\n)\n", "_argument(", "_argument("),  # opens what is closed below
        ("f(\n    a,\n    <|>\n)\n", "b=1,", "b=1,"),
        ("f(\n    a,\n    <|>\n)\n", "b=1", "b=1"),
        ("f(\n    a,\n    <|>\n    c,\n)\n", "b", None),  # a comma is missing
        ("f(\n    a,\n    <|>", "b)", "b)"),
        ("f(\n    a,\n    <|>", "b,", "b,"),  # still open, as before
        ("f(\n    a,\n    <|>", "b]", "b"),
        ('x = """\n<|>\n"""\n', "what ever )", "what ever )"),
        ("# <|>", "what ever )", "what ever )"),
        ("def f(  # pyl<|>)\n\nx = 1\n", "int: disable=all", "int: disable=all"),  # broken, but not there
        ("x = 1  # a\n# <|>\nx = 2\n", "b\n= 3", "b"),
        ('def f():\n    <|>\n    More of it.\n    """\n', '"""Text.', '"""Text.'),
        ("@cache\ndef f():\n    <|>\n", '"""Text.', None),  # of several lines, and nothing ends it
        ('def f():\n    <|>\n\ndef g():\n    """More."""\n', '"""Text.', None),  # that is another string's
        ('def f():\n    """<|>\n', "Text.", "Text."),  # opened by the user
        ("for x in y:\n    if x:\n        <|>\n", "break", "break"),
        ("if x:\n    <|>\n", "break", None),
        ("x = 'a<|>", "b'", "b'"),
        ("x = (1 +\ny = <|>\n", "2", "2"),  # broken before, and no worse
        ("x = 1\n\n\ndef f() x:\n    pass\n\n\ny = <|>\n", "= 2", None),
        ("x = é + '漢' + <|>", "𝒳", "𝒳"),
    ],
)
def test_no_new_syntax_errors(document: str, generated: str, left: str | None) -> None:
    assert left_by(parse_check, document, generated) == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("const x = <|>;\n", "f(1)", "f(1)"),
        ("const x = <|>;\n", "f(1", "f"),
        ("function f() {\n  <|>\n}\n", "return 1;", "return 1;"),
        ("function f() {\n  <|>\n}\n", "const = = 1", None),
        ("export class <|>\n\nlet y = 1;\n", "A extends B", "A extends B"),  # its body is still to come
        ("function play<|>\n\nlet y = 1;\n", "Media(a: string", "Media"),
        ("switch (<|>)\n\nlet y = 1;\n", "a", "a"),
        ("switch (<|>)\n\nlet y = 1;\n", "= a", None),
        ("foo(<|>)\n\nlet y = 1;\n", "a {", "a"),
        ("let y = <|>\n\nlet z = 1;\n", "a +", "a"),  # braces could follow, as a value
        ("let y = <|>\n\nlet z = 1;\n", "(a) =>", "(a)"),
        ("let y =<|>\n\nlet z = 1;\n", " total.items ??", " total.items"),
        ("if (a) y = <|>\n\nlet z = 1;\n", "b ||", "b"),
        ("f(/* <|> */ x\n", "what ever )", "what ever )"),
        ("f(/* *<|>\n more */ x);\n", "/ + ) y", None),
        ("f(/* a <|>/ b */ x);\n", "*", None),
        ("/**\n * a\n *<|>/\nexport function f() {}\n", "* b", None),
        ("f(/* <|>*/ x);\n", "a */ ) /* b", None),
        ("<|>\n", "if (x) {", "if (x) {"),  # its body and brace are still to come
        ("if (x) {\n  <|>\n}\n", "}", None),
        ("class A {\n  <|>\n}\n", "private x: number = 1;", "private x: number = 1;"),
        ("const a = { <|> };\n", "b: 1", "b: 1"),
        ("foo(() => {\n  <|>\n});\n", "bar();", "bar();"),
    ],
)
def test_no_new_syntax_errors_in_typescript(document: str, generated: str, left: str | None) -> None:
    assert left_by(parse_check, document, generated, "typescript") == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("function f(<|>)\n\nlet y = 1;\n", "a, b", "a, b"),
        ("class A {\n  f(<|>)\n\n  g() {}\n}\n", "a, b", "a, b"),
        ("class A {\n  f(<|>)\n\n  g() {}\n}\n", "a, b) + (c", "a, b"),
        ("y = <|>\n\nlet z = 1;\n", "count -", "count"),
    ],
)
def test_functions_in_javascript_lack_their_bodies_at_first(document: str, generated: str, left: str | None) -> None:
    assert left_by(parse_check, document, generated, "javascript") == left


def test_what_only_looks_like_a_comment_is_judged() -> None:
    page = "const x = <p>see http://foo <|></p>;\n"
    assert left_by(parse_check, page, "</b> {", "typescriptreact") != "</b> {"
    assert left_by(parse_check, 'x = f"{d["#"]}" + <|>\n', "1 = (") != "1 = ("


def test_what_a_document_was_judged_is_remembered_but_not_that_it_took_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = iter([None, 3])
    monkeypatch.setattr(validity, "n_errors", lambda *arguments: next(counts))
    found = [validity._n_errors("let judged_once = (", language_for("typescript")) for _ in range(3)]
    assert found == [None, 3, 3]


def test_a_language_without_a_grammar_is_not_checked() -> None:
    assert left_by(parse_check, "x = <|>", ")))", "ruby") == ")))"


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("<|>", "x = 1", "x = 1"),
        ("<|>", "  \n ", None),
        ("<|>", "", None),
        ("f<|>", "()", None),
        ("f(x<|>", ")", None),
        ("x = <|>", "y", None),
        ("retur<|>", "n", "n"),
        ("x<|>", "1", None),
        ("x = <|>", "10", "10"),
        ("_<|>", "_", "_"),
        ("é<|>", "é", "é"),
    ],
)
def test_what_is_quicker_typed_is_not_offered(document: str, generated: str, left: str | None) -> None:
    assert left_by(trivial, document, generated, min_confidence=0.1) == left


@pytest.mark.parametrize(("probability", "left"), [(0.51, "e"), (0.49, None)])
def test_a_single_character_is_offered_where_it_is_likely(probability: float, left: str | None) -> None:
    tokens = {"token_texts": ("e",), "token_logprobs": (math.log(probability),)}
    assert left_by(trivial, "return Tru<|>", "e", min_confidence=0.1, **tokens) == left
    assert left_by(trivial, "return Tru<|>", "e", min_confidence=0.0, **tokens) == "e"


@pytest.mark.parametrize(("generated", "left"), [(")", ")"), ("1", "1"), ("  ", None)])
def test_where_everything_is_shown_only_blanks_are_not(generated: str, left: str | None) -> None:
    assert left_by(trivial, "f(x = <|>", generated, min_confidence=0.0) == left


def test_confidence_is_that_of_the_first_line_as_it_is_left() -> None:
    half = math.log(0.5)
    made = candidate("<|>", "ab", token_texts=("a", "b", "cd"), token_logprobs=(half, half, -50.0))
    assert confidence_of(made) == pytest.approx(0.25)
    assert confidence_of(made.cut(0)) == 1.0
    lines = candidate("<|>", "a\ncd", token_texts=("a", "\n", "cd"), token_logprobs=(half, half, -50.0))
    assert confidence_of(lines) == pytest.approx(0.5)


def test_that_a_text_ends_where_it_does_counts_unless_it_was_cut() -> None:
    half = math.log(0.5)
    whole = candidate("<|>", "ab", token_texts=("a", "b"), token_logprobs=(half, half), end_logprob=half)
    assert confidence_of(whole) == pytest.approx(0.125)
    assert confidence_of(whole.cut(1)) == pytest.approx(0.5)


@pytest.mark.parametrize(("least", "is_left"), [(0.0, True), (0.5, True), (0.51, False), (1.0, False)])
def test_what_the_model_is_unsure_of_is_not_offered(least: float, is_left: bool) -> None:
    fields = {"token_texts": ("x",), "token_logprobs": (math.log(0.5) + 1e-9,), "min_confidence": least}
    assert (left_by(confidence, "<|>", "x", **fields) is not None) == is_left


@pytest.mark.parametrize(
    ("document", "generated", "offered"),
    [
        ("total = add(<|>)\n", "1, 2)", "1, 2"),
        ("a = 1\n<|>\nc = 3\n", "b = 2\nc = 3\n", "b = 2"),
        ("x = <|>\n", "   \n", None),
        ("f(a, <|>, last)\n", "next, last)\n", "next"),
        ('print("<|>")\n', 'hello")\n', "hello"),
        ("def f():\n    <|>\n", "return 1\n", "return 1"),
        ("def f():\n    ret<|>\n", "urn 1<|endoftext|>", "urn 1"),
        ("def f(x):\n    return x\n\n\nprint(<|>", "f(1))\n", "f(1))"),
        ("import os\n<|>\nx = os.environ\n", "import sys\n", "import sys"),
        ("import os\n<|>\nimport sys\n", "import sys\n", None),
        ("import os\n<|>\n", "import os\n", None),
        ("<|>exe = 'icc'\n", "exe = 'icc' = [", None),  # what the parse check leaves is there already
    ],
)
def test_offers_only_what_is_new(document: str, generated: str, offered: str | None) -> None:
    assert offer(document, generated) == offered


def test_several_lines_are_offered_where_they_are_welcome() -> None:
    generated = "total = 0\n    for value in values:\n        total += value\n    return total\n\n\ndef other():\n"
    document = "def add(values):\n    <|>\n\n\nprint(add([1]))\n"
    assert offer(document, generated, multiline=True) == generated[: generated.index("\n\n\n")]
    assert offer(document, generated) == "total = 0"


def test_every_filter_gives_its_verdict_until_one_rejects() -> None:
    kept = apply(candidate("total = add(<|>)\n", "1, 2)"))
    assert [v.filter for v in kept.verdicts] == [name for name, _ in FILTERS]
    assert {v.filter for v in kept.verdicts if v.action == "changed"} == {"stop rule"}
    rejected = apply(candidate("x = 1\n<|>", "x = 1"))
    assert rejected.candidate is None
    assert rejected.verdicts[-1].filter == "repetition"
    assert rejected.verdicts[-1].action == "rejected"
    assert "line above" in rejected.verdicts[-1].reason


CODE = st.text(st.sampled_from(list("abx1 \t\n\r()[]{}:,.'\"#=\\`@/*é漢𝒳\ud800\x00\x0c\u2028")), max_size=60)


@settings(max_examples=150, deadline=None)
@given(CODE, CODE, CODE, st.sampled_from(["python", "typescript", "plaintext", "rust"]), st.booleans())
def test_any_text_is_taken(prefix: str, suffix: str, generated: str, language: str, multiline: bool) -> None:
    cursor = cursor_between(prefix, suffix, language_for(language))
    left = apply(Candidate(generated, cursor, "length", multiline=multiline)).candidate
    assert left is None or left.text.strip()


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("x = 1\n" * 1_700_000, "y = 2\n" * 10),
        ("x" * 1_000_000, "x" * 1_000_000),
        ("(" * 300_000, ")" * 300_000),
        ("'" * 300_001, ""),
        ("    " * 100_000, "\n" * 100_000),
        ("if x:\n" * 50_000, ""),
    ],
)
def test_huge_texts_cost_no_more_than_large_ones(prefix: str, suffix: str) -> None:
    apply(candidate_between(prefix, suffix, "value = compute(1)"))


def candidate_between(prefix: str, suffix: str, generated: str) -> Candidate:
    return Candidate(generated, cursor_between(prefix, suffix, language_for("python")))


@pytest.mark.parametrize(
    ("document", "generated", "language", "left"),
    [
        ("console.log(`Hello ${na<|>}`);", "me}!`", "javascript", "me"),
        ("throw new TypeError(`bad value ${va<|>}`);", "lue}`", "typescript", "lue"),
        ('mkdir -p "${BACKUP_<|>}"\n', 'DIR}"', "shellscript", "DIR"),
        ("print('Usage: bar [opt<|>]')", "ions]", "python", "ions"),
        ("// returns the value (or the def<|>)\n", "aultValue)", "javascript", "aultValue"),
        ('fmt.Sprintf("%s (<|>)")', "%s)", "go", "%s"),
        ("print(f'hello {na<|>}')\n", "me}')", "python", "me"),
        ('print(f"hello {<|>}")\n', 'name}"', "python", "name"),
        ("x = f'{d[<|>]}'\n", "0]}'", "python", "0"),
        ("# see <|>)\n", "(below)", "python", "(below)"),  # its own
        ("#include <str<|>>\n", "ing.h>", "c", "ing.h"),
        ("const x = useState<<|>>(false)\n", "boolean>", "typescript", "boolean"),
        ("let v: Vec<<|>> = Vec::new();", "String>;", "rust", "String"),
        ("const f: Map<<|>> = y;\n", "string, () => void>", "typescript", "string, () => void"),
        ("if (a < b<|>> 1) {\n}\n", "c > d", "javascript", "c > d"),  # comparisons
        ('x = re.compile(r"(<|>)")\n', "[^)]*", "python", "[^)]*"),
        ('x = re.compile(r"(<|>)")\n', r"\w+\)", "python", r"\w+\)"),
        ('new RegExp("(<|>)");\n', r"\\d+\\)?", "javascript", r"\\d+\\"),  # there it is the bracket that is not escaped
        ("x = <Button<|>>;\n", " disabled={items.length > 0}", "typescriptreact", " disabled={items.length > 0}"),
        ("<a<|>>x</a>\n", ' title="a > b"', "html", ' title="a > b"'),
        ("<a<|>>x</a>\n", ' title="a">', "html", ' title="a"'),
        ("x = i<n<|>>1;\n", " - (m > 1)", "c", " - (m > 1)"),
    ],
)
def test_what_closes_behind_the_cursor_is_not_closed_again_in_words_and_types(
    document: str, generated: str, language: str, left: str
) -> None:
    assert left_by(closers, document, generated, language) == left


@pytest.mark.parametrize(
    ("document", "generated", "left"),
    [
        ("print(f'hello {na<|>}')\n", "me}')", "me"),
        ("first, last = 'Ann', 'Lee'\nfull = f'{first} {la<|>}'\n", "st}'", "st"),
        ('if __name__ == "__ma<|>"\n', 'in__":', "in__"),
        ('if __name__ == "__ma<|>":\n', 'in__":', "in__"),
        ('if a:\n    b()\nelif mode == "<|>"\n', 'fast":', "fast"),
        ('with open("<|>")\n', 'data.txt") as f:', "data.txt"),
        ("class Foo(<|>):\n", "object):", "object"),
        ("try:\n    import foo\nex<|>\n", "cept ImportError:", "cept ImportError:"),
        ("def f(\n    a,\n    b,\n) <|>\n", "-> None:", "-> None:"),
        ("class A:\n    def f(\n        self,\n    ) <|>\n", "-> None:", "-> None:"),
        ("d = {'a': 1}\nx = d.get<|>('a')\n", "('x')", None),
        ("d = {'a': 1}\nx = d.g<|>('a')\n", "et('x')", "et"),
        ("items = [1, 2]\nx = items<|>[0]\n", "[0]", None),
        ("x = df<|>['a']\n", ".loc[mask]", ".loc[mask]"),
        ("y = <|>(a + b)\n", "abs(c) * ", "abs(c) * "),
        ("if <|>(a and b):\n    pass\n", "isinstance(a, int) and ", "isinstance(a, int) and "),
        ("def f(g, i, j):\n    return g<|>[j]\n", "[i]", "[i]"),
        ("y = <|>(a + b)\n", "abs(c)(d)", "abs(c)(d)"),
        ("x = <|>(1 + 2)\n", "len", "len"),
        ("class A:\n    <|>\n", "@property", "@property"),
        ("class A:\n    x = 1\n\n    @<|>\n", "property", "property"),
    ],
)
def test_what_stands_behind_the_cursor_is_taken_into_account(document: str, generated: str, left: str | None) -> None:
    assert offer(document, generated) == left


def test_a_comment_far_below_the_start_of_a_docstring_is_a_comment() -> None:
    docstring = 'def a():\n    """\n' + "    It isn't done (yet), don't use it.\n" * 10 + '    """\n'
    body = "".join(f"    x{i} = {i}\n" for i in range(192))
    assert offer(f"{docstring}{body}    if x1:\n        # check <|>\n", "the input") == "the input"


@pytest.mark.parametrize(
    ("document", "generated", "language", "left"),
    [
        ("/**\n * @author <|>\n */\n", "Richard Roe <richard@roe.io>", "javascript", None),
        ("/**\n * <|>\n */\n", "@author Richard Roe", "javascript", None),
        ("# <|>\n", "Copyright 2025 Acme LLC", "python", None),
        ("# Copyright (c) <|>\n", "2023-2026, Jane Doe", "python", None),
        ("# Copyright (c) 2021 Acme\n# <|>\n", "Copyright (c) 2021 Acme", "python", "Copyright (c) 2021 Acme"),
        ("# <|>\n", "write to jane.doe@acme.com", "python", None),
        ("x = 1\n<|>\n", "y = 2\n# Author: Jane Doe", "python", "y = 2"),
        ("# <|>\n", "The author of a commit", "python", "The author of a commit"),
        ("<|>\n", "author = commit.author", "python", "author = commit.author"),
        ("<|>\n", 'author = data["name"]', "python", 'author = data["name"]'),
        ("<|>\n", '__author__ = "Jane Doe"', "python", None),
        ("# My project\n\nAuthor: <|>\n", "Jane Doe", "markdown", None),
        ("w = <|>\n", "w@self.weight", "python", "w@self.weight"),
        ("if ord(c) > 127: <|>\n", 'raise ValueError("Not printable")', "python", 'raise ValueError("Not printable")'),
        ("<|>\n", 'EMAIL = os.environ["EMAIL_HOST_USER"]', "python", 'EMAIL = os.environ["EMAIL_HOST_USER"]'),
        ("<|>\n", 'email = forms.EmailField(label="Email")', "python", 'email = forms.EmailField(label="Email")'),
        ("x = {<|>}\n", '"contact": "Contact"', "python", '"contact": "Contact"'),
        ("<|>\n", "git clone git@github.com:foo/bar.git", "shellscript", "git clone git@github.com:foo/bar.git"),
        ("# <|>\n", "AUTHORS OR COPYRIGHT HOLDERS BE LIABLE", "python", "AUTHORS OR COPYRIGHT HOLDERS BE LIABLE"),
        ("<|>\n", 'send(to="user@example.com")', "python", 'send(to="user@example.com")'),
        ("setup(<|>)\n", 'author_email="jane@doe.at"', "python", None),
        ("setup(<|>)\n", 'maintainer_email="Jane Doe"', "python", None),
        ("# <|>\n", "Maintained by Jane Doe", "python", None),
    ],
)
def test_nobody_is_named_whom_nothing_around_names(
    document: str, generated: str, language: str, left: str | None
) -> None:
    assert left_by(people, document, generated, language) == left


def test_a_text_of_the_repository_names_whom_it_likes() -> None:
    assert left_by(people, "# <|>\n", "Copyright 2025 Acme LLC", is_known=True) == "Copyright 2025 Acme LLC"


@pytest.mark.parametrize(
    ("document", "generated", "language", "is_offered"),
    [
        ("def f(x):\n    raise ValueError('x')\n    <|>\n", "return x", "python", False),
        ("def f(x):\n    return g(\n        x,\n    )\n    <|>\n", "return None", "python", False),
        ("for x in y:\n    if x:\n        break\n        <|>\n", "print(x)", "python", False),
        ("for x in y:\n    if x:\n        break\n    <|>\n", "print(x)", "python", True),
        ("if x: return\n<|>\n", "print(x)", "python", True),
        ("return_value = 1\n<|>\n", "print(return_value)", "python", True),
        ("function f() {\n  return 1;\n  <|>\n}\n", "x = 2;", "javascript", False),
        ("switch (x) {\n  case 1:\n    break;\n    <|>\n}\n", "case 2:", "javascript", True),
        ("function f() {\n  return g();\n  <|>\n}\n", "function g() {", "javascript", True),
        ("if (x)\n  return 1;\n<|>\n", "x = 2;", "javascript", True),
    ],
)
def test_nothing_is_offered_where_nothing_comes_to(
    document: str, generated: str, language: str, is_offered: bool
) -> None:
    assert (left_by(indent, document, generated, language) is not None) == is_offered


@pytest.mark.parametrize(
    ("document", "generated", "fields", "left"),
    [
        ("def f():\n    <|>\n", "x = 1\n    if x:\n        for y in x:\n            z", {"finish": "length"}, "x = 1"),
        ("def f():\n    <|>\n", "x = 1\n    if x:  # so", {}, "x = 1"),
        ("def f():\n    <|>\n        y = 2\n", "x = 1\n    if x:", {}, "x = 1\n    if x:"),  # its body is there
        ("def f():\n    <|>\n", "if x:", {}, "if x:"),
        ("def f():\n    <|>\n", "try:\n        g()\n    except OSError:", {}, "try:\n        g()\n    except OSError:"),
        ("def f():\n    <|>\n", "# So.\n    if x:", {}, "# So.\n    if x:"),
    ],
)
def test_no_stump_is_offered(document: str, generated: str, fields: dict[str, Any], left: str | None) -> None:
    assert left_by(unfinished, document, generated, **fields) == left


@pytest.mark.parametrize(
    ("document", "generated", "left", "fields", "is_offered"),
    [
        ("def f():\n    <|>\n", "return json.loads(", "return", {}, False),
        ("def f():\n    <|>\n", "return json.loads(", "return", {"is_automatic": False}, True),
        ("def f():\n    <|>\n", "return", "return", {}, True),
        ("def f():\n    <|>\n", "pass\n    x = 1", "pass", {}, True),
        ("def f():\n    re<|>\n", "turn json.loads(", "turn", {}, True),
        ("x = <|>\n", "loads(text)", "loads", {}, True),
    ],
)
def test_of_a_line_that_was_shortened_its_first_word_alone_is_no_offer(
    document: str, generated: str, left: str, fields: dict[str, Any], is_offered: bool
) -> None:
    given = {"token_texts": (generated,), "token_logprobs": (-0.1,), "min_confidence": 0.05, **fields}
    assert (left_by(trivial, document, left, **given) is not None) == is_offered


@pytest.mark.parametrize(
    ("likely", "least", "left"),
    [
        ((0.9, 0.9, 0.9), 0.05, "a = 1\nb = 2\nc = 3"),
        ((0.9, 0.01, 0.9), 0.05, "a = 1"),
        ((0.9, 0.9, 0.01), 0.05, "a = 1\nb = 2"),
        ((0.01, 0.9, 0.9), 0.05, "a = 1\nb = 2\nc = 3"),  # the first is what the confidence is for
        ((0.9, 0.01, 0.9), 0.0, "a = 1\nb = 2\nc = 3"),
        ((0.3, 0.3, 0.3), 0.25, "a = 1\nb = 2\nc = 3"),  # each for itself
    ],
)
def test_lines_below_the_first_are_likely_too(likely: tuple[float, ...], least: float, left: str) -> None:
    texts = ("a = ", "1", "\n", "b = ", "2", "\n", "c = ", "3")
    first, second, third = (math.log(p) for p in likely)
    logprobs = (0.0, first, 0.0, second, 0.0, 0.0, 0.0, third)
    fields = {"token_texts": texts, "token_logprobs": logprobs, "min_confidence": least, "multiline": True}
    assert left_by(likely_lines, "<|>", "".join(texts), **fields) == left
