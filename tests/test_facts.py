"""Hover says what the name under the cursor is, and nothing about anything else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.facts import MAX_SOURCE_CHARACTERS, Facts, facts_around, facts_at
from server.lm.context import Document
from server.lm.languages import language_for
from tests.marks import split_at_cursor


def facts(marked: str, language: str = "python", path: str = "shop/main.py") -> Facts | None:
    """What this file alone says."""
    text, offset = split_at_cursor(marked)
    return facts_at(Document(f"file:///work/{path}", path, language_for(language), text), offset, Path("/work"))


@pytest.mark.parametrize(
    "marked, kind, signature, line",
    [
        # definitions and their uses
        ("def a<|>dd(x, y=1) -> int:\n    return x\n", "function", "def add(x, y=1) -> int", 1),
        ("def add(x):\n    return x\n\nprint(ad<|>d(1))\n", "function", "def add(x)", 1),
        ("def add(x):\n    return x\n\nadd<|>(1)\n", "function", "def add(x)", 1),
        ("async def run<|>(): ...\n", "function", "async def run()", 1),
        ("class <|>Box(Base):\n    pass\n", "class", "class Box(Base)", 1),
        ("class Box:\n    pass\n\n\nb: Bo<|>x = Box()\n", "class", "class Box", 1),
        ("def wrap(f):\n    return f\n\n@wr<|>ap\ndef g(): ...\n", "function", "def wrap(f)", 1),
        (
            "class A:\n    @property\n    def size(self): ...\n    def f(self):\n        return self.si<|>ze\n",
            "property",
            "def size(self)",
            3,
        ),
        ("class A:\n    def __in<|>it__(self): ...\n", "method", "def __init__(self)", 2),
        ("class A:\n    def f(self): ...\n    def g(self):\n        self.<|>f()\n", "method", "def f(self)", 2),
        (
            "class A:\n    @classmethod\n    def f(cls):\n        cls.l<|>imit\n    limit = 3\n",
            "variable",
            "limit = 3",
            5,
        ),
        ("class A:\n    def f(self): ...\n\nA.<|>f\n", "method", "def f(self)", 2),
        (
            "class A:\n    def __init__(self):\n        self.x = 3\n    def f(self):\n        return self.x<|>\n",
            "attribute",
            "self.x = 3",
            3,
        ),
        ("class A:\n    x: int\n    def f(self):\n        self.x<|> = 3\n", "attribute", "self.x = 3", 4),
        (
            "class A:\n    def __init__(self):\n        self.x: int = 3\n    def f(self):\n        del self.<|>x\n",
            "attribute",
            "self.x: int = 3",
            3,
        ),
        # parameters
        ("def f(a, b: int = 2):\n    return <|>b\n", "parameter", "b: int = 2", 1),
        ("def f(a, <|>b: int = 2):\n    return b\n", "parameter", "b: int = 2", 1),
        ("def f(*args, **kw):\n    return kw<|>\n", "parameter", "**kw", 1),
        ("def f(*args: int):\n    return args<|>\n", "parameter", "*args: int", 1),
        ("g = lambda u, v=1: <|>v\n", "parameter", "v=1", 1),
        ("class A:\n    def f(se<|>lf): ...\n", "parameter", "self", 2),
        ("def f(size): ...\n\nf(si<|>ze=3)\n", "parameter", "size", 1),
        ("class A:\n    def __init__(self, size): ...\n\nA(si<|>ze=3)\n", "parameter", "size", 2),
        ("class A:\n    size: int = 3\n\nA(si<|>ze=3)\n", "variable", "size: int = 3", 2),
        # variables
        ("x = 1\ny = x<|>\n", "variable", "x = 1", 1),
        ("x = 1\nx += <|>x\n", "variable", "x = 1", 1),
        ("for i, (j, *k) in rows:\n    print(<|>k)\n", "variable", "for i, (j, *k) in rows", 1),
        ("with open(p) as fi<|>le:\n    pass\n", "variable", "with open(p) as file", 1),
        ("try:\n    pass\nexcept Error as e:\n    print(<|>e)\n", "variable", "except Error as e", 3),
        ("if (n := 3):\n    print(n<|>)\n", "variable", "n := 3", 1),
        ("r = [k for k in range(3) if <|>k]\n", "variable", "for k in range(3)", 1),
        ("r = [(last := k) for k in x]\nla<|>st\n", "variable", "last := k", 1),
        ("match v:\n    case [h, *t] as whole:\n        print(<|>t)\n", "variable", "case [h, *t] as whole", 2),
        ("match v:\n    case Point(x=found):\n        fou<|>nd\n", "variable", "case Point(x=found)", 2),
        ("type Al = int\nx: A<|>l\n", "variable", "type Al = int", 1),
        ("name = 'x'\nprint(f'{na<|>me!r:>10}')\n", "variable", "name = 'x'", 1),
        # scopes
        ("x = 1\ndef f(x):\n    return <|>x\n", "parameter", "x", 2),
        ("x = 1\ndef f():\n    x = 2\n    return <|>x\n", "variable", "x = 2", 3),
        ("def f():\n    x = 2\nx = 1\nprint(<|>x)\n", "variable", "x = 1", 3),
        ("def f():\n    x = 2\n    def g():\n        return <|>x\n", "variable", "x = 2", 2),
        (
            "def f():\n    x = 2\n    def g():\n        nonlocal x\n        x = 3\n        <|>x\n",
            "variable",
            "x = 2",
            2,
        ),
        ("x = 1\ndef f():\n    global x\n    x = 2\n    return <|>x\n", "variable", "x = 1", 1),
        ("x = 1\nclass A:\n    x = 2\n    def f(self):\n        return <|>x\n", "variable", "x = 1", 1),
        ("x = 1\nclass A:\n    x = 2\n    y = <|>x\n", "variable", "x = 2", 3),
        ("x = 1\nx = 2\nprint(<|>x)\nx = 3\n", "variable", "x = 2", 2),
        ("x = 1\ndef f(a=<|>x, x=2): ...\n", "variable", "x = 1", 1),
        ("def f():\n    return g<|>()\ndef g(): ...\n", "function", "def g()", 3),
        ("k = 1\nr = [k for k in x]\nprint(<|>k)\n", "variable", "k = 1", 1),
        (
            "try:\n    import fast\nexcept ImportError:\n    def fast(): ...\ndef f():\n    fa<|>st()\n",
            "function",
            "def fast()",
            4,
        ),
        # built in
        ("pri<|>nt(1)\n", "function", None, 0),
        ("raise ValueEr<|>ror\n", "class", "class ValueError", 0),
        # text that is hard to read
        ("größe = 3\nprint(grö<|>ße)\n", "variable", "größe = 3", 1),
        ("s = '😀'; x = 1\nprint(s, <|>x)\n", "variable", "x = 1", 1),
        ("def f(a):\r\n    pass\r\n\r\n<|>f(1)\r\n", "function", "def f(a)", 1),
        ("a = 1\r\rb = <|>a\r", "variable", "a = 1", 1),
        ("def add(x):\n    return x\n\ndef broken(:\n    pass\n\nad<|>d(1)\n", "function", "def add(x)", 1),
        ("def add(x):\n    return x\n\nprint(ad<|>d(\n", "function", "def add(x)", 1),
        ("x = = 3\ndef add(x):\n    return x\nad<|>d\n", "function", "def add(x)", 2),
    ],
)
def test_a_name_is_what_python_takes_it_for(marked: str, kind: str, signature: str | None, line: int) -> None:
    found = facts(marked)
    assert found is not None
    assert (found.kind, found.line) == (kind, line)
    if signature is not None:
        assert found.signature == signature


@pytest.mark.parametrize(
    "marked",
    [
        "de<|>f f(): ...\n",
        "ret<|>urn\n",
        "x = 1<|>23\n",
        "x = 'te<|>xt'\n",
        "x = Tr<|>ue\n",
        "x = No<|>ne\n",
        "# com<|>ment x\nx = 1\n",
        '"""do<|>c"""\n',
        "x = f'te<|>xt {x}'\n",
        "x =<|> = 1\n",
        "x = 1\n\n<|>\n",
        "<|>",
        "x = (<|> 1)\n",
        "unknown<|>\n",
        "value.unknown<|>\n",
        "for x in y: contin<|>ue\n",
        "...<|>",
    ],
)
def test_there_is_nothing_to_say_about_anything_else(marked: str) -> None:
    assert facts(marked) is None


def test_the_range_is_the_name() -> None:
    marked = "def add(): ...\nprint(ad<|>d())\n"
    found = facts(marked)
    assert found is not None and split_at_cursor(marked)[0][found.start : found.end] == "add"
    assert found.start > 10


@pytest.mark.parametrize(
    "definition, documentation",
    [
        ('def f():\n    """Adds.\n\n    More.\n    """\n', "Adds.\n\nMore."),
        ("class f:\n    '''Adds.'''\n", "Adds."),
        ("# Adds.\ndef f(): ...\n", "Adds."),
        ("def f():\n    x = 'no docstring'\n", ""),
        ("# A limit.\nf = 3\n", "A limit."),
    ],
)
def test_documentation_is_given_as_it_is(definition: str, documentation: str) -> None:
    found = facts(f"{definition}\n\n<|>f\n")
    assert found is not None and found.documentation == documentation


def test_a_sentence_could_be_about_the_source_without_its_docstring() -> None:
    source = '@wrap\ndef f(a):\n    """Adds.\n\n    More."""\n    return a\n'
    found = facts(f"class A:\n{''.join('    ' + line for line in source.splitlines(True))}\n\nA.<|>f\n")
    assert found is not None and found.subject is not None
    assert found.subject.source == "    @wrap\n    def f(a):\n        return a"
    assert (found.subject.kind, found.subject.name, found.subject.path) == ("method", "f", "shop/main.py")


def test_a_docstring_behind_the_colon_leaves_the_head() -> None:
    found = facts('def <|>f(a): "Adds."\n')
    assert found is not None and found.subject is not None and found.subject.source.strip() == "def f(a):"


@pytest.mark.parametrize("marked", ["<|>x = 1\n", "def f(<|>x): ...\n", "import <|>os\n"])
def test_a_sentence_is_about_functions_and_classes_only(marked: str) -> None:
    found = facts(marked)
    assert found is None or found.subject is None


@pytest.mark.parametrize(
    "marked, kind, signature, line",
    [
        ("function a<|>dd(a: number): number { return a; }\n", "function", "function add(a: number): number", 1),
        ("function add(a) {}\nadd<|>(1);\n", "function", "function add(a)", 1),
        ("export const add = (a) => a;\nad<|>d(1);\n", "function", "export const add = (a)", 1),
        ("export default class Box {}\nnew Bo<|>x();\n", "class", "export default class Box", 1),
        ("class A { size = 3; f() { return this.si<|>ze; } }\n", "property", "size = 3", 1),
        ("class A { f() {} g() { this.<|>f(); } }\n", "method", "f()", 1),
        ("class A { f() {} }\nnew A().<|>f();\n", "method", "f()", 1),
        ("interface I { a: string }\nlet x: <|>I;\n", "interface", "interface I", 1),
        ("type T = string;\nlet x: <|>T;\n", "type", "type T = string", 1),
        ("enum E { A, B }\nE<|>.A\n", "enum", "enum E", 1),
        ("function f(a: number, {b, c: [d]}) { return <|>d; }\n", "parameter", "{b, c: [d]}", 1),
        ("const f = x => <|>x;\n", "parameter", "x", 1),
        ("const a = 1;\nfunction f(a) { return <|>a; }\n", "parameter", "a", 2),
        ("const a = 1;\n{ const a = 2; }\nprint(<|>a);\n", "variable", "const a = 1", 1),
        ("function f() { { var a = 2; } return <|>a; }\n", "variable", "var a = 2;", 1),
        ("for (const i of xs) { <|>i; }\n", "variable", "for (const i of xs)", 1),
        ("try {} catch (e) { <|>e; }\n", "variable", "catch (e)", 1),
        ("import { a as b } from 'm';\n<|>b;\n", "import", "import { a as b } from 'm';", 1),
    ],
)
def test_a_name_is_what_typescript_takes_it_for(marked: str, kind: str, signature: str, line: int) -> None:
    found = facts(marked, "typescript", "shop/main.ts")
    assert found is not None and (found.kind, found.signature, found.line) == (kind, signature, line)


@pytest.mark.parametrize(
    "marked",
    ["fun<|>ction f() {}\n", "'te<|>xt'\n", "// com<|>ment\n", "`te<|>xt`\n", "12<|>3\n", "/re<|>gex/\n", "<|>\n"],
)
def test_there_is_nothing_to_say_about_the_rest_of_a_script(marked: str) -> None:
    assert facts(marked, "typescript", "shop/main.ts") is None


@pytest.mark.parametrize("language", ["typescript", "javascript", "typescriptreact", "javascriptreact"])
def test_the_comment_above_is_the_documentation(language: str) -> None:
    found = facts("/**\n * Adds.\n * @param a first\n */\nexport function add(a) {}\nad<|>d(1);\n", language, "a.x")
    assert found is not None and found.documentation == "Adds.\n@param a first"


PROGRAM = '''"""Counts."""
import os


@wrap
def outer(a):
    """Doc."""
    def inner():
        return a

    return inner


LIMIT = 3
class Box:
    def lid(self):
        return self.x
'''


def around(start: str, end: str | None = None) -> tuple[str, str, str]:
    """Kind, name and explained code at `start`, or from there to behind `end`."""
    first = PROGRAM.index(start)
    last = first if end is None else PROGRAM.index(end) + len(end)
    found = facts_around(Document("file:///work/a.py", "a.py", language_for("python"), PROGRAM), first, last)
    assert found.subject is not None and found.subject.path == "a.py"
    return found.kind, found.name, PROGRAM[found.start : found.end]


@pytest.mark.parametrize(
    "start, kind, name, first_line",
    [
        ("return a\n", "function", "inner", "def inner():"),
        ("return inner", "function", "outer", "@wrap"),
        ("    def inner", "function", "inner", "def inner():"),
        ("wrap", "function", "outer", "@wrap"),
        ("self.x", "method", "lid", "def lid(self):"),
        ("Box", "class", "Box", "class Box:"),
        ("LIMIT", "module", "a.py", '"""Counts."""'),
        ("import os", "module", "a.py", '"""Counts."""'),
    ],
)
def test_a_bare_cursor_stands_for_the_definition_around_it(start: str, kind: str, name: str, first_line: str) -> None:
    found = around(start)
    assert found[:2] == (kind, name) and found[2].startswith(first_line)


@pytest.mark.parametrize(
    "start, end, kind, name, code",
    [
        ("def inner", "return a\n", "function", "inner", "def inner():\n        return a"),
        ("    def inner", "return a", "function", "inner", "def inner():\n        return a"),
        ("import", "os", "block", "", "import os\n"),
        ("ort o", "s\n\n", "block", "", "import os\n\n"),
        ("def lid", "self.x", "method", "lid", "def lid(self):\n        return self.x"),
    ],
)
def test_a_selection_stands_for_its_lines_or_the_definition_they_are(
    start: str, end: str, kind: str, name: str, code: str
) -> None:
    assert around(start, end) == (kind, name, code)


def test_the_file_is_explained_without_its_docstring() -> None:
    found = facts_around(Document("file:///work/a.py", "a.py", language_for("python"), PROGRAM), 0, 0)
    assert found.documentation == "Counts." and found.subject is not None
    assert found.subject.source.startswith("import os\n")


def test_a_language_without_a_grammar_can_be_explained_as_text() -> None:
    found = facts_around(Document("file:///work/a.rs", "a.rs", language_for("rust"), "fn main() {}\n"), 3, 3)
    assert (found.kind, found.subject and found.subject.source) == ("module", "fn main() {}\n")


def test_what_is_explained_is_bounded() -> None:
    text = "def f():\n" + "    x = 1\n" * 9_000
    found = facts_around(Document("file:///work/a.py", "a.py", language_for("python"), text), 5, 5)
    assert found.subject is not None and len(found.subject.source) <= MAX_SOURCE_CHARACTERS


def test_a_language_without_a_grammar_has_no_facts() -> None:
    assert facts("fn ma<|>in() {}\n", "rust", "main.rs") is None


WORDS = "def class self x f import from as lambda global nonlocal for in if else match case type async with try 1 é 😀"
SIGNS = '( ) : = . , [ ] { } \' " """ # @ * ** -> := \\ function const => this // /* */ ` ${ < > ; ?'
PIECES = st.sampled_from([*WORDS.split(), *SIGNS.split(), "\n", "\r\n", "\r", "\t", "\0", "\ud800", "\u2028", "\x0c"])


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=40), st.sampled_from(["python", "typescript", "javascriptreact"]), st.data())
def test_any_text_at_any_offset_is_answered(pieces: list[str], language: str, data: st.DataObject) -> None:
    text = " ".join(pieces).replace("\n ", "\n")
    document = Document("untitled:Untitled-1", "Untitled-1", language_for(language), text)
    for offset in (data.draw(st.integers(-2, len(text) + 2)), *range(0, len(text) + 1, 7)):
        found = facts_at(document, offset, None)
        assert found is None or 0 <= found.start < found.end <= len(text)
        around = facts_around(document, offset, data.draw(st.integers(-2, len(text) + 2)))
        assert 0 <= around.start <= around.end <= len(text) and around.subject is not None


@pytest.mark.parametrize("text", ["x=" * 5_000_000, "def f(x):\n    return x\n\n" * 400_000, "(" * 10_000_000])
def test_a_huge_file_is_answered_quickly(text: str) -> None:
    document = Document("file:///work/a.py", "a.py", language_for("python"), text)
    started = time.monotonic()
    facts_at(document, len(text) // 2, Path("/work"))
    assert time.monotonic() - started < 30  # a stall, not a speed: quadratic work would take minutes
