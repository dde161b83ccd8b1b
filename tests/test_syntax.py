"""Reading without a grammar, trees, empty blocks, definitions, and how much of a text is valid."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import split_at_cursor

from server.lm import syntax
from server.lm.cursor import MAX_ABOVE, Cursor, cursor_between
from server.lm.definitions import Definition, definitions, enclosing_definition, find_definition, identifier_at
from server.lm.languages import language_for
from server.lm.lexing import LexicalState, cut_points, n_stray_closers, state_after, tokens
from server.lm.syntax import is_empty_block, n_errors, parse, walk
from server.lm.validity import compiles

PYTHON = language_for("python")
TYPESCRIPT = language_for("typescript")


def cursor_in(document: str, language: str = "python") -> Cursor:
    text, offset = split_at_cursor(document)
    return cursor_between(text[:offset], text[offset:], language_for(language))


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("x = f(1)", "word blank operator blank word open number close"),
        ("rb'a' # b", "string blank comment"),
        ("'''a\nb'''\n", "string newline"),
        ("'a\nb", "string newline word"),  # a broken string ends with its line
        ('"a\\"b"', "string"),
        ('"a\\\nb"', "string"),
        ("a->b", "word operator word"),
        ("1.5e-3", "number"),
        ("é漢", "word"),
        ("a ? b", "word blank operator blank word"),
    ],
)
def test_tokens(text: str, kinds: str) -> None:
    assert [token.kind for token in tokens(text, PYTHON)] == kinds.split()


@pytest.mark.parametrize(
    ("language", "text", "state"),
    [
        ("python", "f(a, [", LexicalState(")]")),
        ("python", "f(a)]", LexicalState()),
        ("python", "f([a)", LexicalState()),  # the inner one is forgotten
        ("python", "f('(", LexicalState(")", "'")),
        ("python", 'x = """(', LexicalState("", '"""')),
        ("python", "x = '''a'b", LexicalState("", "'''")),
        ("python", "# (", LexicalState("", "\n")),
        ("python", "# (\n", LexicalState()),
        ("python", "a // b(", LexicalState(")")),
        ("typescript", "a // b(", LexicalState("", "\n")),
        ("typescript", "/* (\n", LexicalState("", "*/")),
        ("typescript", "/* ( */ {", LexicalState("}")),
        ("typescript", "x = `a\n${b", LexicalState("", "`")),
        ("typescript", "x.replace(/['\"(]/g, ", LexicalState(")")),
        ("typescript", "a / b / (", LexicalState(")")),
        ("rust", "fn f<'a>(", LexicalState(")")),
        ("markdown", "it's (", LexicalState(")")),
    ],
)
def test_what_is_open_after_a_text(language: str, text: str, state: LexicalState) -> None:
    assert state_after(text, language_for(language)) == state


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.sampled_from(list("ab1 \n()[]{}'\"#/*`\\.é漢")), max_size=50), st.sampled_from(["python", "typescript"])
)
def test_tokens_leave_no_gap_and_landmarks_agree_with_them(text: str, name: str) -> None:
    language = language_for(name)
    pieces = list(tokens(text, language))
    assert "".join(text[piece.start : piece.end] for piece in pieces) == text
    assert all(piece.start < piece.end for piece in pieces)
    if pieces:
        assert pieces[-1].after == state_after(text, language)


def test_reading_may_go_on_from_a_state() -> None:
    text = "x = f('''a)\nb''', [1, {2: (3"
    for i in range(len(text)):
        if text[i - 1 : i + 1] != "''":  # not inside a delimiter
            assert state_after(text[i:], PYTHON, state_after(text[:i], PYTHON)) == state_after(text, PYTHON)


def test_stray_closers_and_cut_points() -> None:
    assert n_stray_closers("a) + f(b)]", PYTHON) == 2
    assert n_stray_closers("a) + f(b)]", PYTHON, LexicalState("])")) == 0
    assert cut_points("foo(a) + 1  # c", PYTHON) == [10, 8, 6, 5, 4, 3]
    assert cut_points("b' + c", PYTHON, LexicalState("", "'")) == [4, 2, 1]


@pytest.mark.parametrize(
    ("document", "state"),
    [
        ("x = (\n    <|>", LexicalState(")")),
        ("def f():\n    g(\n    <|>", LexicalState(")")),
        ("x = (\ndef f():\n    <|>", LexicalState()),  # a definition is never inside brackets
        ('x = """\ndef f():\n    <|>\n"""', LexicalState("", '"""')),  # but may be inside a string
        ('"""Doc."""\ndef f():\n    <|>', LexicalState()),
    ],
)
def test_what_is_open_at_a_cursor(document: str, state: LexicalState) -> None:
    assert cursor_in(document).line_state == state


