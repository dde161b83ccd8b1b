"""What stands in two places stays the same in both, and nothing of the machine we work on gets in."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "editor-configs"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Written so that this file does not contain what it looks for. The machine that runs the test is looked for as well.
HOSTS = (
    r"pyp[i]\.org",
    r"pythonhoste[d]\.org",
    r"download\.pytorc[h]\.org",
    r"registry\.npm[j]s",
    r"deb\.debia[n]\.org",
)
FOLDERS = [r"wor[k]/(main|steering|shared)", r"far[m]", r"roo[t]", r"op[t]/(pypi|wheels)"]
FOLDERS += [re.escape(str(folder)[1:]) for folder in (ROOT, Path.home()) if len(folder.parts) > 2]
FOREIGN = {
    "a registry's host": "|".join(HOSTS),
    "a path of one machine": rf"(?<![\w.])/({'|'.join(FOLDERS)})([/\"'\s-]|$)",
}


def tracked_files() -> list[Path]:
    """Every file that git knows or would take, as text files go."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    """The text, or nothing for a binary file."""
    content = path.read_bytes()
    return "" if b"\0" in content[:1024] else content.decode("utf-8", errors="replace")


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_names(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked_files()
        for number, line in enumerate(text_of(path).split("\n"), 1)
        if re.search(FOREIGN[what], line)
    ]
    assert not found


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a registry's host", "see https://" + "pypi" + ".org/project/x"),
        ("a path of one machine", "cd /" + "work/main"),
        ("a path of one machine", "open('/" + "root/x')"),
        ("a path of one machine", f"open('{ROOT}/x')"),
    ],
)
def test_a_foreign_name_is_seen(what: str, line: str) -> None:
    assert re.search(FOREIGN[what], line)


@pytest.mark.parametrize(
    "line", ["server/base_model/", "https://example.org/root/", "tests/" + "work/main/x.py", "/work/x.py"]
)
def test_a_relative_path_is_no_machine_path(line: str) -> None:
    assert not re.search(FOREIGN["a path of one machine"], line)


# What stands in two places.


def test_the_version_is_the_same_everywhere() -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "server", "--version"], capture_output=True, text=True, cwd=ROOT)
    version = PYPROJECT["project"]["version"]
    assert done.stdout == f"loracle {version}\n", f"{done.stdout}{done.stderr}: installed before the version changed?"
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == version


@pytest.mark.parametrize("name", ["neovim.lua", "emacs-lsp-mode.el"])
def test_the_readme_shows_the_editor_file_itself(name: str) -> None:
    language = {".lua": "lua", ".el": "elisp"}[Path(name).suffix]
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert (CONFIGS / name).read_text(encoding="utf-8") in blocks


def test_the_readme_shows_the_settings_as_declared() -> None:
    from server.settings import settings_table

    shown = README.partition("<!-- settings: begin -->\n")[2].partition("<!-- settings: end -->")[0]
    assert shown.strip() == settings_table(), "run `make readme`"


def test_every_dependency_is_pinned() -> None:
    pinned = set(re.findall(r"^([a-z0-9-]+)==[\w.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    project = PYPROJECT["project"]
    wanted = project["dependencies"] + [line for lines in project["optional-dependencies"].values() for line in lines]
    wanted += PYPROJECT["build-system"]["requires"]
    assert not {re.split(r"[^a-z0-9-]", line)[0] for line in wanted} - pinned


def test_the_parts_of_the_readme_that_link_to_files_do() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", CONFIGS / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_folder_of_a_test_names_its_marker() -> None:
    # `make check` leaves out what is marked; a file that forgot its marker would slow it down.
    for folder in ("slow", "e2e"):
        for path in (ROOT / "tests" / folder).rglob("test_*.py"):
            marks = [
                ast.unparse(node.value)
                for node in ast.parse(path.read_text(encoding="utf-8")).body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
            ]
            assert marks, f"{path.relative_to(ROOT)} has no pytestmark"
            assert f"pytest.mark.{folder}" in marks[0], f"{path.relative_to(ROOT)} is not marked {folder}"


# Each editor's block can be read by that editor, and starts the right command.


def command_of(name: str) -> list[str]:
    """The command line in one of the editor files, read as its editor reads it."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    if name.endswith(".toml"):
        server = tomllib.loads(text)["language-server"]["loracle"]
        return [server["command"], *server["args"]]
    if name == "coc-settings.json":
        server = json.loads(text)["languageserver"]["loracle"]
        return [server["command"], *server["args"]]
    if name == "kate.json":
        return list(json.loads(text)["servers"]["python"]["command"])
    if name.endswith(".sublime-settings"):
        return list(json.loads(text)["clients"]["loracle"]["command"])
    if name.endswith(".el"):
        assert_lisp_is_balanced(text)
        return re.findall(r'"([^"]+)"', re.search(r"lsp-stdio-connection '\((.*?)\)", text)[1])
    if name.endswith(".lua"):
        return re.findall(r"'([^']+)'", re.search(r"cmd = \{(.*?)\}", text)[1])
    raise AssertionError(f"no reader for {name}: add one")


def assert_lisp_is_balanced(text: str) -> None:
    without = re.sub(r";[^\n]*|\"(?:\\.|[^\"\\])*\"", "", text)
    depth = 0
    for character in without:
        depth += {"(": 1, ")": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    # A form that closes too late swallows the next one.
    assert all(line.startswith("(") for line in without.split("\n") if line and not line[0].isspace())


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.iterdir() if path.suffix != ".md"))
def test_an_editor_file_starts_the_console_script(name: str) -> None:
    script, *arguments = command_of(name)
    assert script in PYPROJECT["project"]["scripts"]
    assert arguments == ["--stdio"]
    assert name in (CONFIGS / "README.md").read_text(encoding="utf-8")


def test_no_command_that_is_copied_runs_the_packages_of_the_users_folder() -> None:
    copied = [
        block
        for path in ROOT.glob("*.md")
        for block in re.findall(r"```.*?```", path.read_text(encoding="utf-8"), re.DOTALL)
    ]
    copied += [
        path.read_text(encoding="utf-8") for path in [*CONFIGS.iterdir(), ROOT / "Makefile"] if path.suffix != ".md"
    ]
    for text in copied:
        assert not re.search(r"python\S* -m (server|finetune)", text), text
