"""Which packages a workspace imports, and which of their files are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.index import dependencies
from server.index.dependencies import (
    Wanted,
    find_packages,
    own_modules,
    python_imports,
    read_package_file,
    script_imports,
    site_packages,
    wanted_packages,
)
from server.repository.files import CleanFile, Rule

RULE = Rule(frozenset({".py"}))
CODE = "def call(one, two):\n    return one\n"
SITE = ".venv/lib/python3.12/site-packages"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with an environment that holds nothing yet."""
    folder = tmp_path / "root"
    (folder / SITE).mkdir(parents=True)
    (folder / ".venv" / "pyvenv.cfg").write_text("home = /x\n")
    return folder


def fill(folder: Path, *names: str, text: str = CODE) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def found(root: Path, *python: str, script: tuple[str, ...] = (), rule: Rule = RULE) -> dict[str, list[str]]:
    packages = find_packages(root, Wanted(python, script), rule)
    return {package.name: [file.path for file in package.files] for package in packages}


@pytest.mark.parametrize(
    "text, names",
    [
        ("import numpy\n", {"numpy"}),
        ("import numpy as np, os.path\n", {"numpy", "os"}),
        ("from numpy.linalg import norm\n", {"numpy"}),
        ("    import late  # inside a function\n", {"late"}),
        ("from . import x\nfrom .y import z\nfrom ..a import b\n", set()),
        ("important = 1\nfrom_here = 2\n# import no\nx = 'import no'\n", set()),
        ("from attr import (\n    define,\n)\n", {"attr"}),
    ],
)
def test_python_imports_are_found(text: str, names: set[str]) -> None:
    assert python_imports(text.encode()) == names


@pytest.mark.parametrize(
    "text, names",
    [
        ("import React from 'react';\n", {"react"}),
        ('import { a } from "@scope/name/deep";\n', {"@scope/name"}),
        (
            "import 'side-effect';\nconst x = require('lodash/fp');\nawait import('late');\n",
            {"side-effect", "lodash", "late"},
        ),
        ("import {\n  a,\n} from 'many';\nexport * from 'again';\n", {"many", "again"}),
        ("import a from './own';\nimport b from '../own';\nimport c from '/x';\nimport fs from 'node:fs';\n", set()),
        ("import x from '@scope';\nimport y from 'a/../../b';\n", set()),
    ],
)
def test_script_imports_are_found(text: str, names: set[str]) -> None:
    assert script_imports(text.encode()) == names


def test_what_most_files_import_comes_first_without_the_standard_library_and_ones_own() -> None:
    texts = {
        "app/__init__.py": "import os\n",
        "app/a.py": "import requests\nimport app.b\n",
        "app/b.py": "import requests, click\nimport settings\n",
        "settings.py": "import click\nimport requests\nimport json\n",
        "web/a.ts": "import x from 'react'\n",
    }
    files = [CleanFile(path, text.encode()) for path, text in texts.items()]
    assert wanted_packages(files) == Wanted(("requests", "click"), ("react",))


def test_ones_own_modules_are_those_that_can_be_imported_from_some_top() -> None:
    paths = ["setup.py", "src/one/a.py", "libs/two/two/__init__.py", "libs/two/two/in/__init__.py", "tests/redis.py"]
    assert own_modules(paths) == {"setup", "one", "two", "libs", "tests"}


def test_packages_are_found_in_the_environment_of_the_workspace(root: Path) -> None:
    fill(
        root / SITE, "one/__init__.py", "one/a.py", "two.py", "stubs/__init__.pyi", "unwanted/__init__.py", "name/a.py"
    )
    assert found(root, "one", "two", "stubs", "name", "missing") == {
        "one": ["one/__init__.py", "one/a.py"],
        "two": ["two.py"],
        "stubs": ["stubs/__init__.pyi"],
        "name": ["name/a.py"],  # a namespace: no __init__.py
    }


def test_a_folder_that_does_not_say_it_is_an_environment_is_none(root: Path, tmp_path: Path) -> None:
    fill(root / "venv/lib/python3.12/site-packages", "one.py")
    assert found(root, "one") == {}
    assert site_packages(root, [root / "venv"]) == (root / SITE, root / "venv/lib/python3.12/site-packages")
    assert site_packages(tmp_path / "nothing", [tmp_path / "nor this"]) == ()


def test_a_windows_environment_is_one_too(tmp_path: Path) -> None:
    fill(tmp_path, "env/pyvenv.cfg")
    fill(tmp_path / "env/Lib/site-packages", "one.py")
    # On a file system that ignores case it could be found under both patterns.
    assert found(tmp_path, "one") == {"one": ["one.py"]}


