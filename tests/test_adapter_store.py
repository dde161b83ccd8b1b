"""Adapters on disk: the one in force is whole at any moment, versions stay, and what does not fit is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.listing import listed
from server.lm import adapter_store
from server.lm.adapter import AdapterError
from server.lm.adapter_manifest import (
    ADAPTER_FILES,
    MANIFEST_FILE,
    BaseIdentity,
    Manifest,
    check_fits,
    check_whole,
    file_hashes,
    read_manifest,
    write_manifest,
)
from server.lm.adapter_store import CHANGE_LOCK_FILE, POINTER_FILE, RUN_LOCK_FILE, AdapterStore
from server.lm.errors import UserError
from server.lm.file_lock import held

BASE = BaseIdentity("f" * 64, "t" * 64, 1)


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "work" / "shop", tmp_path / "data")


@pytest.fixture
def candidate(tmp_path: Path) -> Callable[[str], tuple[Path, Manifest]]:
    """`candidate("one")`: an adapter folder with that content, and its manifest."""

    def make(content: str) -> tuple[Path, Manifest]:
        folder = tmp_path / f"candidate-{content}"
        folder.mkdir()
        for name in ADAPTER_FILES:
            (folder / name).write_text(f"{name} {content}")
        return folder, Manifest(BASE, "2026-01-02T03:04:05Z", "shop", "abc123", file_hashes(folder))

    return make


def served(store: AdapterStore) -> str | None:
    """What the version in force holds."""
    folder = store.current()
    return None if folder is None else (folder / ADAPTER_FILES[1]).read_text().split()[-1]


def test_nothing_is_in_force_before_something_is_published(store: AdapterStore) -> None:
    assert store.current() is None and store.versions() == []
    assert not store.folder.exists()


def test_what_is_published_is_in_force_and_former_versions_stay(store: AdapterStore, candidate) -> None:
    first = store.publish(*candidate("one"))
    second = store.publish(*candidate("two"))
    assert served(store) == "two"
    assert [each.version for each in store.versions()] == [second, first]
    assert [each.is_current for each in store.versions()] == [True, False]
    assert store.versions()[0].manifest == read_manifest(store.versions()[0].folder)


def test_versions_keep_their_order_though_the_clock_stands_still_or_goes_back(
    store: AdapterStore, candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [store.publish(*candidate("0"))]
    monkeypatch.setattr(adapter_store.time, "strftime", lambda *_: "20200101-000000")
    made += [store.publish(*candidate(str(number))) for number in range(1, 4)]
    assert [each.version for each in store.versions()] == made[::-1]
    assert served(store) == "3"


def test_rolling_back_goes_one_version_back_until_there_is_none(store: AdapterStore, candidate) -> None:
    for content in ("one", "two", "three"):
        store.publish(*candidate(content))
    store.rollback()
    assert served(store) == "two"
    store.rollback()
    assert served(store) == "one"
    with pytest.raises(UserError, match="no earlier adapter"):
        store.rollback()
    assert served(store) == "one"


def test_no_rollback_returns_to_what_was_rolled_back_from(store: AdapterStore, candidate) -> None:
    for content in ("one", "two", "three"):
        store.publish(*candidate(content))
    store.rollback()
    assert served(store) == "two"
    store.publish(*candidate("four"))
    assert [each.is_withdrawn for each in store.versions()] == [False, True, False, False]
    store.rollback()
    assert served(store) == "two"  # three is newer, and was rejected
    store.publish(*candidate("five"))
    for content in ("two", "one"):
        store.rollback()
        assert served(store) == content
    with pytest.raises(UserError, match="no earlier adapter"):
        store.rollback()
    lines = listed(store.versions())
    assert [line.startswith("*") for line in lines] == [False] * 4 + [True]
    assert ["withdrawn" in line for line in lines] == [True] * 4 + [False]


def test_no_rollback_goes_to_a_version_that_never_came_into_force(
    store: AdapterStore, candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(*candidate("one"))
    before = (store.folder / POINTER_FILE).read_text()
    store.publish(*candidate("two"))
    (store.folder / POINTER_FILE).write_text(before)  # as a kill just before the pointer was replaced leaves it
    store.publish(*candidate("three"))
    store.rollback()
    assert served(store) == "one"


def test_rolling_back_passes_a_damaged_version_over(store: AdapterStore, candidate) -> None:
    for content in ("one", "two", "three"):
        store.publish(*candidate(content))
    (store.versions()[1].folder / ADAPTER_FILES[1]).write_text("half")
    store.rollback()
    assert served(store) == "one"


def test_a_candidate_that_is_not_what_its_manifest_says_changes_nothing(store: AdapterStore, candidate) -> None:
    store.publish(*candidate("one"))
    folder, manifest = candidate("two")
    (folder / ADAPTER_FILES[1]).write_text("other")
    with pytest.raises(AdapterError, match="checksum"):
        store.publish(folder, manifest)
    assert served(store) == "one" and len(store.versions()) == 1


@pytest.mark.parametrize("failing", ["copyfile", "rename", "replace", "write_manifest"])
def test_a_disk_that_refuses_leaves_the_former_adapter_and_says_so(
    store: AdapterStore, candidate, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    store.publish(*candidate("one"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    owner = {"copyfile": adapter_store.shutil, "rename": Path, "replace": os, "write_manifest": adapter_store}[failing]
    monkeypatch.setattr(owner, failing, refuse)
    with pytest.raises(UserError, match="No space left on device.*as it was"):
        store.publish(*candidate("two"))
    assert served(store) == "one"


def test_what_a_killed_publication_left_is_cleaned_up(store: AdapterStore, candidate) -> None:
    store.publish(*candidate("one"))
    left = store.folder / "versions" / ".partial-killed"
    left.mkdir()
    assert len(store.versions()) == 1
    store.publish(*candidate("two"))
    assert not left.exists()


KILLED_AT = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from server.lm.adapter_manifest import read_manifest
    from server.lm.adapter_store import AdapterStore

    root, data, candidate = map(Path, sys.argv[1:])
    store, manifest = AdapterStore(root, data), read_manifest(candidate)
    steps, at, is_child = 0, 0, False

    def step(event, arguments):
        global steps
        if is_child and event in ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "shutil.copyfile"):
            steps += 1
            if steps == at:
                os._exit(9)

    sys.addaudithook(step)
    while True:
        at += 1
        child = os.fork()
        if child == 0:
            is_child = True
            store.publish(candidate, manifest)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        folder = store.current()
        print(status, folder.name if folder else None, flush=True)
        if status != 9:
            break
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_kill_at_any_step_of_a_publication_leaves_a_whole_adapter_in_force(
    store: AdapterStore, candidate, tmp_path: Path
) -> None:
    first = store.publish(*candidate("one"))
    folder, manifest = candidate("two")
    write_manifest(folder, manifest)
    command = [
        sys.executable,
        "-P",
        "-c",
        KILLED_AT,
        str(tmp_path / "work" / "shop"),
        str(tmp_path / "data"),
        str(folder),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment)
    assert done.returncode == 0, done.stderr
    *killed, last = (line.split() for line in done.stdout.splitlines())
    assert len(killed) > 10 and last[0] == "0"
    assert killed[0] == ["9", first] and {status for status, _ in killed} == {"9"}
    assert [version for _, version in killed] == sorted(version for _, version in killed)  # none is gone meanwhile
    for each in store.versions():
        assert each.problem is None
    assert served(store) == "two"
    assert sorted(path.name for path in store.folder.iterdir()) == [CHANGE_LOCK_FILE, POINTER_FILE, "versions"]
    assert not list((store.folder / "versions").glob(".*"))


def test_each_step_of_a_publication_is_on_the_disk_before_the_next(
    store: AdapterStore, candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(*candidate("one"))
    done: list[str] = []

    def watched(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def note(*arguments: object) -> object:
            what = arguments[0]
            if isinstance(what, int):
                what = os.readlink(f"/proc/self/fd/{what}") if os.path.exists("/proc/self/fd") else "?"
            done.append(f"{name} {Path(str(what)).name}")
            return real(*arguments)

        monkeypatch.setattr(owner, name, note)

    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "rename")):
        watched(owner, name)
    store.publish(*candidate("two"))
    if os.name == "nt" or "fsync ?" in done:
        pytest.skip("what is flushed cannot be named here")
    aside = next(line.split()[1] for line in done if line.startswith("rename"))
    expected = [f"fsync {name}" for name in (*ADAPTER_FILES, MANIFEST_FILE, aside)]
    expected += [f"rename {aside}", "fsync versions", f"fsync {store.folder.name}"]
    expected += [f"fsync {POINTER_FILE}.partial", f"replace {POINTER_FILE}.partial", f"fsync {store.folder.name}"]
    assert done == expected


def test_what_another_living_process_writes_aside_is_left_alone(
    store: AdapterStore, candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(*candidate("one"))
    aside = store.folder / "versions" / ".partial-living"
    aside.mkdir()
    monkeypatch.setattr(adapter_store, "CHANGE_WAIT_S", 0.0)
    with held(store.folder / CHANGE_LOCK_FILE):
        for change in (lambda: store.publish(*candidate("two")), lambda: store.publish(*candidate("three"))):
            with pytest.raises(UserError, match=rf"locked for 0 s by process {os.getpid()}.*try again.*as it was"):
                change()
        assert aside.exists()
    assert served(store) == "one"


def test_a_second_adaptation_is_refused_with_the_process_that_goes_on(store: AdapterStore, candidate) -> None:
    with store.lock():
        said = rf"adapted already, by process {os.getpid()}; wait.*--resume"
        with pytest.raises(UserError, match=said), store.lock():
            raise AssertionError("both have it")
        store.publish(*candidate("one"))  # the run that goes on may publish
    with store.lock():
        assert served(store) == "one"


def test_what_goes_wrong_in_an_adaptation_gives_the_lock_back_as_it_is(store: AdapterStore) -> None:
    with pytest.raises(OSError, match="in between"), store.lock():
        raise OSError("in between")
    with store.lock():
        pass


def test_the_lock_goes_with_the_process_that_held_it(store: AdapterStore, tmp_path: Path) -> None:
    store.folder.mkdir(parents=True)
    program = (
        "import sys; from pathlib import Path; from server.lm.file_lock import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-P", "-c", program, str(store.folder / RUN_LOCK_FILE)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"by process {child.pid}"), store.lock():
            pass
        child.kill()
        child.wait()
    with store.lock():
        pass


def test_a_lock_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(UserError, match="cannot write to"), AdapterStore(tmp_path, tmp_path / "data").lock():
        pass


@pytest.mark.parametrize("pointer", ["", "gone", "../../elsewhere", "\udcff"])
def test_a_pointer_to_nothing_is_no_adapter(store: AdapterStore, candidate, pointer: str) -> None:
    store.publish(*candidate("one"))
    (store.folder / POINTER_FILE).write_bytes(pointer.encode("utf-8", "surrogateescape"))
    assert store.current() is None


def test_repositories_of_one_name_have_adapters_of_their_own(tmp_path: Path, candidate) -> None:
    one, other = (AdapterStore(tmp_path / place / "shop", tmp_path / "data") for place in ("a", "b"))
    one.publish(*candidate("one"))
    assert other.current() is None


@pytest.mark.parametrize("field", ["fingerprint", "tokenizer_fingerprint", "prompt_version"])
def test_an_adapter_for_something_else_is_refused_by_field_and_both_values(tmp_path: Path, candidate, field) -> None:
    folder, manifest = candidate("one")
    other = replace(BASE, **{field: 7 if field == "prompt_version" else "other" * 9})
    with pytest.raises(AdapterError, match=f"{field} = .*this model has (7|otherotherot); train"):
        check_fits(folder, manifest, other)
    check_fits(folder, manifest, BASE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"base": {}}', '{"base": {"fingerprint": "a"}, "files": {}}'])
def test_a_damaged_manifest_is_refused_by_its_path(candidate, text: str) -> None:
    folder, manifest = candidate("one")
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    (folder / "manifest.json").write_text(text)
    with pytest.raises(AdapterError, match="manifest.json"):
        read_manifest(folder)


def test_an_adapter_that_lacks_a_file_is_not_whole(candidate) -> None:
    folder, manifest = candidate("one")
    check_whole(folder, manifest)
    (folder / ADAPTER_FILES[0]).unlink()
    with pytest.raises(AdapterError, match="not whole"):
        check_whole(folder, manifest)