def test_a_cursor_sees_a_bounded_stretch_of_whole_lines() -> None:
    cursor = cursor_between("line one\n" * 100_000 + "ab", "cd\r\nline two\r\n" * 100_000, PYTHON)
    assert (cursor.line_prefix, cursor.line_suffix) == ("ab", "cd")
    assert sum(map(len, cursor.above)) < MAX_ABOVE
    assert set(cursor.above) == {"line one"}
    assert set(cursor.below) == {"cd", "line two"}
    assert (cursor.starts_document, cursor.ends_document, cursor.is_state_known) == (False, False, False)


@pytest.mark.parametrize(
    ("document", "is_empty"),
    [
        ("def f():\n    <|>\n", True),
        ("def f():\n    <|>", True),
        ("def f():\n<|>", False),  # not in the block
        ("def f():\n    <|>\n    return 1\n", False),
        ("def f():\n    return 1\n    <|>\n", False),
        ("def f():\n    <|>\n\n\nx = 1\n", True),
        ("def f(a,\n      b):\n    <|>\n", True),
        ("def f(\n    a,\n) -> int:\n    <|>\n", True),
        ('def f():\n    """Doc."""\n    <|>\n', True),
        ('def f():\n    """Doc.\n\n    More.\n    """\n    <|>\n', True),
        ("def f():\n    # why\n    <|>\n", True),
        ("def f():  # why\n    <|>\n", True),
        ("class A:\n    <|>\n", True),
        ("class A:\n    def f(self):\n        <|>\n\n    def g(self):\n        pass\n", True),
        ("if x:\n    <|>\nelse:\n    pass\n", True),
        ("for x in y:\n    <|>\n", True),
        ("try:\n    <|>\nexcept E:\n    pass\n", True),
        ("x = {\n    'a':\n    <|>\n}\n", False),
        ("x = f(lambda:\n    <|>\n)\n", False),
        ("def f():\n    x<|>\n", False),
        ("def f():\n    <|>x\n", False),
        ("'''\ndef f():\n    <|>\n'''\n", False),
        ("def f(): pass\n<|>\n", False),
        ("\tdef f():\n\t\t<|>\n", True),
        ("é = '漢'\ndef f():\n    <|>\n", True),
        ("<|>", False),
    ],
)
def test_an_empty_block_in_python(document: str, is_empty: bool) -> None:
    assert is_empty_block(cursor_in(document)) == is_empty


@pytest.mark.parametrize(
    ("document", "is_empty"),
    [
        ("function f() {\n  <|>\n}\n", True),
        ("const f = () => {\n  <|>\n};\n", True),
        ("class A {\n  <|>\n}\n", True),
        ("interface A {\n  <|>\n}\n", True),
        ("if (x) {\n  <|>\n} else {\n  y();\n}\n", True),
        ("describe('a', () => {\n  <|>\n});\n", True),
        ("function f() {\n  // why\n  <|>\n}\n", True),
        ("function f() {\n  g();\n  <|>\n}\n", False),
        ("function f() {\n  <|>\n  g();\n}\n", False),
        ("const x = {\n  <|>\n};\n", False),
        ("function f() {<|>}\n", False),
        ("`\nfunction f() {\n<|>\n}`\n", False),
    ],
)
@pytest.mark.parametrize("language", ["typescript", "typescriptreact"])
def test_an_empty_block_between_braces(document: str, is_empty: bool, language: str) -> None:
    assert is_empty_block(cursor_in(document, language)) == is_empty


def test_javascript_has_blocks_too() -> None:
    assert is_empty_block(cursor_in("function f() {\n  <|>\n}\n", "javascript"))


