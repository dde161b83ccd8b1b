"""The arrows of ARCHITECTURE.md, read from the source: who may import whom, and what may be loaded early."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("server", "finetune")

# Our own arrows: a module under the first name may import the modules under the others, and itself. The longest name
# that fits a module decides.
ARROWS = {
    "server.lm": (),
    "server.repository": (),
    "server.index": ("server.lm", "server.repository"),
    "server.filters": ("server.lm",),
    "server.lsp": ("server", "-server.__main__"),
    "server.__main__": ("server",),
    "server": ("server", "-server.lsp", "-server.__main__"),
    "finetune": (
        *("server.lm", "server.index", "server.repository", "server.version"),
        *("server.settings", "server.settings_files"),
    ),
}

# Libraries that only some modules may name, lazily or not.
HOMES = {
    "torch": ("server.lm.torch_engine", "finetune"),
    "transformers": ("server.lm.torch_engine", "finetune"),
    "peft": ("server.lm.torch_engine", "finetune"),
    "onnxruntime": ("server.lm.onnx_engine",),
    "onnx": ("server.lm",),
    "tree_sitter": ("server.lm.syntax",),
    "tree_sitter_python": ("server.lm.syntax",),
    "tree_sitter_javascript": ("server.lm.syntax",),
    "tree_sitter_typescript": ("server.lm.syntax",),
    "jedi": ("server.jedi_process",),
    "pygls": ("server.lsp",),
    "lsprotocol": ("server.lsp",),
}

# Nothing of this may be loaded before `initialize` is answered.
HEAVY = ("torch", "transformers", "peft", "onnxruntime", "onnx", "numpy", "tokenizers", "safetensors", "jedi", "parso")
HEAVY += ("tree_sitter", "tree_sitter_python", "tree_sitter_javascript", "tree_sitter_typescript")


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def imported_names(module: str, source: str, *, is_package: bool = False) -> Iterator[str]:
    """Full names of all that `source` imports, inside functions too, also by `import_module("literal")`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package else -1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            # `from server import lm` names a module as much as `import server.lm` does.
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def forbidden(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What `module` imports and may not."""
    wrong = []
    for name in imported_names(module, source, is_package=is_package):
        top = name.split(".")[0]
        if top in PACKAGES and not may_import(module, name):
            wrong.append(f"{module} imports {name}")
        if top in HOMES and not any(within(module, home) for home in HOMES[top]):
            wrong.append(f"{module} imports {name}, which only {' and '.join(HOMES[top])} may")
    return wrong


def may_import(module: str, name: str) -> bool:
    owner = max((package for package in ARROWS if within(module, package)), key=len)
    if owner != "server" and within(name, owner):
        return True
    allowed = [package for package in ARROWS[owner] if not package.startswith("-")]
    barred = [package[1:] for package in ARROWS[owner] if package.startswith("-")]
    # The bare package (`from server import __doc__`) is nobody's secret.
    return any(within(name, package) for package in allowed) and not any(within(name, package) for package in barred)


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_import_follows_an_arrow(module: str, path: Path) -> None:
    assert not forbidden(module, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server.lm.decode", "import server.index"),
        ("server.lm.decode", "from server import session"),
        ("server.lm.decode", "from .. import session"),
        ("server.lm.decode", "from ..filters import pipeline"),
        ("server.lm.onnx_engine", "def load():\n    import torch"),
        ("server.lm.conversion", "import onnxruntime as ort"),
        ("server.lm.model", "import importlib\nimportlib.import_module('transformers.models')"),
        ("server.repository.files", "from server.lm.errors import UserError"),
        ("server.index.build", "import server.completion"),
        ("server.filters.trivial", "from server.settings import Settings"),
        ("server.completion", "from server.lsp import positions"),
        ("server.completion", "from lsprotocol import types"),
        ("server.session", "import finetune"),
        ("server.lsp.server", "from finetune import run"),
        ("server.lsp.server", "import torch.nn"),
        ("server.doctor", "if True:\n    import onnxruntime"),
        ("finetune.train", "from server.completion import complete"),
        ("finetune.train", "from server.lsp.server import serve"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str) -> None:
    assert forbidden(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server.lm.decode", "from server.lm.tokenizer import Tokenizer"),
        ("server.lm.decode", "from .engine import Engine"),
        ("server.lm.torch_engine", "import torch, transformers"),
        ("server.lm.onnx_engine", "import onnxruntime"),
        ("server.index.build", "from server.lm.decode import Mixer"),
        ("server.filters.trivial", "from server.lm.syntax import parse"),
        ("server.completion", "from server.filters.pipeline import FILTERS"),
        ("server.lsp.server", "from server.session import Session\nfrom pygls.lsp.server import LanguageServer"),
        ("server.__main__", "def main():\n    from server.lsp.server import serve"),
        ("finetune.train", "import torch\nfrom server.lm import prompt\nfrom finetune.config import Config"),
    ],
)
def test_a_right_arrow_is_allowed(module: str, source: str) -> None:
    assert not forbidden(module, source)


@pytest.mark.parametrize("module", ["server.__main__", "server.lsp.server"])
def test_nothing_heavy_is_loaded_before_initialize(module: str) -> None:
    code = f"import json, sys, {module}; json.dump(sorted(sys.modules), sys.stdout)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not set(json.loads(done.stdout)) & set(HEAVY)


def test_the_rules_name_modules_that_exist() -> None:
    known = {module for module, _ in modules()}
    for homes in HOMES.values():
        for home in homes:
            assert any(within(module, home) for module in known), f"{home} is gone: change HOMES"
