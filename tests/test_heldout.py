"""What a base model is judged by: drawn by hash, from all packages in turn."""

from __future__ import annotations

import pytest

from finetune.pretrain.heldout import (
    CUT_BEHIND,
    MAX_FILE_BYTES,
    heldout_packages,
    judged_files,
    judged_functions,
    judged_line_ends,
    judged_lines,
    share_of,
)
from finetune.pretrain.samples import SourceFile

CODE = '''"""A module of some use to all."""
import os

# A comment that says little.
x = 1
text = """
not a line of code
"""


def find_all(names, folder):
    """Return the names that are in a folder."""
    return [name for name in names if name in folder]
'''


def file_of(package: str, number: int, text: str = CODE) -> SourceFile:
    return SourceFile(package, f"{package}/m{number}.py", text)


PACKAGES = [
    [file_of("big", number) for number in range(9)],
    [file_of("small", 0)],
    [file_of("mid", n) for n in range(3)],
]


def test_packages_take_turns_until_there_is_enough():
    size = len(CODE)
    files = judged_files(PACKAGES, 6 * size)
    assert [file.path for file in files] == [
        "big/m0.py", "small/m0.py", "mid/m0.py", "big/m1.py", "mid/m1.py", "big/m2.py"
    ]  # fmt: skip
    assert all(file.text == CODE for file in files)


@pytest.mark.parametrize("n_bytes", [60, 500, 1_000, 5_000])
def test_the_amount_is_kept_and_files_are_cut_at_line_ends(n_bytes):
    files = judged_files(PACKAGES, n_bytes)
    total = sum(len(file.text) for file in files)
    assert n_bytes - 60 <= total <= n_bytes or len(files) == 13
    assert all(file.text.endswith("\n") for file in files)


def test_a_long_file_gives_its_head():
    (head,) = judged_files([[file_of("big", 0, "x = 1\n" * 10_000)]], 10**6)
    assert MAX_FILE_BYTES - 6 < len(head.text) <= MAX_FILE_BYTES


def test_lines_are_code_without_their_indentation():
    for line in judged_lines([[file_of("pkg", number)] for number in range(40)], 40):
        text = line.file.text[line.start : line.end]
        assert text in {
            "import os",
            "x = 1",
            "def find_all(names, folder):",
            '"""Return the names that are in a folder."""',
            "return [name for name in names if name in folder]",
        }
        assert line.file.text[line.end] == "\n"


def test_ends_of_lines_start_behind_a_place_where_people_look_up():
    ends = judged_line_ends([[file_of("pkg", number)] for number in range(60)], 60)
    assert len(ends) == 60
    assert {" ", "="} <= {end.file.text[end.start - 1] for end in ends} <= CUT_BEHIND
    for end in ends:
        assert end.file.text[end.end] == "\n"
        assert end.file.text[end.start : end.end].strip()
        assert end.file.text[: end.start].split("\n")[-1].strip(), "something of the line is there"
    assert len({end.start for end in ends}) > 8


def test_a_line_without_such_a_place_is_not_cut():
    files = [file_of("pkg", 0, "import os\nimport_all\nname[0]\nx = a.b\n")]
    (end,) = judged_line_ends([files], 9)
    assert end.file.text[: end.start].split("\n")[-1] in {"x ", "x =", "x = ", "x = a."}
    assert judged_line_ends([[file_of("pkg", 0, "import os\nimport_all\n")]], 9) == []


def test_every_kind_of_line_is_drawn():
    lines = judged_lines([[file_of("pkg", number)] for number in range(40)], 40)
    assert len({line.start for line in lines}) == 5


def test_a_file_gives_one_line_and_one_function():
    assert len(judged_lines(PACKAGES, 99)) == 13
    functions = judged_functions(PACKAGES, 99)
    assert len(functions) == 13
    assert {function.name for function in functions} == {"find_all"}
    assert len(judged_functions(PACKAGES, 4)) == 4


def test_files_that_do_not_parse_are_passed_over():
    assert judged_lines([[file_of("pkg", 0, "def f(:\n    pass\n")]], 9) == []


def test_the_same_corpus_gives_the_same_draw(tmp_path):
    from test_rows import write_split

    files = [file for package in PACKAGES for file in package]
    write_split(tmp_path, "heldout", files)
    packages = heldout_packages(tmp_path)
    write_split(tmp_path, "heldout", files[::-1])
    assert heldout_packages(tmp_path) == packages
    assert sorted(file.path for package in packages for file in package) == sorted(file.path for file in files)


def test_shares_are_even():
    shares = sorted(share_of(file_of("pkg", number)) for number in range(1_000))
    assert all(abs(share - rank / 1_000) < 0.06 for rank, share in enumerate(shares))