def test_without_a_grammar_there_is_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("x", language_for("ruby")) is None
    assert not is_empty_block(cursor_in("def f\n  <|>\nend\n", "ruby"))
    monkeypatch.setattr(syntax, "_grammar", lambda name: None)
    assert parse("x = 1", PYTHON) is None
    assert n_errors("x = 1", PYTHON) is None
    assert not is_empty_block(cursor_in("def f():\n    <|>\n"))


def test_a_missing_wheel_is_no_error() -> None:
    assert syntax._grammar("tree_sitter_of_no_language:language") is None


def test_offsets_count_characters_not_bytes() -> None:
    choose = random.Random(5)
    for _ in range(50):
        text = "".join(choose.choice("aé漢𝒳\n= ('") for _ in range(40))
        tree = parse(text, PYTHON)
        assert tree is not None
        for node in walk(tree.root):
            assert tree.source(node).encode() == node.text
            assert text[tree.start(node) : tree.end(node)] == tree.source(node)
            if node.child_count == 0 and node.end_byte > node.start_byte:
                assert tree.node_at(tree.start(node)).start_byte <= node.start_byte < node.end_byte


@pytest.mark.parametrize("text", ["\ud800x = 1", "x = '\x00'", "\ufeffx = 1", "\x0cx = 1", "(" * 3000, ""])
def test_any_text_has_a_tree(text: str) -> None:
    tree = parse(text, PYTHON)
    assert tree is not None
    assert tree.end(tree.root) <= len(text)
    assert definitions(tree, PYTHON)[0].kind == "module"


def test_a_long_text_is_parsed_around_the_place_asked_for() -> None:
    text = "".join(f"def function_{i}():\n    return {i}\n" for i in range(20_000))
    offset = text.index("function_15000")
    tree = parse(text, PYTHON, offset)
    assert tree is not None
    assert n_errors(tree.window, PYTHON) == 0
    found = definitions(tree, PYTHON)
    assert enclosing_definition(found, offset).name == "function_15000"  # type: ignore[union-attr]
    assert all(text[d.name_start : d.name_end] == d.name for d in found[1:])


def test_parsing_gives_up_in_time() -> None:
    assert parse("{[(<" * 40_000, TYPESCRIPT, limit_ms=1) is None


@pytest.mark.parametrize(
    ("source", "is_valid"),
    [
        ("x = 1", True),
        ("x = ", False),
        ("return 1", False),
        ("x = '\ud800'", True),
        ("\ufeffx = 1", True),
        ("x = 1\x00", False),
        ("(" * 1000, False),
        ("-" * 50_000 + "1", False),
        ("'\\d' is 1", True),  # a warning is none of our business
    ],
)
def test_what_the_compiler_takes(source: str, is_valid: bool, recwarn: pytest.WarningsRecorder) -> None:
    assert compiles(source) == is_valid
    assert not recwarn.list


SOURCE = '''"""The file."""
import os

#: The limit.
LIMIT = 3


# é Adds.
# noqa
@cache
def add(a,
        b=1,  # the second
        *, c: int = 2,
) -> int:
    """Sum of 漢.

    More.
    """
    total = a + b

    def inner():
        return total
    return inner()


class Point(Base):
    x: int = 0

    # Moves it.
    async def move(self):
        return self.twice(LIMIT)

    @property
    def twice(self, n):
        "Twice."
        return Point.move(n)


if True:
    def on_condition(): ...
'''


def python_definitions() -> dict[str, Definition]:
    tree = parse(SOURCE, PYTHON)
    assert tree is not None
    return {d.qualified_name: d for d in definitions(tree, PYTHON)}


def test_definitions_of_a_python_file() -> None:
    found = python_definitions()
    assert {name: d.kind for name, d in found.items()} == {
        "": "module",
        "LIMIT": "constant",
        "add": "function",
        "add.inner": "function",
        "Point": "class",
        "Point.x": "constant",
        "Point.move": "method",
        "Point.twice": "method",
        "on_condition": "function",
    }
    assert found["add"].signature == "def add(a, b=1, *, c: int = 2) -> int"
    assert found["Point"].signature == "class Point(Base)"
    assert found["Point.move"].signature == "async def move(self)"
    assert found["LIMIT"].signature == "LIMIT = 3"
    assert {name: d.documentation for name, d in found.items() if d.documentation} == {
        "": "The file.",
        "LIMIT": "The limit.",
        "add": "Sum of 漢.\n\nMore.",
        "Point.move": "Moves it.",
        "Point.twice": "Twice.",
    }
    for definition in found.values():
        assert SOURCE[definition.name_start : definition.name_end] == definition.name
    add = found["add"]
    assert SOURCE[add.start : add.end].startswith("@cache\ndef add(")
    assert SOURCE[add.start : add.end].endswith("return inner()")
    assert add.docstring_range is not None
    assert SOURCE[slice(*add.docstring_range)].startswith('"""Sum of 漢.')


