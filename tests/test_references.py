"""Names are followed into other files: Python by jedi, scripts by their relative imports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.facts import Facts, facts_at
from server.lm.context import Document
from server.lm.languages import language_for
from server.static_analysis import StaticAnalysis
from tests.marks import split_at_cursor

TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    packages = folder / ".venv" / "lib" / "python3.11" / "site-packages"
    for path in (folder / "shop", packages):
        path.mkdir(parents=True)
    (folder / "shop" / "prices.py").write_bytes(
        "# größe\r\n\r\n\r\nclass Box:\r\n    def weigh(self, in_grams=False):\r\n        return self.mass\r\n"
        '\r\n\r\ndef total(prices):\r\n    """All prices together."""\r\n    return sum(prices)\r\n'.encode()
    )
    (packages / "crates.py").write_text('def stack(n: int) -> str:\n    """Stacks."""\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def analysis(workspace: Path) -> Iterator[StaticAnalysis]:
    analysis = StaticAnalysis(workspace)
    yield analysis
    analysis.close()


def found_at(marked: str, workspace: Path, analysis: StaticAnalysis) -> Facts | None:
    text, offset = split_at_cursor(marked)
    path = workspace / "shop" / "main.py"
    document = Document(path.as_uri(), "shop/main.py", language_for("python"), text)
    return facts_at(document, offset, workspace, analysis, TIMEOUT_S)


@pytest.mark.parametrize(
    "marked, kind, signature, place",
    [
        ("from shop.prices import total\nto<|>tal([])\n", "function", "def total(prices)", ("shop/prices.py", 9)),
        ("from shop.prices import to<|>tal\n", "function", "def total(prices)", ("shop/prices.py", 9)),
        ("from .prices import to<|>tal\n", "function", "def total(prices)", ("shop/prices.py", 9)),
        ("from shop import prices as p\np.Bo<|>x\n", "class", "class Box", ("shop/prices.py", 4)),
        (
            "from shop.prices import Box\nb = Box()\nb.wei<|>gh()\n",
            "method",
            "def weigh(self, in_grams=False)",
            ("shop/prices.py", 5),
        ),
        (
            "from shop.prices import Box\nBox().weigh(in_gr<|>ams=True)\n",
            "parameter",
            "in_grams=False",
            ("shop/prices.py", 5),
        ),
        ("class A:\n    def f(self, x): ...\n\na = A()\na.<|>f(1)\n", "method", "def f(self, x)", ("shop/main.py", 2)),
        (
            "class A:\n    def f(self): ...\nclass B(A):\n    def g(self):\n        self.<|>f()\n",
            "method",
            "def f(self)",
            ("shop/main.py", 2),
        ),
        ("import shop.pri<|>ces\n", "module", "module prices", ("shop/prices.py", 1)),
    ],
)
def test_a_name_leads_to_its_definition(
    marked: str, kind: str, signature: str, place: tuple[str, int], workspace: Path, analysis: StaticAnalysis
) -> None:
    found = found_at(marked, workspace, analysis)
    assert found is not None
    assert (found.kind, found.signature, (found.path, found.line)) == (kind, signature, place)


def test_a_package_of_the_workspace_is_read(workspace: Path, analysis: StaticAnalysis) -> None:
    found = found_at("import crates\ncrates.sta<|>ck(1)\n", workspace, analysis)
    assert found is not None and found.signature == "def stack(n: int) -> str" and found.documentation == "Stacks."
    assert found.path == ".venv/lib/python3.11/site-packages/crates.py"


def test_the_standard_library_is_read(workspace: Path, analysis: StaticAnalysis) -> None:
    found = found_at("import textwrap\ntextwrap.ded<|>ent('')\n", workspace, analysis)
    assert found is not None and found.name == "dedent" and found.path.endswith("textwrap.py") and found.documentation


def test_a_definition_elsewhere_can_be_explained(workspace: Path, analysis: StaticAnalysis) -> None:
    found = found_at("from .prices import total\nto<|>tal([])\n", workspace, analysis)
    assert found is not None and found.subject is not None
    assert found.subject.path == "shop/prices.py"
    assert found.subject.source.splitlines() == ["def total(prices):", "    return sum(prices)"]


def test_an_unknown_name_stays_unknown(workspace: Path, analysis: StaticAnalysis) -> None:
    assert found_at("no_such_na<|>me\n", workspace, analysis) is None
    assert found_at("import no_such_module\nno_such_module.f<|>oo\n", workspace, analysis) is None


def test_without_time_the_answer_is_there_the_next_time(workspace: Path) -> None:
    analysis = StaticAnalysis(workspace)
    try:
        text, offset = split_at_cursor("from shop.prices import total\nto<|>tal([])\n")
        path = workspace / "shop" / "main.py"
        document = Document(path.as_uri(), "shop/main.py", language_for("python"), text)
        first = facts_at(document, offset, workspace, analysis, 0.0)
        assert first is not None and first.kind == "import"
        answer = analysis.find(path, text, text.rindex("total"))
        assert answer is not None and answer.result(TIMEOUT_S) is not None
        second = facts_at(document, offset, workspace, analysis, 0.0)
        assert second is not None and second.documentation == "All prices together."
    finally:
        analysis.close()


@pytest.mark.parametrize("module", ["./lib/prices", "./lib/prices.js", "./lib", "../shop/lib/prices"])
def test_an_import_from_a_relative_path_is_followed(tmp_path: Path, module: str) -> None:
    (tmp_path / "shop" / "lib").mkdir(parents=True)
    for name in ("prices.ts", "index.ts"):
        (tmp_path / "shop" / "lib" / name).write_text(
            "/** All of it. */\nexport function total() {}\n", encoding="utf-8"
        )
    text, offset = split_at_cursor(f"import {{ total as t }} from '{module}';\n<|>t();\n")
    path = tmp_path / "shop" / "main.ts"
    found = facts_at(Document(path.as_uri(), "shop/main.ts", language_for("typescript"), text), offset, tmp_path)
    assert found is not None and (found.name, found.documentation, found.line) == ("total", "All of it.", 2)
    assert found.path == ("shop/lib/index.ts" if module == "./lib" else "shop/lib/prices.ts")


def test_a_default_import_is_followed(tmp_path: Path) -> None:
    (tmp_path / "box.ts").write_text("export class Lid {}\nexport default class Box {}\n", encoding="utf-8")
    text, offset = split_at_cursor("import B from './box';\nnew <|>B();\n")
    document = Document((tmp_path / "main.ts").as_uri(), "main.ts", language_for("typescript"), text)
    found = facts_at(document, offset, tmp_path)
    assert found is not None and (found.name, found.line) == ("Box", 2)
