"""The judge of items: what it calls a repetition and a new syntax error. Items are drawn between ⟦ and ⟧."""

from __future__ import annotations

import re

import pytest

from tests.bench.checker import Judgement, judge, n_errors


def judged(drawn: str, language_id: str = "python") -> Judgement:
    match = re.fullmatch("(.*)⟦(.*)⟧(.*)", drawn, re.DOTALL)
    assert match is not None
    before, item, after = match.groups()
    return judge(before, item, after, language_id)


@pytest.mark.parametrize("drawn", [
    "x = f(⟦a, b⟧, b)\n",
    "x = ⟦self.name⟧.name\n",
    "x = [⟦each for each in y⟧ for each in y]\n",
    "# ⟦the name of⟧ the name of a file\n",
    "# ⟦nothing but the name⟧ the name\n",
    "⟦a = 1⟧\na = 1\n",
    "a ⟦= 1⟧\n\na = 1\n",
    "def f():\n    ⟦a = 1\n    b = 2⟧\n    b = 2\n",
    "x = 'say ⟦hello⟧ hello'\n",
])  # fmt: skip
def test_what_follows_is_not_to_be_said_again(drawn: str) -> None:
    assert judged(drawn).repeats


@pytest.mark.parametrize("drawn", [
    "x = f(⟦g()⟧)\n",
    "x = f(⟦a⟧, b)\n",
    "print(⟦name⟧)\nprint(other)\n",
    "x = ⟦rename⟧.me\n",  # ends like what follows, but inside a word
    "x = ⟦a⟧\n    \n\n",
    "if a:\n    ⟦return x⟧\nreturn x\n",  # another block
    "f(\n    ⟦a⟧\n)\n)\n",
    "x = (1, ⟦2⟧, 22)\n",
])  # fmt: skip
def test_brackets_parts_of_words_and_other_lines_are_no_repetition(drawn: str) -> None:
    assert not judged(drawn).repeats


@pytest.mark.parametrize("drawn", [
    "x = ⟦1⟧\n",
    "x = f(⟦a, b⟧)\n",
    "if a⟦ and b:⟧\nx = 1\n",  # the body is to follow
    "⟦try:⟧\nx = 1\n",
    "⟦match x:⟧\n",
    "class A:\n    ⟦@property⟧\n",
    "def f():\n    ⟦a = 1\n    return a⟧\n\n\ny = 2\n",
    "def f(\n    a,\n    ⟦b,⟧\n):\n    pass\n",
    '"""Some ⟦text (⟧\n"""\n',
    "broken(\nx = ⟦1⟧\n",  # was broken elsewhere, and is no more so
    "class A:\n    ⟦def f(self):⟧\n        return 1\n",  # its body stands there already
])  # fmt: skip
def test_what_fits_adds_no_error(drawn: str) -> None:
    assert judged(drawn) == Judgement()


@pytest.mark.parametrize("drawn", [
    "x = ⟦f(⟧\n",
    "x = f(⟦a)⟧)\n",
    "x = ⟦'abc⟧\n",
    "x = ⟦a b⟧\n",
    "⟦    x = 1⟧\ny = 2\n",
    "def f():\n    ⟦x = 1\n  y = 2⟧\n",
    "⟦return 1⟧\n",  # the compiler knows more than the grammar
    "x = 1⟦ +⟧\n",
    "def f(self, ⟦url str⟧)\n\nb = 1\n",
    "⟦def f(self)⟧\n\nb = 1\n",  # sound before
    "def play⟦_media(⟧\n\nb = 1\n",
    "f(\n    a,\n    ⟦b⟧\n    c,\n)\n",  # sound before, and now a comma is missing
    "class :\n    pass\n\n\nx = 1⟦ 2 + = 3⟧\n",  # broken elsewhere, and now here too
])  # fmt: skip
def test_what_does_not_fit_adds_an_error(drawn: str) -> None:
    assert judged(drawn).breaks


@pytest.mark.parametrize("drawn", [
    "if a:\n    pass\nelif ⟦b⟧\n    pass\n",
    "if a:\n    ⟦# nothing to do⟧\nb = 1\n",
    "def f(self, ⟦url: str⟧)\n\nb = 1\n",  # a header without its colon and body
    "class A:\n    def f(\n        self,\n        ⟦url: str,⟧)\n\n    def g(self): ...\n",
    "def play⟦_media⟧\n\nb = 1\n",
])  # fmt: skip
def test_what_only_lacks_its_end_is_told_apart(drawn: str) -> None:
    assert judged(drawn) == Judgement(is_unfinished=True)


@pytest.mark.parametrize("drawn, sound", [
    ("const a = ⟦f(1);⟧\n", True),
    ("if (a) ⟦{⟧\nconst b = 1;\n", True),
    ("items.forEach((item) => ⟦{⟧\n", True),
    ("class A {\n  ⟦next() { return 1; }⟧\n}\n", True),
    ("const a = ⟦f(1;⟧\n", False),
    ("const a = f(⟦1)⟧);\n", False),
    ("const a: ⟦number⟧ = 1;\n", True),
    ("let y = ⟦a +⟧\n\nlet z = 1;\n", False),
    ("class A {\n  next(⟦a: string⟧)\n}\n", True),
    ("switch (⟦a⟧)\n\nlet z = 1;\n", True),
])  # fmt: skip
def test_typescript_is_judged_by_its_grammar(drawn: str, sound: bool) -> None:
    assert judged(drawn, "typescript").is_sound is sound


def test_errors_are_counted() -> None:
    assert n_errors("x = 1\n", "python") == 0
    assert n_errors("x = (1\n", "python") == 1
    assert n_errors("let a = ;\nlet b = ;\n", "typescript") == 2