@pytest.mark.parametrize(
    ("at", "name", "dotted", "refers_to"),
    [
        ("total = a", "total", "total", None),  # a local name
        ("inner()\n\n\nclass", "inner", "inner", "add.inner"),
        ("LIMIT)", "LIMIT", "LIMIT", "LIMIT"),
        ("twice(LIMIT", "twice", "self.twice", "Point.twice"),
        ("move(n)", "move", "Point.move", "Point.move"),
        ("Point.move", "Point", "Point", "Point"),
        ("add(a,", "add", "add", "add"),
        ("True", None, None, None),
        ("Sum of", None, None, None),  # in a string
        ("Moves it", None, None, None),  # in a comment
    ],
)
def test_the_name_under_the_cursor(at: str, name: str | None, dotted: str | None, refers_to: str | None) -> None:
    tree = parse(SOURCE, PYTHON)
    assert tree is not None
    offset = SOURCE.index(at)
    identifier = identifier_at(tree, offset)
    assert (identifier.name if identifier else None) == name
    if identifier:
        assert (identifier.dotted, SOURCE[identifier.start : identifier.end]) == (dotted, name)
        assert identifier_at(tree, identifier.end) == identifier  # right behind it, too
        found = find_definition(definitions(tree, PYTHON), identifier, offset)
        assert (found.qualified_name if found else None) == refers_to


def test_the_definition_around_a_place() -> None:
    found = tuple(python_definitions().values())
    for at, name in (("total\n    return", "add.inner"), ("x: int", "Point"), ("LIMIT = 3", None)):
        around = enclosing_definition(found, SOURCE.index(at))
        assert (around.qualified_name if around else None) == name


def test_definitions_of_a_typescript_file() -> None:
    source = """/** Adds.
 * And more.
 */
export function add(a: number, b: number): number { return a + b; }
// Subtracts.
export const sub = (a: number): number => { return -a; };
const K = { a: 1 };
export default class P<T> extends Q {
  x = 1;
  private f = () => 1;
  /** Goes. */
  go(to: string): void { const z = 1; this.f(); }
}
interface I { m(x: number): string }
type U = "a" | "b";
enum E { A }
namespace N { export function q() {} }
"""
    tree = parse(source, TYPESCRIPT)
    assert tree is not None
    found = definitions(tree, TYPESCRIPT)
    assert [(d.qualified_name, d.kind, d.signature, d.documentation) for d in found[1:]] == [
        ("add", "function", "export function add(a: number, b: number): number", "Adds.\nAnd more."),
        ("sub", "function", "export const sub = (a: number): number", "Subtracts."),
        ("K", "constant", "const K = { a: 1 }", ""),
        ("P", "class", "export default class P<T> extends Q", ""),
        ("P.x", "constant", "x = 1", ""),
        ("P.f", "method", "private f = ()", ""),
        ("P.go", "method", "go(to: string): void", "Goes."),
        ("I", "type", "interface I", ""),
        ("I.m", "method", "m(x: number): string", ""),
        ("U", "type", 'type U = "a" | "b"', ""),
        ("E", "type", "enum E", ""),
        ("N", "module", "namespace N", ""),
        ("N.q", "function", "export function q()", ""),
    ]
    used = identifier_at(tree, source.index("f();"))
    assert used is not None
    assert find_definition(found, used, used.start).qualified_name == "P.f"  # type: ignore[union-attr]


def test_a_broken_file_still_tells_what_can_be_read() -> None:
    tree = parse("def f(a):\n    return a\n\ndef g(:\n    x = (\n\nclass A:\n    def h(self): ...\n", PYTHON)
    assert tree is not None
    assert "f" in {d.name for d in definitions(tree, PYTHON)}
