"""The cases of the quality table: which files are held out, which cursors are drawn, and that both never change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.heldout import SourceFile
from tests.bench.quality import explaining
from tests.bench.quality.cases import KINDS, Case, count, draw
from tests.bench.quality.reading import python_names, read, typescript_names
from tests.bench.quality.repository import HELD_OUT_SHARE, Repository, is_held_out, prepare
from tests.bench.repositories import Package

PACKAGE = Package("python", "demo", "1.0", "0" * 64, "src/demo")


def repository(text: str, *others: str, path: str = "demo/a.py", language_id: str = "python") -> Repository:
    """A repository with one held-out file."""
    on_disk = tuple(SourceFile(f"demo/other{at}.py", "python", other) for at, other in enumerate(others))
    return Repository("demo", Path("/nowhere/demo"), on_disk, (SourceFile(path, language_id, text),))


def drawn(text: str, *others: str, own: frozenset[str] = frozenset(), **place: str) -> list[tuple[str, str, str]]:
    """Kind, last line before the cursor and target of every case."""
    found = draw(repository(text, *others, **place), 100, own)
    return [(case.kind, case.before.rpartition("\n")[2], case.target) for case in found]


def test_held_out_files_are_not_on_disk_and_all_others_are(tmp_path: Path) -> None:
    sources = tmp_path / "src" / "demo"
    sources.mkdir(parents=True)
    for at in range(40):
        (sources / f"m{at}.py").write_text(f"x = {at}\n")
    found = prepare(PACKAGE, sources, tmp_path / "out")
    on_disk = {path.relative_to(found.root).as_posix() for path in found.root.rglob("*.py")}
    assert on_disk == {file.path for file in found.on_disk}
    assert on_disk | {file.path for file in found.held_out} == {f"demo/m{at}.py" for at in range(40)}
    assert not on_disk & {file.path for file in found.held_out}
    assert found.held_out
    assert all(is_held_out("demo", file.path) for file in found.held_out)
    assert found.uri("demo/m1.py") == (tmp_path / "out/demo/demo/m1.py").as_uri()


def test_about_the_wanted_share_is_held_out() -> None:
    n = sum(is_held_out("demo", f"demo/m{at}.py") for at in range(4000))
    assert abs(n / 4000 - HELD_OUT_SHARE) < 0.02


@pytest.mark.parametrize("name, content", [
    ("tests/test_a.py", b"x = 1\n"),
    ("data/conf.py", b"x = 1\n"),
    ("a_pb2.py", b"x = 1\n"),
    ("a.d.ts", b"x = 1\n"),
    ("a.txt", b"x = 1\n"),
    ("latin.py", b"x = '\xe9'\n"),
    ("windows.py", b"x = 1\r\n"),
])  # fmt: skip
def test_what_is_not_the_librarys_own_text_is_left_out(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "src" / "demo" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    found = prepare(PACKAGE, tmp_path / "src" / "demo", tmp_path / "out")
    assert not found.on_disk + found.held_out


def test_a_line_is_asked_for_behind_its_indentation() -> None:
    text = (
        "# a comment line\nimport module\nfrom a import (\n    something,\n)\nif x:\n    total += 1\n    x\n"
        + f"{'y' * 161}\n"
    )
    assert [each for each in drawn(text) if each[0] == "next_line"] == [("next_line", "    ", "total += 1")]


def test_a_cut_is_behind_a_point_a_bracket_an_equals_sign_or_a_blank_of_the_code() -> None:
    cuts = [each for each in drawn("total=add(first.value)  # some more. words\n") if each[0] == "mid_line"]
    assert len(cuts) == 1
    _, before, target = cuts[0]
    assert before in ("total=", "total=add(", "total=add(first.")
    assert before + target == "total=add(first.value)  # some more. words"


def test_an_api_line_is_about_a_name_that_only_other_files_have() -> None:
    others = "def set_volume(player):\n    return len(player.queue)\n"
    text = "known = 1\ncall(known, queue, set_volume(player))\nreturn set(queue)\nprint(player_one)\n"
    assert [each for each in drawn(text, others) if each[0] == "api_line"] == [
        ("api_line", "call(known, queue, ", "set_volume(player))")
    ]


def test_names_in_comments_texts_and_the_languages_own_library_make_no_api_line() -> None:
    others = "volume = 1\nloudness = 2\nenumerate = 3\n"
    assert not [each for each in drawn("x = 'volume'  # loudness\n", others) if each[0] == "api_line"]
    own = frozenset(["enumerate"])
    assert not [each for each in drawn("for x in enumerate(y):\n", others, own=own) if each[0] == "api_line"]


def test_typescript_has_cases_too() -> None:
    text = "import { x } from './x';\nexport { z } from './z';\n/* a\n * comment\n */\nconst total = add(1, 2);\n"
    found = [each for each in drawn(text, path="demo/a.ts", language_id="typescript") if each[0] == "next_line"]
    assert found == [("next_line", "", "const total = add(1, 2);")]


def test_a_case_is_the_file_without_the_rest_of_its_line() -> None:
    (case,) = (
        each
        for each in draw(repository("ä = 'é'\nfirst = second\n"), 100, frozenset())
        if each.kind == "mid_line" and each.line == 2
    )
    assert case.document == "ä = 'é'\n" + case.before.rpartition("\n")[2] + "\n"
    assert case.before + case.target + case.after == "ä = 'é'\nfirst = second\n"
    assert case.id == "demo/mid_line/demo/a.py:2"


def test_cases_are_the_same_twice_and_a_small_draw_is_part_of_a_large_one() -> None:
    text = "".join(f"name{at} = call{at}(argument.attribute{at})\n" for at in range(200))
    many, again, few = (draw(repository(text), n, frozenset()) for n in (50, 50, 5))
    assert many == again
    assert set(few) < set(many)
    assert [count(many, kind) for kind in KINDS] == [50, 50, 0]
    # Drawn by hash, so they stay when other lines change.
    assert draw(repository(text), 200, frozenset())[0].line == 1


def test_places_behind_characters_of_several_bytes_are_found() -> None:
    assert read("x = 'ä😀'  # é\ny = x\n", "python").names == ((0, "x"), (14, "y"), (18, "x"))


def test_the_languages_own_names_are_known(tmp_path: Path) -> None:
    assert {"enumerate", "splitlines", "Path", "setdefault"} <= python_names()
    assert "set_volume" not in python_names()
    (tmp_path / "lib.dom.d.ts").write_text(
        "/** About words */\ninterface Element { getAttribute(): string; } // more\n"
    )
    assert typescript_names(tmp_path) == {"interface", "Element", "getAttribute", "string"}


FUNCTION = '''
class Player:
    @property
    async def volume_level(self, name):
        """Return how loud the player is.

        More about it.
        """
        return self.level

    def only(self):
        """Has nothing else in it."""

    def short(self): """Is on one line only."""; return 1
'''


def test_a_function_is_explained_without_its_docstring() -> None:
    (function,) = explaining.draw(repository(FUNCTION), 10)
    assert function.expected == "Return how loud the player is."
    assert "loud" not in function.document
    assert function.document[function.offset :].startswith("volume_level(self")
    assert function.document.count("\n") == FUNCTION.count("\n") - 4
    assert function.source.startswith("    async def volume_level") and "return self.level" in function.source


def test_case_names_are_unique() -> None:
    found: list[Case] = draw(repository("a = b.c(d)\n" * 20), 100, frozenset())
    assert len({case.id for case in found}) == len(found)
