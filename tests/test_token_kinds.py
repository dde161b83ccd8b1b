"""What each byte of a Python text is part of, drawn below the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.pretrain.token_kinds import KINDS, byte_kinds

LETTERS = dict(zip(KINDS, "knod'\"#.", strict=True))


def drawn(text: str) -> str:
    kinds = byte_kinds(text)
    assert kinds is not None
    return "".join(LETTERS[KINDS[kind]] for kind in kinds)


@pytest.mark.parametrize("text, kinds", [
    ("x = 12\n", "n.o.dd."),
    ("if x:\n    pass\n", "kk.no.....kkkk."),
    ("return None\n", "kkkkkk.kkkk."),
    ("'doc'\nx = 'a'\n", '"""""' + ".n.o.'''."),
    ("def f():\n  'd'\n  'e'.x\n", "kkk.nooo..." + '"""' + "...'''on."),
    ("f('a')\n", "no'''o."),
    ("x = (\n  'a'\n)\n", "n.o.o...'''.o."),
    ("# c\n'd'  # e\n", "###." + '"""' + "..###."),
    ("x = f'{y}'\n", "n.o.''''''."),
    ("x = \\\n 1\n", "n.o....d."),
    ('x = """a\nb"""\n', "n.o." + "'" * 9 + "."),
    ("é = 'ü'\n", "nn.o.''''."),
    ("x", "n"),
    ("", ""),
])  # fmt: skip
def test_each_byte_has_its_kind(text, kinds):
    assert drawn(text) == kinds


@pytest.mark.parametrize("text", ["x = (\n", "x = '''\n", "if x:\n    y\n  z\n"])
def test_what_python_cannot_cut_has_no_kinds(text):
    assert byte_kinds(text) is None


@given(st.text(alphabet="ab '\"#\n(){}:.=1é𝛼\t\\", max_size=40))
def test_there_is_one_kind_for_each_byte(text):
    kinds = byte_kinds(text)
    assert kinds is None or len(kinds) == len(text.encode())