def test_tests_and_vendored_and_generated_code_are_left_out(root: Path) -> None:
    fill(
        root / SITE,
        *("one/api.py", "one/api.pyi", "one/only.pyi", "one/native.so", "one/tests/test_a.py", "one/test_b.py"),
        *("one/conftest.py", "one/_vendor/x.py", "one/a_pb2.py", "one/.hidden/a.py", "one/__pycache__/a.py"),
        *("one/testdata/a.py", "one/testing.py"),
    )
    assert found(root, "one") == {"one": ["one/api.py", "one/only.pyi", "one/testing.py"]}


def test_exclusions_count_here_too(root: Path) -> None:
    fill(root / SITE, "one/a.py", "one/b.py", "two/a.py")
    assert found(root, "one", "two", rule=Rule(RULE.suffixes, ("two", "b.py"))) == {"one": ["one/a.py"]}
    assert found(root, "one", rule=Rule(RULE.suffixes, (".venv",))) == {}


def test_a_package_has_a_budget_spent_on_what_is_nearest_to_its_top(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root / SITE, "one/a/deep/x.py", "one/a/y.py", "one/z.py", "two/x.py", "three/x.py")
    monkeypatch.setattr(dependencies, "MAX_PACKAGE_BYTES", 2 * len(CODE))
    assert found(root, "one", "two") == {"one": ["one/z.py", "one/a/y.py"], "two": ["two/x.py"]}
    monkeypatch.setattr(dependencies, "MAX_BYTES", 3 * len(CODE))
    assert list(found(root, "one", "two", "three")) == ["one", "two"]


def test_declarations_of_a_script_package_come_first(root: Path) -> None:
    modules = root / "node_modules"
    fill(modules, "lib/index.js", "lib/deep/index.d.ts", "lib/a.min.js", "lib/__tests__/a.js", "lib/a.test.js")
    fill(modules, "lib/node_modules/inner/index.js", "@types/react/index.d.ts", "react/index.js", "@s/name/a.ts")
    assert found(root, script=("lib", "react", "@s/name")) == {
        "lib": ["lib/deep/index.d.ts", "lib/index.js"],
        "react": ["@types/react/index.d.ts"],
        "@s/name": ["@s/name/a.ts"],
    }


def test_links_lead_nowhere_but_to_a_store_beside_the_packages(root: Path, tmp_path: Path) -> None:
    fill(tmp_path / "private", "a.py", "a.ts")
    fill(root / SITE, "one/a.py")
    (root / SITE / "outside").symlink_to(tmp_path / "private")
    (root / SITE / "single.py").symlink_to(tmp_path / "private" / "a.py")
    (root / SITE / "one" / "loop").symlink_to(root / SITE / "one")
    (root / SITE / "one" / "b.py").symlink_to(tmp_path / "private" / "a.py")
    fill(root / "node_modules", ".store/lib@1/lib/index.d.ts")
    (root / "node_modules" / "lib").symlink_to(".store/lib@1/lib")
    (root / "node_modules" / "outside").symlink_to(tmp_path / "private")
    assert found(root, "one", "outside", "single", script=("lib", "outside")) == {
        "one": ["one/a.py"],
        "lib": ["lib/index.d.ts"],
    }


def test_node_modules_may_not_be_a_link_to_elsewhere(root: Path, tmp_path: Path) -> None:
    fill(tmp_path / "private", "lib/a.ts")
    (root / "node_modules").symlink_to(tmp_path / "private")
    assert found(root, script=("lib",)) == {}


def test_the_text_of_a_package_goes_through_the_rule(root: Path) -> None:
    key = "AKIA" + "QWERTYUIOPASDFGH"
    fill(root / SITE, "one.py", text=f"KEY = '{key}'\r\n{CODE}")
    (package,) = find_packages(root, Wanted(("one",), ()), RULE)
    cleaned = read_package_file(root, package, package.files[0], RULE)
    assert cleaned == CleanFile(f"{SITE}/one.py", f"KEY = ''\n{CODE}".encode(), n_secrets=1)


def test_an_environment_elsewhere_is_shown_by_its_whole_path(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "environment"
    fill(elsewhere / "lib/python3.11/site-packages", "one.py")
    packages = find_packages(root, Wanted(("one",), ()), RULE, [elsewhere])
    assert [package.name for package in packages] == ["one"]
    cleaned = read_package_file(root, packages[0], packages[0].files[0], RULE)
    assert cleaned.path == (elsewhere / "lib/python3.11/site-packages/one.py").as_posix()
