"""The packages that a workspace imports, from its own environment, which is read and never run.

Which ones: the names that its files import, those that most files import first. Where: `site-packages` of the virtual
environment in the workspace, and `node_modules`. How much: the files nearest to a package's top, which hold what people
call, under a budget for each package and for all. The text goes through the same rule as the workspace's own.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from server.repository.barred import is_barred_path
from server.repository.files import CleanFile, File, Rule, read_text
from server.repository.listing import Drop
from server.repository.quality import path_reason

MAX_BYTES = 16_000_000
MAX_PACKAGE_BYTES = 4_000_000
MAX_PACKAGE_ENTRIES = 20_000  # that are looked at in one package; large ones have some thousand
MAX_PACKAGES = 200

PYTHON_SUFFIXES = frozenset({".py", ".pyi"})
SCRIPT_SUFFIXES = frozenset({".ts", ".mts", ".cts", ".tsx", ".js", ".mjs", ".cjs", ".jsx"})

_ENVIRONMENTS = (".venv", "venv", "env")
_PASSED_OVER = frozenset({"test", "tests", "__tests__", "docs", "doc", "examples", "example", "benchmarks"})
_TEST_FILE = re.compile(r"(?:^test_.*|.*_tests?|^conftest)\.pyi?$|\.(?:test|spec)\.\w+$")
_PYTHON_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)[\w.]*[ \t]+import\b|import[ \t]+([A-Za-z_][\w., \t]*))", re.MULTILINE
)
_SCRIPT_IMPORT = re.compile(rb"""(?:\bfrom|\bimport|\brequire\s*\(|\bimport\s*\()\s*["']([@\w][^"'\n:]{0,200})["']""")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Packages that the workspace imports, those that most files import first."""

    python: tuple[str, ...]
    script: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package: `files` lie under `folder`, the nearest first, within the package's budget."""

    name: str
    folder: Path  # that the paths of `files` start from: `site-packages` or `node_modules`
    files: tuple[File, ...]


def wanted_packages(files: Iterable[CleanFile]) -> Wanted:
    """What the files import, but for the standard library and what the workspace itself holds."""
    python: Counter[str] = Counter()
    script: Counter[str] = Counter()
    paths: list[str] = []
    for file in files:
        suffix = os.path.splitext(file.path)[1].lower()
        if suffix in PYTHON_SUFFIXES or suffix == ".pyw":
            paths.append(file.path)
            python.update(python_imports(file.text))
        elif suffix in SCRIPT_SUFFIXES:
            script.update(script_imports(file.text))
    own = own_modules(paths)
    return Wanted(
        tuple(name for name in _by_count(python) if name not in sys.stdlib_module_names and name not in own),
        tuple(_by_count(script)),
    )


def python_imports(text: bytes) -> set[str]:
    """Top-level names of the absolute imports, by pattern: text in a docstring that looks like one counts as well."""
    names: set[str] = set()
    for match in _PYTHON_IMPORT.finditer(text):
        modules = [match[1]] if match[1] is not None else match[2].split(b",")
        names.update(words[0].split(b".")[0].decode() for module in modules if (words := module.split()))
    return names


def script_imports(text: bytes) -> set[str]:
    """Names of the packages that are imported or required by name: "react", "@scope/name"."""
    names = set()
    for match in _SCRIPT_IMPORT.finditer(text):
        parts = match[1].decode("utf-8", "replace").split("/")
        name = "/".join(parts[: 2 if parts[0].startswith("@") else 1])
        if ".." not in parts and "\\" not in name and (not name.startswith("@") or "/" in name):
            names.add(name)
    return names


def own_modules(paths: Iterable[str]) -> set[str]:
    """Names under which the workspace's own Python files can be imported: at its top, in src, or as outermost package.

    `paths` are those of its Python files, relative to the root.
    """
    parts = [path.split("/") for path in paths]
    packages = {tuple(path[:-1]) for path in parts if path[-1] in ("__init__.py", "__init__.pyi")}
    names = {package[-1] for package in packages if package and package[:-1] not in packages}
    for path in parts:
        top = path[1:] if path[0] in ("src", "lib") and len(path) > 1 else path
        names.add(top[0] if len(top) > 1 else os.path.splitext(top[0])[0])
    return names


def find_packages(root: Path, wanted: Wanted, rule: Rule, environments: Sequence[Path] = ()) -> tuple[Package, ...]:
    """Those of the wanted packages that are installed, with their files, in order and under the budget for all.

    `environments` are virtual environments to look into beside those that lie in the root.
    """
    installed = site_packages(root, environments)
    found: list[Package] = []
    n_left = MAX_BYTES
    for name, is_python in _alternately(wanted):
        candidates = _python_packages(installed, name) if is_python else _script_packages(root, name)
        for folder, top in candidates:
            files = _package_files(root, folder, top, rule, is_python, min(MAX_PACKAGE_BYTES, n_left))
            if files:
                found.append(Package(name, folder, files))
                n_left -= sum(file.n_bytes for file in files)
                break
        if n_left <= 0 or len(found) == MAX_PACKAGES:
            break
    return tuple(found)


def read_package_file(root: Path, package: Package, file: File, rule: Rule) -> CleanFile | Drop:
    """The cleaned text of a package's file, under the path that `shown_path` gives it."""
    read = read_text(package.folder, file.path, _rule_of(package.files[0].path, rule))
    return replace(read, path=shown_path(root, package.folder, file.path))


def shown_path(root: Path, folder: Path, path: str) -> str:
    """The path of an installed file for people: relative to the root where it lies in there, else absolute."""
    whole = folder / path
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else whole.as_posix()


def site_packages(root: Path, environments: Sequence[Path] = ()) -> tuple[Path, ...]:
    """The folders of installed Python packages; an environment in the root counts if it says that it is one."""
    homes = [root / name for name in _ENVIRONMENTS if (root / name / "pyvenv.cfg").is_file()]
    folders: list[Path] = []
    for home in [*homes, *environments]:
        folders += sorted(home.glob("lib/python3*/site-packages"))
        folders.append(home / "Lib" / "site-packages")
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def _by_count(names: Counter[str]) -> list[str]:
    return sorted(names, key=lambda name: (-names[name], name))


def _alternately(wanted: Wanted) -> Iterator[tuple[str, bool]]:
    """Names with whether they are Python's: in a workspace of both languages neither uses up the budget first."""
    for place in range(max(len(wanted.python), len(wanted.script))):
        if place < len(wanted.python):
            yield wanted.python[place], True
        if place < len(wanted.script):
            yield wanted.script[place], False


def _python_packages(installed: Sequence[Path], name: str) -> Iterator[tuple[Path, str]]:
    """Where a package may lie: the folder to import from, and the package's folder or module in there."""
    for folder in installed:
        for top in (name, f"{name}.py", f"{name}.pyi"):
            if _lies_in(folder / top, folder):
                yield folder, top


def _script_packages(root: Path, name: str) -> Iterator[tuple[Path, str]]:
    folder = root / "node_modules"
    if not _lies_in(folder, root):
        return
    types = f"@types/{name.removeprefix('@').replace('/', '__')}"
    for top in (types, name):
        if _lies_in(folder / top, folder):
            yield folder, top


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether it exists, links followed, inside the folder: package managers link to a store of their own in there."""
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return False


def _package_files(
    root: Path, folder: Path, top: str, rule: Rule, is_python: bool, budget_bytes: int
) -> tuple[File, ...]:
    """The files of one package that are worth reading, the nearest first, until the budget is spent."""
    suffixes = PYTHON_SUFFIXES if is_python else SCRIPT_SUFFIXES
    files = [
        file
        for file in _walk(folder, top)
        if os.path.splitext(file.path)[1].lower() in suffixes
        and file.n_bytes <= rule.limits.max_bytes
        and path_reason(file.path) is None
        and not _TEST_FILE.search(file.path.rpartition("/")[2])
        and not is_barred_path(shown_path(root, folder, file.path), rule.exclude)
    ]
    if is_python:
        # A stub beside its module says the same with less.
        modules = {file.path for file in files}
        files = [file for file in files if not (file.path.endswith(".pyi") and file.path[:-1] in modules)]
    # Of a script package the declarations come first: they name all that can be called.
    files.sort(key=lambda file: (not is_python and not _is_declaration(file.path), file.path.count("/"), file.path))
    kept: list[File] = []
    for file in files:
        if file.n_bytes <= budget_bytes:
            kept.append(file)
            budget_bytes -= file.n_bytes
    return tuple(kept)


def _walk(folder: Path, top: str) -> Iterator[File]:
    """The files of a package, the nearest first. Links inside are not followed, a link to the package itself is."""
    if (folder / top).is_file():
        found = os.stat(folder / top)
        yield File(top, found.st_size, found.st_mtime_ns)
        return
    waiting = [top]
    n_left = MAX_PACKAGE_ENTRIES
    for path in waiting:  # grows meanwhile
        try:
            with os.scandir(folder / path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries[:n_left]:
            n_left -= 1
            inner = f"{path}/{entry.name}"
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith((".", "__pycache__", "node_modules")) and (
                        entry.name.lower() not in _PASSED_OVER
                    ):
                        waiting.append(inner)
                elif entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    yield File(inner, found.st_size, found.st_mtime_ns)
            except OSError:
                continue


def _rule_of(path: str, rule: Rule) -> Rule:
    """The rule for a package's text: its suffixes; the exclusions were heeded when it was found."""
    is_python = os.path.splitext(path)[1].lower() in PYTHON_SUFFIXES
    return Rule(PYTHON_SUFFIXES if is_python else SCRIPT_SUFFIXES, (), rule.limits)


def _is_declaration(path: str) -> bool:
    return path.endswith((".d.ts", ".d.mts", ".d.cts"))
