"""Which files of a repository are read, each drop with its reason, and what is left of a text."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from server.repository import files, listing, single_paths
from server.repository.files import (
    CleanFile,
    Rule,
    clean_text,
    list_files,
    name_reason,
    outdated,
    read_text,
    without_duplicates,
)
from server.repository.listing import Drop, Names, git_names, walked_names
from server.repository.single_paths import passed_over, still_told

RULE = Rule(frozenset({".py", ".md", ".json", ".js"}))
CODE = "def add(first, second):\n    return first + second\n"

Tree = Callable[..., Path]


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """`tree({"a.py": text}, repository=True)`: a root with these files."""

    def make(contents: dict[str, str | bytes], *, repository: bool = False) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for name, content in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        if repository:
            git(root, "init", "-q")
        return root

    return make


def kept(root: Path, rule: Rule = RULE) -> list[str]:
    return [file.path for file in list_files(root, rule).files]


def drops(root: Path, rule: Rule = RULE) -> dict[str, str]:
    return {drop.path: drop.reason for drop in list_files(root, rule).drops}


both = pytest.mark.parametrize("repository", [True, False], ids=["git", "walk"])


@both
def test_ignored_files_are_left_out_by_the_innermost_file_that_names_them(tree: Tree, repository: bool) -> None:
    root = tree(
        {
            ".gitignore": "*_out.py\n/build/\nlogs/*\n# comment\n",
            "a.py": CODE,
            "a_out.py": CODE,
            "build/b.py": CODE,
            "deep/build/c.py": CODE,
            "deep/.gitignore": "!kept_out.py\nsecret.py\n",
            "deep/kept_out.py": CODE,
            "deep/secret.py": CODE,
            "deep/er/secret.py": CODE,
            "logs/d.py": CODE,
            "secret.py": CODE,
        },
        repository=repository,
    )
    assert kept(root) == ["a.py", "deep/build/c.py", "deep/kept_out.py", "secret.py"]


@both
def test_what_tools_made_is_left_out_even_if_nobody_ignores_it(tree: Tree, repository: bool) -> None:
    inner = ["node_modules/x/a.js", "odd_name/lib/python3/a.py", "app/__pycache__/a.py", ".tox/a.py"]
    root = tree(
        dict.fromkeys(["a.py", *inner], CODE) | {"odd_name/pyvenv.cfg": "home = /x\n"},
        repository=repository,
    )
    assert kept(root) == ["a.py"]
    assert set(drops(root).values()) == {"environment or cache"}


@both
def test_each_file_left_out_has_its_reason(tree: Tree, repository: bool) -> None:
    root = tree(
        {
            "a.py": CODE,
            "a.bin": b"\0",
            "generated/b.py": CODE,
            ".env": "KEY=1",
            "certs/server.key": "x",
            "secrets.json": "{}",
            "vendor/c.py": CODE,
            "d_pb2.py": CODE,
            "e.min.js": CODE,
            "big.py": b"#" * 200_001,
        },
        repository=repository,
    )
    rule = Rule(RULE.suffixes | {".key", ".env"}, ("generated/**",))
    assert kept(root, rule) == ["a.py"]
    assert drops(root, rule) == {
        "a.bin": "unsupported",
        "generated/b.py": "excluded",
        ".env": "unsupported",  # its name has no suffix
        "certs/server.key": "secret file",
        "secrets.json": "secret file",
        "vendor/c.py": "vendored",
        "d_pb2.py": "generated",
        "e.min.js": "generated",
        "big.py": "too large",
    }


@both
def test_no_link_is_followed(tree: Tree, tmp_path: Path, repository: bool) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "private.py").write_text(CODE)
    root = tree({"a.py": CODE, "inner/b.py": CODE}, repository=repository)
    (root / "file.py").symlink_to(tmp_path / "outside" / "private.py")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "inner" / "loop").symlink_to(root)
    (root / "self.py").symlink_to("self.py")
    assert kept(root) == ["a.py", "inner/b.py"]
    assert drops(root)["file.py"] == drops(root)["self.py"] == "link"
    assert read_text(root, "file.py", RULE) == Drop("file.py", "unreadable")


def test_a_tracked_folder_that_became_a_link_is_not_followed(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.py").write_text(CODE)
    root = tree({"a.py": CODE, "inner/b.py": CODE}, repository=True)
    git(root, "add", ".")
    (root / "inner" / "b.py").unlink()
    (root / "inner").rmdir()
    (root / "inner").symlink_to(tmp_path / "outside")
    assert kept(root) == ["a.py"]
    assert drops(root)["inner/b.py"] == "link"


def test_git_lists_what_is_tracked_or_new_but_not_what_is_gone(tree: Tree) -> None:
    root = tree({"tracked.py": CODE, "gone.py": CODE, "größe.py": CODE, ".github/x.py": CODE}, repository=True)
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    (root / "gone.py").unlink()
    (root / "new.py").write_text(CODE)
    assert kept(root) == [".github/x.py", "größe.py", "new.py", "tracked.py"]
    assert drops(root) == {"gone.py": "missing"}


def test_submodules_and_nested_repositories_are_left_out(tree: Tree, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "c.py").write_text(CODE)
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "x")):
        git(other, *arguments)
    root = tree({"a.py": CODE}, repository=True)
    git(root, "submodule", "add", "-q", str(other), "sub")
    git(tmp_path, "clone", "-q", str(other), str(root / "nested"))
    assert kept(root) == ["a.py"]
    assert drops(root)["nested/"] == "nested repository"


def test_a_folder_of_a_work_tree_is_listed_from_there(tree: Tree) -> None:
    root = tree({"a.py": CODE, "inner/b.py": CODE, ".gitignore": "c.py\n", "inner/c.py": CODE}, repository=True)
    assert kept(root / "inner") == ["b.py"]


def test_a_folder_that_the_repository_around_it_ignores_is_walked(tree: Tree) -> None:
    root = tree({".gitignore": "*\n", "inner/b.py": CODE}, repository=True)
    assert kept(root / "inner") == ["b.py"]
    assert kept(root) == []


def test_a_repository_cannot_make_git_run_anything(tree: Tree, tmp_path: Path) -> None:
    root = tree({"a.py": CODE}, repository=True)
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git(root, "config", "core.fsmonitor", str(hook))
    assert kept(root) == ["a.py"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("error", [FileNotFoundError, subprocess.TimeoutExpired("git", 1)])
def test_without_git_a_walk_does(tree: Tree, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    root = tree({"a.py": CODE, ".gitignore": "b.py\n", "b.py": CODE}, repository=True)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(listing.subprocess, "run", fail)
    assert git_names(root) is None
    assert kept(root) == ["a.py"]


def test_a_hidden_folder_is_not_walked(tree: Tree) -> None:
    root = tree({"a.py": CODE, ".hidden/b.py": CODE, ".c.py": CODE})
    assert kept(root) == [".c.py", "a.py"]
    assert drops(root) == {".hidden/": "hidden"}


def test_a_pattern_that_is_none_spoils_only_its_line(tree: Tree) -> None:
    root = tree({".gitignore": "!\n/\n[\nb.py\n", "a.py": CODE, "b.py": CODE})
    assert kept(root) == ["a.py"]


def test_a_folder_that_cannot_be_read_is_passed_over(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({"a.py": CODE, "closed/b.py": CODE})
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    assert kept(root) == ["a.py"]
    assert drops(root) == {"closed/": "unreadable"}


def test_of_too_many_files_the_deepest_are_not_looked_at(tree: Tree) -> None:
    root = tree({"a/b/c.py": CODE, "z.py": CODE, "a/b.py": CODE})
    found = list_files(root, RULE, max_files=2)
    assert [file.path for file in found.files] == ["a/b.py", "z.py"]
    assert found.drops == (Drop("a/b/c.py", "beyond the limit"),)
    assert not found.is_whole and found.limit == "files"
    assert list_files(root, RULE, max_files=3).is_whole


def test_a_walk_ends_after_so_many_names(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({f"{number}/{number}.txt": "" for number in range(20)})
    names = walked_names(root, max_names=5)
    assert len(names.paths) == 5 and not names.is_whole
    assert walked_names(root).is_whole
    monkeypatch.setattr(files, "names_in", lambda root: names)
    assert list_files(root, RULE).limit == "names"


def test_many_files_are_looked_at_once_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    n_files = 20_000
    looked: list[str] = []

    def look(root: Path, path: str, *_: object) -> files.File:
        looked.append(path)
        return files.File(path, 1, 1)

    names = tuple(f"package_{number % 50}/module_{number}.py" for number in range(n_files))
    monkeypatch.setattr(files, "names_in", lambda root: Names(names, ()))
    monkeypatch.setattr(files, "_look", look)
    assert len(list_files(tmp_path, RULE).files) == len(looked) == n_files


# One file alone.


@both
def test_a_single_path_is_judged_as_the_whole_list_would(tree: Tree, tmp_path: Path, repository: bool) -> None:
    root = tree(
        {
            ".gitignore": "*_out.py\n/build/\n",
            "deep/.gitignore": "!kept_out.py\n",
            **dict.fromkeys(["a.py", "a_out.py", "build/b.py", "deep/kept_out.py", "deep/er/x_out.py"], CODE),
            **dict.fromkeys(["node_modules/a.js", "own/a.py", "own/pyvenv.cfg", "größe.py"], CODE),
        },
        repository=repository,
    )
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.py").write_text(CODE)
    (root / "linked").symlink_to(tmp_path / "outside")
    paths = [path.relative_to(root).as_posix() for path in root.rglob("*.*s*") if path.suffix in (".py", ".js")]
    paths += [path.relative_to(root).as_posix() for path in root.rglob("*.py")]
    assert sorted(set(paths) - passed_over(root, paths)) == kept(root)
    # What is not saved yet, and a file beyond a link.
    unsaved = ["new.py", "new_out.py", "build/new.py", "linked/b.py"]
    assert passed_over(root, unsaved) == {"new_out.py", "build/new.py", "linked/b.py"}
    assert passed_over(root, []) == frozenset()


def test_a_tracked_file_is_not_passed_over_for_being_ignored(tree: Tree) -> None:
    root = tree({".gitignore": "*.py\n", "a.py": CODE, "b.py": CODE}, repository=True)
    git(root, "add", "-f", "a.py")
    assert kept(root) == ["a.py"]
    assert passed_over(root, ["a.py", "b.py", ":(top)a.py"]) == {"b.py", ":(top)a.py"}


def test_a_single_path_in_a_folder_that_the_repository_around_it_ignores_is_judged_without_git(tree: Tree) -> None:
    root = tree({".gitignore": "*\n", "inner/b.py": CODE, "inner/.gitignore": "c.py\n"}, repository=True)
    assert passed_over(root / "inner", ["b.py", "c.py"]) == {"c.py"}
    assert passed_over(root, ["inner/b.py"]) == {"inner/b.py"}


def hide_from_git_alone(root: Path, *names: str) -> None:
    """Has git ignore names of which no `.gitignore` file tells."""
    (root / ".git" / "info" / "exclude").write_text("".join(f"{name}\n" for name in names))


@pytest.mark.parametrize("n_refused", [1, 3, 200])
def test_a_path_that_git_will_not_judge_decides_about_no_other(tree: Tree, tmp_path: Path, n_refused: int) -> None:
    root = tree({"a.py": CODE, "private.py": CODE, "deep/private.py": CODE}, repository=True)
    commit = "a" * 40
    git(root, "update-index", "--add", "--cacheinfo", f"160000,{commit},sub")  # a submodule that nobody has fetched
    hide_from_git_alone(root, "private.py")
    (tmp_path / "outside").mkdir()
    (root / "linked").symlink_to(tmp_path / "outside")
    refused = [f"{folder}/{number}.py" for folder in ("sub", "linked") for number in range(n_refused)]
    asked = ["a.py", *refused, "new.py", "private.py", "deep/private.py"]
    assert passed_over(root, asked) == {*refused, "private.py", "deep/private.py"}


def test_a_file_of_a_submodule_is_passed_over_and_judges_no_other(tree: Tree, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "c.py").write_text(CODE)
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "x")):
        git(other, *arguments)
    root = tree({"a.py": CODE, "private.py": CODE}, repository=True)
    git(root, "submodule", "add", "-q", str(other), "sub")
    hide_from_git_alone(root, "private.py")
    assert passed_over(root, ["a.py", "sub/c.py", "private.py"]) == {"sub/c.py", "private.py"}


@both
def test_of_many_files_those_are_still_told_that_the_list_tells(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, repository: bool
) -> None:
    root = tree(
        {
            ".gitignore": "*_out.py\n/build/\n",
            "deep/.gitignore": "!kept_out.py\n",
            **dict.fromkeys(["a.py", "a_out.py", "build/b.py", "deep/kept_out.py", "deep/er/x_out.py"], CODE),
            **dict.fromkeys(["node_modules/a.js", "own/a.py", "own/pyvenv.cfg", "größe.py"], CODE),
        },
        repository=repository,
    )
    (root / "linked.py").symlink_to(root / "a.py")
    paths = [path.relative_to(root).as_posix() for path in root.rglob("*.*") if path.suffix in (".py", ".js")]
    monkeypatch.setattr(single_paths, "MAX_JUDGED", 1)
    told = still_told(root, paths)
    assert told - {"linked.py"} == set(kept(root)) == {"a.py", "deep/kept_out.py", "größe.py"}
    if repository:
        hide_from_git_alone(root, "a.py")
        assert still_told(root, ["a.py", "größe.py"]) == {"größe.py"}


@both
def test_what_is_not_as_it_was_listed_is_outdated(tree: Tree, tmp_path: Path, repository: bool) -> None:
    names = ["same.py", "gone.py", "longer.py", "touched.py", "ignored.py", "linked.py", "moved/a.py", "secrets.py"]
    root = tree(dict.fromkeys(names, CODE), repository=repository)
    listed = list_files(root, RULE).files
    assert [file.path for file in listed] == sorted(names)
    assert outdated(root, listed, RULE) == frozenset()
    (root / "gone.py").unlink()
    (root / "longer.py").write_text(CODE * 2)
    os.utime(root / "touched.py", ns=(1, 1))
    (root / "linked.py").rename(tmp_path / "outside.py")
    (root / "linked.py").symlink_to(tmp_path / "outside.py")
    (root / "moved").rename(tmp_path / "moved")
    (root / "moved").symlink_to(tmp_path / "moved")
    (root / ".gitignore").write_text("ignored.py\n")
    assert outdated(root, listed, Rule(RULE.suffixes, ("secrets.py",))) == set(names) - {"same.py"}
    assert outdated(root, [], RULE) == frozenset()


@both
def test_many_files_are_outdated_for_the_same_reasons(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, repository: bool
) -> None:
    monkeypatch.setattr(single_paths, "MAX_JUDGED", 1)
    root = tree(dict.fromkeys(["same.py", "gone.py", "deep/ignored.py"], CODE), repository=repository)
    listed = list_files(root, RULE).files
    (root / "gone.py").unlink()
    (root / "deep" / ".gitignore").write_text("ignored.py\n")
    assert outdated(root, listed, RULE) == {"gone.py", "deep/ignored.py"}


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"\x7fELF\0\0", "binary"),
        (CODE.encode("utf-16"), "binary"),
        ("name = 'größe'\n".encode("latin-1"), "not UTF-8"),
        (b"", "too short"),
        (b" \n\n", "too short"),
        (b"# Generated by the protocol buffer compiler.  DO NOT EDIT!\n" + CODE.encode(), "generated"),
        (b"x=1;" * 2_000, "minified"),
        (b"x = [\n" + b"    1, 2, 3,\n" * 2_000 + b"]\n", "data-like"),
        (b"#" * 200_001, "too large"),
    ],
)
def test_a_text_is_dropped_for_what_it_is(tree: Tree, content: bytes, reason: str) -> None:
    assert read_text(tree({"a.py": content}), "a.py", RULE) == Drop("a.py", reason)


@pytest.mark.parametrize(
    "path, text",
    [
        ("a.py", "x = 1\n"),
        ("a.py", "# Grüße aus Köln: 这是注释\n"),
        ("tests/data/fixtures/a.py", CODE),
        ("a/_version.py", CODE),
        ("ui_main.py", CODE),
        ("a.py", "TABLE = [\n" + "".join(f"    {i}, {i * 7}, 0x{i:04x},\n" for i in range(80)) + "]\n"),
        ("package.json", '{"name": "x", "version": "1.0"}\n'),
        ("README.md", "One paragraph on one line, which goes on and on. " * 5 + "\n"),
        ("a.py", '"""' + "A long licence text.\n" * 100 + '"""\n# do not edit the values by hand\n' + CODE),
    ],
)
def test_the_users_own_file_stays(path: str, text: str) -> None:
    assert clean_text(path, text, RULE) == CleanFile(path, text.encode())


def test_line_ends_and_byte_order_marks_are_normalised() -> None:
    assert clean_text("a.py", "\ufeffa = 1\r\nb = 2\rc = 3\n", RULE) == CleanFile("a.py", b"a = 1\nb = 2\nc = 3\n")


def test_secret_text_is_cut(tree: Tree) -> None:
    key = "AKIA" + "QWERTYUIOPASDFGH"
    cleaned = read_text(tree({"a.py": f"KEY = '{key}'\n{CODE}"}), "a.py", RULE)
    assert cleaned == CleanFile("a.py", f"KEY = ''\n{CODE}".encode(), n_secrets=1)
    assert clean_text("a.py", f"KEY = '{key}'\n{CODE}", RULE) == cleaned


def test_an_open_document_goes_through_the_same_rule() -> None:
    assert clean_text("a/.env", "x", RULE) == Drop("a/.env", "unsupported")
    assert clean_text("secrets.json", "{}", RULE) == Drop("secrets.json", "secret file")
    assert clean_text("a.py", CODE, Rule(RULE.suffixes, ("a.py",))) == Drop("a.py", "excluded")
    assert clean_text("a.py", "a\0b", RULE) == Drop("a.py", "binary")
    assert clean_text("a.py", "x = '\ud800'\n", RULE) == CleanFile("a.py", b"x = '?'\n")


def test_a_file_that_vanished_or_cannot_be_read_is_dropped(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({"a.py": CODE, "folder.py/b.py": CODE})
    assert read_text(root, "gone.py", RULE) == Drop("gone.py", "missing")
    assert isinstance(read_text(root, "folder.py", RULE), Drop)

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(files.os, "open", refuse)
    assert read_text(root, "a.py", RULE) == Drop("a.py", "unreadable")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_nobody_waits_for_a_pipe(tree: Tree) -> None:
    root = tree({"a.py": CODE})
    os.mkfifo(root / "pipe.py")
    assert kept(root) == ["a.py"]
    assert drops(root)["pipe.py"] == "not a file"
    assert read_text(root, "pipe.py", RULE) == Drop("pipe.py", "not a file")


def test_names_that_cannot_be_shown_are_left_out() -> None:
    assert name_reason("a\nb.py", RULE) == name_reason("a\udcff.py", RULE) == "unusable name"


def test_each_text_is_kept_once() -> None:
    one, two, other = CleanFile("a.py", b"x"), CleanFile("b.py", b"x"), Drop("c.py", "binary")
    assert list(without_duplicates([one, two, other])) == [one, Drop("b.py", "duplicate"), other]
