"""The index holds what belongs, nothing else, and follows the workspace from build to build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from server.index import build as build_module
from server.index import texts
from server.index.build import build, main, within_budget
from server.index.build_process import BuildError, BuildProcess, Progress, Result, start_build
from server.index.builder import ChildBuilder
from server.index.segment import Segment
from server.index.store import StoreError, read_current
from server.lm.languages import CODE_SUFFIXES
from server.repository.files import File, Rule

SITE = ".venv/lib/python3.12/site-packages"


def function(name: str) -> str:
    """Code that no other name has."""
    return f"def {name}(one):\n    return one.{name}()\n"


def fill(root: Path, *names: str) -> None:
    """Files that hold a function of their own each."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(function(path.stem))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    fill(folder, "alpha.py", "inner/beta.py")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "index"


def tier(output: Path, name: str) -> dict[str, str]:
    """Path -> text of a tier of the generation in use."""
    generation = read_current(output)
    assert generation is not None
    return {file.path: file.text.decode() for file in Segment.load(generation.folder / name).files()}


def own(output: Path) -> dict[str, str]:
    return tier(output, "repository")


def read_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from now on."""
    paths: list[str] = []
    read_text = texts.read_text

    def read(root: Path, path: str, rule: object) -> object:
        paths.append(path)
        return read_text(root, path, rule)  # type: ignore[arg-type]

    monkeypatch.setattr(texts, "read_text", read)
    return paths


def test_the_index_holds_the_text_of_the_workspace(root: Path, output: Path) -> None:
    result = build(root, output)
    assert own(output) == {"alpha.py": function("alpha"), "inner/beta.py": function("beta")}
    assert (result.n_files, result.unchanged, result.limit_reached) == (2, False, None)
    assert result.n_bytes == sum(len(text) + 1 for text in own(output).values())


def test_a_second_build_changes_and_reads_nothing(root: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root, "copy/alpha.py", "image.png")
    first = build(root, output)
    before = sorted((path, path.stat().st_ino) for path in output.rglob("*"))
    read = read_paths(monkeypatch)
    second = build(root, output)
    assert second.unchanged and not read
    assert sorted((path, path.stat().st_ino) for path in output.rglob("*")) == before
    assert first.dropped == second.dropped == {"duplicate": 1, "unsupported": 1}
    assert (first.generation, first.n_files, first.n_bytes) == (second.generation, second.n_files, second.n_bytes)


def test_only_what_changed_is_read_again(root: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root, "gone.py", "old_name.py")
    (root / "binary.py").write_bytes(b"\0")
    build(root, output)
    read = read_paths(monkeypatch)
    (root / "alpha.py").write_text(function("changed"))
    (root / "gone.py").unlink()
    (root / "old_name.py").rename(root / "new_name.py")
    fill(root, "inner/added.py")
    result = build(root, output)
    assert sorted(read) == ["alpha.py", "inner/added.py", "new_name.py"]
    assert result.dropped == {"binary": 1}
    assert own(output) == {
        "alpha.py": function("changed"),
        "inner/added.py": function("added"),
        "inner/beta.py": function("beta"),
        "new_name.py": function("old_name"),
    }


def test_a_touched_file_of_the_same_size_is_read_again(root: Path, output: Path) -> None:
    build(root, output)
    (root / "alpha.py").write_text(function("ALPHA"))
    os.utime(root / "alpha.py", ns=(1, 1))
    build(root, output)
    assert own(output)["alpha.py"] == function("ALPHA")


def test_a_copy_takes_the_place_of_the_file_that_went(root: Path, output: Path) -> None:
    fill(root, "copy/alpha.py")
    build(root, output)
    assert "copy/alpha.py" not in own(output)
    (root / "alpha.py").unlink()
    build(root, output)
    assert own(output)["copy/alpha.py"] == function("alpha")


def test_going_back_to_the_former_state_uses_its_generation(
    root: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(root, output)
    fill(root, "added.py")
    build(root, output)
    (root / "added.py").unlink()
    monkeypatch.setattr(build_module, "write_generation", None)
    again = build(root, output)
    assert (again.generation, again.unchanged) == (first.generation, False)
    assert sorted(own(output)) == ["alpha.py", "inner/beta.py"]


def test_only_the_former_generation_is_kept(root: Path, output: Path) -> None:
    names = []
    for name in ("one.py", "two.py", "three.py"):
        fill(root, name)
        names.append(build(root, output).generation)
    assert {path.name for path in output.iterdir()} == {"current", *names[1:]}


@pytest.mark.parametrize("name", ["repository/text.bin", "dependencies/files.json", "manifest.json"])
def test_a_damaged_index_is_built_anew(root: Path, output: Path, name: str) -> None:
    generation = build(root, output).generation
    (output / generation / name).write_bytes(b"?")
    assert not build(root, output).unchanged
    assert own(output)["alpha.py"] == function("alpha")


def test_a_new_rule_judges_everything_anew(root: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(root, output)
    monkeypatch.setattr(build_module, "RULE_VERSION", 99)
    read = read_paths(monkeypatch)
    assert not build(root, output).unchanged
    assert sorted(read) == ["alpha.py", "inner/beta.py"]


def test_packages_follow_the_imports_and_the_environment(root: Path, output: Path) -> None:
    fill(root / SITE, "one/api.py", "two.py")
    (root / ".venv" / "pyvenv.cfg").write_text("home = /x\n")
    (root / "uses.py").write_text("import one\n")
    result = build(root, output)
    assert tier(output, "dependencies") == {f"{SITE}/one/api.py": function("api")}
    assert result.n_files == 4
    assert not any(path.startswith(".venv") for path in own(output))

    (root / "uses.py").write_text("import one, two\n")
    build(root, output)
    assert sorted(tier(output, "dependencies")) == [f"{SITE}/one/api.py", f"{SITE}/two.py"]

    (root / SITE / "one/api.py").write_text(function("upgraded"))
    assert not build(root, output).unchanged
    assert tier(output, "dependencies")[f"{SITE}/one/api.py"] == function("upgraded")
    assert build(root, output).unchanged


@pytest.mark.parametrize("repository", [True, False], ids=["git", "walk"])
def test_nothing_that_must_stay_out_is_in_any_file_of_the_index(root: Path, output: Path, repository: bool) -> None:
    canaries = []

    def canary() -> str:
        canaries.append(f"Qz7k{len(canaries):02}Wv4mT8bNd5Rc")  # a name, and random enough for a key
        return canaries[-1]

    def plant(name: str, text: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    for name in (
        *("ignored.py", "inner/ignored_too.py", "generated/a.py", "deep/generated/b.py", ".env", ".env.local"),
        *("secrets.json", "config/credentials.json", "server.pem", "id_rsa", "infra/prod.tfvars", "vendor/x.py"),
        *("node_modules/a/a.js", "schema_pb2.py", f"{SITE}/one/excluded.py", ".venv/lib/other.py"),
    ):
        plant(name, function(canary()))
    plant(".gitignore", "ignored.py\n")
    plant("inner/.gitignore", "ignored_*.py\n")
    plant(".venv/pyvenv.cfg", "")
    plant(f"{SITE}/one/api.py", f"password = '{canary()}1!'\n{function('api')}")
    plant("uses.py", f"import one\napi_key = 'Zk3{canary()}9q7'\nURL = 'https://me:{canary()}@example.org'\n")
    plant("keys.py", f"KEY = '''-----BEGIN PRIVATE KEY-----\n{'MIIEvQIBADANBgkqhkiG9w0' * 3}\n{canary()}x0\n-----'''\n")
    (root.parent / "outside.py").write_text(canary())
    (root / "link.py").symlink_to(root.parent / "outside.py")
    if repository:
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)

    build(root, output, exclude=["generated/**", "excluded.py"])
    assert tier(output, "dependencies") == {f"{SITE}/one/api.py": f"password = ''\n{function('api')}"}
    assert {"alpha.py", "uses.py", "keys.py"} <= set(own(output))
    for path in output.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found = [each for each in canaries if each.encode() in content or each.encode()[::-1] in content]
            # The manifest tells the names of files that lie in the index, never what was left out.
            assert not found, path
    assert "MIIEvQ" not in own(output)["keys.py"]


def test_of_too_much_text_the_files_changed_last_are_taken(
    root: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [File("a", 5, 1), File("b", 5, 3), File("c", 5, 2), File("d", 20, 4)]
    taken, left_out = within_budget(files, 11)
    assert [file.path for file in taken] == ["b", "c"]
    assert [file.path for file in left_out] == ["d", "a"]

    os.utime(root / "alpha.py", ns=(1, 1))
    monkeypatch.setattr(build_module, "MAX_REPOSITORY_BYTES", len(function("beta")))
    result = build(root, output)
    assert sorted(own(output)) == ["inner/beta.py"]
    assert result.dropped == {"beyond the limit": 1}
    assert result.limit_reached is not None and "`exclude`" in result.limit_reached
    assert build(root, output).limit_reached == result.limit_reached
    fill(root, "zeta.py")
    again = build(root, output)
    assert again.dropped == {"beyond the limit": 2}
    assert again.limit_reached == result.limit_reached, "one cause, one sentence"


@pytest.mark.parametrize("limit, says", [("names", "1,000,000 files of any kind"), ("files", "100,000 source files")])
def test_the_limit_that_was_reached_is_named(
    root: Path, output: Path, monkeypatch: pytest.MonkeyPatch, limit: str, says: str
) -> None:
    list_files = build_module.list_files
    monkeypatch.setattr(build_module, "list_files", lambda *given: replace(list_files(*given), limit=limit))
    assert says in str(build(root, output).limit_reached)


def test_what_was_built_is_outdated_where_the_disk_has_something_else(root: Path) -> None:
    fill(root, "copy/alpha.py", "ignored.py", "uses.py")
    fill(root / SITE, "one/api.py", "one/gone.py")
    (root / ".venv" / "pyvenv.cfg").write_text("home = /x\n")
    (root / "uses.py").write_text("import one\n")
    ChildBuilder().build(root, (), lambda percent: None)
    kept = ChildBuilder().stored(root, ())
    assert kept is not None and kept.paths == kept.files.keys() | kept.installed.keys()
    assert not kept.outdated(root, Rule(CODE_SUFFIXES), kept.paths)
    assert kept.copies_of("alpha.py") == ["copy/alpha.py"]
    (root / SITE / "one" / "gone.py").unlink()
    (root / "uses.py").unlink()
    (root / ".gitignore").write_text("ignored.py\n")
    gone = {f"{SITE}/one/gone.py", "uses.py", "ignored.py"}
    assert kept.outdated(root, Rule(CODE_SUFFIXES), kept.paths) == gone
    assert kept.outdated(root, Rule(CODE_SUFFIXES), ["uses.py", "alpha.py", "unknown.py"]) == {"uses.py", "unknown.py"}


def test_a_file_that_vanishes_meanwhile_is_left_out(root: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list_files = build_module.list_files

    def list_and_remove(*arguments: object) -> object:
        found = list_files(*arguments)  # type: ignore[arg-type]
        (root / "alpha.py").unlink()
        return found

    monkeypatch.setattr(build_module, "list_files", list_and_remove)
    result = build(root, output)
    assert sorted(own(output)) == ["inner/beta.py"]
    assert result.dropped == {"missing": 1}


def test_an_empty_folder_has_an_index_too(tmp_path: Path, output: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert build(tmp_path / "empty", output).n_files == 0
    assert build(tmp_path / "empty", output).unchanged


def test_a_read_only_cache_is_fine_as_long_as_nothing_changes(
    root: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(root, output)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "mkdir", refuse)
    assert build(root, output).unchanged
    fill(root, "added.py")
    with pytest.raises(StoreError, match="Read-only file system; what was indexed before stays in use"):
        build(root, output)
    assert sorted(own(output)) == ["alpha.py", "inner/beta.py"]


def test_progress_only_grows_and_ends_at_a_hundred(root: Path, output: Path) -> None:
    told: list[Progress] = []
    build(root, output, report=told.append)
    percents = [progress.percent for progress in told]
    assert percents == sorted(percents) and percents[-1] == 100
    assert list(dict.fromkeys(progress.stage for progress in told)) == ["scan", "read", "sort", "done"]


# The child process.


def test_what_starts_the_child_loads_nothing_heavy() -> None:
    code = "import server.index.build_process, server.index.store, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pydivsufsort", "pathspec"} & set(done.stdout.split())


def test_the_child_tells_progress_and_the_result(root: Path, output: Path) -> None:
    fill(root, "excluded.py")
    process = start_build(root, output, exclude=["excluded.py"])
    *told, result = process.events()
    assert all(isinstance(event, Progress) for event in told)
    assert isinstance(result, Result) and result.n_files == 2 and result.dropped == {"excluded": 1}
    assert sorted(own(output)) == ["alpha.py", "inner/beta.py"]


@pytest.mark.parametrize("wrong", ["missing", "alpha.py"])
def test_a_folder_that_is_none_is_a_problem_in_words(
    root: Path, output: Path, wrong: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(root / wrong), "--output", str(output)]) == 1
    problem = json.loads(capfd.readouterr().out.splitlines()[-1])["problem"]
    assert problem.startswith("cannot read the folder") and wrong in problem


def test_a_child_that_dies_is_told_and_the_former_index_stays(root: Path, output: Path) -> None:
    build(root, output)
    fill(root, "added.py")
    process = start_build(root, output)
    events = process.events()
    assert isinstance(next(events), Progress)
    os.kill(process.pid, 9)
    with pytest.raises(BuildError, match="ended early.*what was indexed before stays in use"):
        list(events)
    assert sorted(own(output)) == ["alpha.py", "inner/beta.py"]


def test_a_build_can_be_stopped(root: Path, output: Path) -> None:
    process: BuildProcess = start_build(root, output)
    process.stop()
    with pytest.raises(BuildError):
        list(process.events())
