"""The indexes of a session: which folder answers, what a change does, and what may never be read. Builds are fakes."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import indexed_folder
from server import indexing as module
from server.index import build as build_module
from server.index import preparing
from server.index.build_process import Result
from server.index.builder import Built
from server.index.changed import MAX_FRESH
from server.index.live import DEPENDENCIES, REPOSITORY, THIS_FILE, LiveIndex
from server.index.segment import Segment, SegmentFile
from server.indexed_folder import MAX_SINGLE_CHANGES
from server.indexing import Indexing
from server.lm.context import Document
from server.lm.errors import UserError
from server.lm.languages import language_for
from server.lsp.options import ServeOptions
from server.lsp.server import Server
from server.repository.files import File
from server.settings import IndexSettings, Settings
from tests.test_lsp_protocol import Client
from tests.test_session import Gate, model

WAIT_S = 20.0
CODE = "def {name}(first, second):\n    total = first + second\n    return total * {name}_factor\n"


def code(name: str) -> str:
    """A function long enough to be worth indexing."""
    return CODE.format(name=name)


def as_they_are(root: Path, *paths: str) -> dict[str, File]:
    """What a build remembers of files on disk."""
    found = {path: (root / path).stat() for path in paths}
    return {path: File(path, stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def stored(root: Path, *paths: str) -> Built:
    """What an earlier server has kept of files as they are now."""
    files = [SegmentFile(path, (root / path).read_bytes()) for path in paths]
    return Built({REPOSITORY: Segment.build(files)}, "kept", len(files), files=as_they_are(root, *paths))


class FakeBuilder:
    """Reads the Python files of a folder; waits and fails on demand."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.kept: dict[Path, Built] = {}
        self.error: Exception | None = None
        self.notice: str | None = None
        self.n_builds = 0
        self.is_stopped = False
        self.exclude: Sequence[str] = ()
        self.at_start: Callable[[], None] = lambda: None

    def stored(self, root: Path, exclude: Sequence[str]) -> Built | None:
        return self.kept.get(root)

    def build(self, root: Path, exclude: Sequence[str], progress: Callable[[int], None]) -> Built:
        self.at_start()
        self.n_builds += 1
        self.exclude = exclude
        paths = sorted(path for path in root.rglob("*.py") if path.name not in exclude)
        files = [SegmentFile(path.relative_to(root).as_posix(), path.read_bytes()) for path in paths]
        read = as_they_are(root, *(file.path for file in files))
        progress(50)
        self.begun.release()
        assert self.go.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        installed = Segment.build([SegmentFile("lib/installed.py", code("installed").encode())])
        segments = {REPOSITORY: Segment.build(files), DEPENDENCIES: installed}
        return Built(segments, f"g{self.n_builds}", len(files), notice=self.notice, files=read)

    def stop(self) -> None:
        self.is_stopped = True
        self.go.set()


@pytest.fixture
def builder() -> FakeBuilder:
    return FakeBuilder()


@pytest.fixture
def builds() -> list[tuple[Path, Future[None]]]:
    """The builds that were asked for."""
    return []


@pytest.fixture
def indexing(builder: FakeBuilder, builds: list[tuple[Path, Future[None]]]) -> Iterator[Indexing]:
    made = Indexing(builder)
    made.on_build = lambda folder, build: builds.append((folder, build))
    yield made
    made.shut_down()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with one file."""
    return workspace(tmp_path / "work", saved=code("saved"))


def workspace(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def document(file: Path, text: str, root: Path | None = None) -> Document:
    path = file.relative_to(root).as_posix() if root else file.as_posix()
    return Document(file.as_uri(), path, language_for("python"), text)


def settle(indexing: Indexing) -> None:
    """Returns when all that was asked for has been done."""
    for executor in (indexing._builds, indexing._reads, indexing._reads):
        executor.submit(lambda: None).result(WAIT_S)


def begin(indexing: Indexing, *folders: Path) -> None:
    indexing.use_roots(folders)
    indexing.start()
    settle(indexing)


def knows(indexing: Indexing, root: Path, word: str, name: str = "asking.py") -> bool:
    """Whether a cursor in an empty document can be answered with a text that holds `word`."""
    asking = document(root / name, "", root)
    live = indexing.index_for(asking)
    assert live is not None
    return any(
        word.encode() in file.text
        for tier in live.tiers(asking, 0)
        for number, file in enumerate(tier.segment.files())
        if number not in tier.hidden
    )


def test_what_is_on_disk_is_known_once_it_is_built(indexing: Indexing, folder: Path) -> None:
    indexing.use_roots([folder])
    assert not knows(indexing, folder, "def saved")
    assert indexing.status()[0]["isBuilt"] is False
    indexing.start()
    settle(indexing)
    assert knows(indexing, folder, "def saved")
    assert knows(indexing, folder, "def installed")
    (told,) = indexing.status()
    assert (told["folder"], told["isBuilt"], told["generation"], told["files"]) == (str(folder), True, "g1", 1)
    assert told["bytes"][REPOSITORY] > 0
    assert told["problem"] is None


def test_a_stored_index_answers_before_the_build_is_done(
    indexing: Indexing, builder: FakeBuilder, folder: Path
) -> None:
    builder.kept[folder] = stored(folder, "saved.py")
    workspace(folder, later=code("later"))
    builder.go.clear()
    indexing.use_roots([folder])
    indexing.start()
    assert builder.begun.acquire(timeout=WAIT_S)
    assert knows(indexing, folder, "def saved")
    assert not knows(indexing, folder, "def later")
    assert indexing.status()[0]["generation"] == "kept"
    assert indexing.percent(folder) == 50
    builder.go.set()
    settle(indexing)
    assert knows(indexing, folder, "def later")
    assert indexing.percent(folder) is None


def is_asked_for(indexing: Indexing, builder: FakeBuilder, folder: Path) -> None:
    """Returns when the stored index is in use, and the build that replaces it has begun but will not end."""
    builder.go.clear()
    indexing.use_roots([folder])
    indexing.start()
    assert builder.begun.acquire(timeout=WAIT_S)


def looked(indexing: Indexing) -> None:
    """Returns when the disk has been looked at where that was asked for; builds may go on."""
    for _ in range(3):
        indexing._reads.submit(lambda: None).result(WAIT_S)


def git_init(folder: Path) -> None:
    subprocess.run(["git", "init", "-q", str(folder)], check=True)


@pytest.mark.parametrize("ignored_by", [".gitignore", ".git/info/exclude"])
def test_of_what_was_stored_nothing_answers_that_went_or_is_ignored_since(
    indexing: Indexing, builder: FakeBuilder, folder: Path, ignored_by: str
) -> None:
    git_init(folder)
    names = ("kept", "gone", "ignored", "changed")
    workspace(folder, **{name: code(name) for name in names})
    builder.kept[folder] = stored(folder, *(f"{name}.py" for name in names))
    (folder / "gone.py").unlink()
    (folder / "changed.py").write_text(code("newer"))
    (folder / ignored_by).write_text("ignored.py\n")
    is_asked_for(indexing, builder, folder)
    assert knows(indexing, folder, "def kept")
    assert not any(knows(indexing, folder, f"def {name}") for name in ("gone", "ignored", "changed"))
    looked(indexing)
    assert knows(indexing, folder, "def newer"), "few files are read without waiting for the build"
    assert not any(knows(indexing, folder, f"def {name}") for name in ("gone", "ignored", "changed"))


def test_what_was_stored_does_not_answer_before_it_has_been_judged(
    indexing: Indexing, builder: FakeBuilder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder.kept[folder] = stored(folder, "saved.py")
    known: list[bool] = []
    outdated = Built.outdated

    def judge(*given: Any) -> frozenset[str]:
        known.append(knows(indexing, folder, "def saved"))
        return outdated(*given)

    monkeypatch.setattr(Built, "outdated", judge)
    is_asked_for(indexing, builder, folder)
    assert known == [False]
    assert knows(indexing, folder, "def saved")


@pytest.mark.parametrize("name", [".gitignore", "deep/.gitignore", ".git/info/exclude"])
def test_what_is_ignored_from_now_on_is_gone_though_no_build_ends(
    indexing: Indexing, builder: FakeBuilder, folder: Path, name: str
) -> None:
    git_init(folder)
    workspace(folder / "deep", canary=code("canary"), plain=code("plain"), read=code("before"))
    begin(indexing, folder)
    indexing.change(document(folder / "deep" / "canary_too.py", code("canary_too"), folder))
    (folder / "deep" / "read.py").write_text(code("read"))
    indexing.disk_changed([folder / "deep" / "read.py"])
    settle(indexing)
    assert knows(indexing, folder, "def canary") and knows(indexing, folder, "def canary_too")
    builder.begun.acquire()
    builder.go.clear()
    (folder / name).write_text("canary*\n")
    indexing.disk_changed([folder / name])
    assert not knows(indexing, folder, "canary"), "not even before it has been looked at"
    looked(indexing)
    assert not knows(indexing, folder, "canary")
    assert all(knows(indexing, folder, f"def {each}") for each in ("plain", "read", "saved"))


def test_builds_that_have_not_begun_are_not_asked_for_twice(
    indexing: Indexing, builder: FakeBuilder, folder: Path, builds: list[tuple[Path, Future[None]]]
) -> None:
    builder.go.clear()
    indexing.use_roots([folder])
    indexing.start()
    assert builder.begun.acquire(timeout=WAIT_S)
    for _ in range(5):
        indexing.refresh(folder)
    indexing.start()
    assert len(builds) == 2  # the one that runs may have passed over what has changed just now
    builder.go.set()
    settle(indexing)
    indexing.start()
    settle(indexing)
    assert builder.n_builds == 2, "a folder is started once"


def test_an_open_document_is_known_to_others_as_it_is_typed_and_unsaved(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    opened = document(folder / "opened.py", code("opened"), folder)
    indexing.change(opened)
    settle(indexing)
    assert knows(indexing, folder, "def opened")
    for name in ("typed", "typed_more"):
        indexing.change(document(folder / "opened.py", code(name), folder))
        assert knows(indexing, folder, f"def {name}("), "from the second change on nothing is waited for"
    assert not knows(indexing, folder, "def opened")
    assert not knows(indexing, folder, "def typed_more", name="opened.py"), "a document does not answer for itself"


def test_what_is_typed_overrules_what_is_saved_until_it_is_closed(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    file = folder / "saved.py"
    indexing.change(document(file, code("typed"), folder))
    settle(indexing)
    assert not knows(indexing, folder, "def saved")
    file.write_text(code("from_elsewhere"))
    indexing.disk_changed([file])
    indexing.refresh(folder)
    settle(indexing)
    assert knows(indexing, folder, "def typed")
    assert not knows(indexing, folder, "from_elsewhere")
    indexing.close(file.as_uri())
    settle(indexing)
    assert not knows(indexing, folder, "def typed")
    assert knows(indexing, folder, "from_elsewhere")


def test_a_document_that_is_opened_again_at_once_stays_open(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    opened = document(folder / "saved.py", code("typed"), folder)
    indexing.change(opened)
    settle(indexing)
    indexing.close(opened.uri)
    indexing.change(opened)
    settle(indexing)
    assert knows(indexing, folder, "def typed")
    assert not knows(indexing, folder, "def saved")


def test_closing_what_was_never_opened_does_nothing(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    indexing.close((folder / "saved.py").as_uri())
    indexing.close("not a uri")
    assert knows(indexing, folder, "def saved")


def test_files_that_come_change_move_and_go_on_disk(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    new, saved, moved = folder / "new.py", folder / "saved.py", folder / "moved.py"
    new.write_text(code("made"))
    indexing.disk_changed([new])
    settle(indexing)
    assert knows(indexing, folder, "def made")
    saved.rename(moved)
    new.unlink()
    indexing.disk_changed([saved, moved, new])
    settle(indexing)
    assert not knows(indexing, folder, "def made")
    assert not knows(indexing, folder, "def saved", name="moved.py"), "the former name answers no more"
    assert knows(indexing, folder, "def saved")


def test_many_changes_are_one_build_and_none_is_read_by_itself(
    indexing: Indexing, builder: FakeBuilder, folder: Path
) -> None:
    begin(indexing, folder)
    files = [folder / f"changed_{number}.py" for number in range(MAX_SINGLE_CHANGES + 1)]
    indexing.disk_changed(files[:-1])
    settle(indexing)
    assert builder.n_builds == 1
    files[0].write_text(code("branch"))
    indexing.disk_changed(files)
    settle(indexing)
    assert builder.n_builds == 2
    assert knows(indexing, folder, "def branch")


@pytest.mark.parametrize("is_build_failing", [False, True])
def test_files_that_change_or_go_stop_answering_at_once_however_many(
    indexing: Indexing, builder: FakeBuilder, folder: Path, is_build_failing: bool
) -> None:
    names = [f"file_{number:03}" for number in range(2 * MAX_SINGLE_CHANGES)]
    workspace(folder, **{name: code(name) for name in names})
    begin(indexing, folder)
    assert all(knows(indexing, folder, f"def {name}(") for name in names)
    builder.error = UserError("no") if is_build_failing else None
    for name in names[::2]:
        (folder / f"{name}.py").unlink()
    for name in names[1::2]:
        (folder / f"{name}.py").write_text(code(f"new_{name}"))
    indexing.disk_changed([folder / f"{name}.py" for name in names])
    assert not any(knows(indexing, folder, f"def {name}(") for name in names)
    settle(indexing)
    assert not any(knows(indexing, folder, f"def {name}(") for name in names)
    assert knows(indexing, folder, "def saved")
    assert all(knows(indexing, folder, f"def new_{name}(") for name in names[1::2]) is not is_build_failing


def test_a_build_that_fails_leaves_nothing_that_went_unnoticed(
    indexing: Indexing, builder: FakeBuilder, folder: Path
) -> None:
    workspace(folder, gone=code("gone"), read=code("before"))
    begin(indexing, folder)
    (folder / "read.py").write_text(code("read"))
    indexing.disk_changed([folder / "read.py"])
    (folder / "gone.py").unlink()
    builder.error = UserError("no")
    indexing.refresh(folder)
    settle(indexing)
    assert not knows(indexing, folder, "def gone")
    assert knows(indexing, folder, "def saved") and knows(indexing, folder, "def read")


@pytest.mark.parametrize("name", ["moved", "moved.into.parts", "moved.js"])
def test_of_a_folder_that_is_told_to_be_gone_no_file_answers(
    indexing: Indexing, builder: FakeBuilder, folder: Path, name: str
) -> None:
    workspace(folder / name / "deep", inner=code("inner"), read=code("before"))
    workspace(folder, moved_not=code("moved_not"))
    begin(indexing, folder)
    (folder / name / "deep" / "read.py").write_text(code("read"))
    indexing.disk_changed([folder / name / "deep" / "read.py"])
    settle(indexing)
    builder.begun.acquire()
    builder.go.clear()
    (folder / name).rename(folder.parent / "elsewhere")
    indexing.disk_changed([folder / name])
    for _ in range(2):
        assert not knows(indexing, folder, "def inner") and not knows(indexing, folder, "def read")
        assert knows(indexing, folder, "def moved_not")
        looked(indexing)
    assert builder.begun.acquire(timeout=WAIT_S), "and all is looked at anew"


def test_of_a_folder_that_has_only_changed_the_files_answer_again(
    indexing: Indexing, builder: FakeBuilder, folder: Path
) -> None:
    workspace(folder / "inner", inside=code("inside"))
    begin(indexing, folder)
    builder.begun.acquire()
    builder.go.clear()
    indexing.disk_changed([folder / "inner"])
    looked(indexing)
    assert knows(indexing, folder, "def inside")


def test_of_a_workspace_that_is_gone_nothing_answers(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    folder.rename(folder.parent / "elsewhere")
    indexing.disk_changed([folder.parent])
    assert not knows(indexing, folder, "def saved")
    settle(indexing)
    assert not knows(indexing, folder, "def saved")


def test_what_goes_during_a_build_does_not_answer_when_it_ends(
    indexing: Indexing, builder: FakeBuilder, folder: Path
) -> None:
    names = [f"file_{number}" for number in range(MAX_SINGLE_CHANGES + 1)]
    workspace(folder, **{name: code(name) for name in names})
    is_asked_for(indexing, builder, folder)
    for name in names:
        (folder / f"{name}.py").unlink()
    indexing.disk_changed([folder / f"{name}.py" for name in names])
    known: list[bool] = []
    builder.at_start = lambda: known.append(any(knows(indexing, folder, f"def {name}(") for name in names))
    builder.go.set()
    settle(indexing)
    assert known == [False], "when the second build begins, the first is in use"
    assert knows(indexing, folder, "def saved")


@pytest.mark.parametrize("is_changed_meanwhile", [False, True])
def test_what_is_read_while_a_build_ends_does_not_overrule_it(
    indexing: Indexing,
    builder: FakeBuilder,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_changed_meanwhile: bool,
) -> None:
    opened = document(folder / "saved.py", code("typed"), folder)
    begin(indexing, folder)
    indexing.change(opened)
    settle(indexing)
    builder.begun.acquire()
    reading, go_on = threading.Event(), threading.Event()
    read_text = indexed_folder.read_text

    def read_and_wait(*given: Any) -> Any:
        found = read_text(*given)
        reading.set()
        assert go_on.wait(WAIT_S)
        return found

    monkeypatch.setattr(indexed_folder, "read_text", read_and_wait)
    indexing.close(opened.uri)
    assert reading.wait(WAIT_S)
    if is_changed_meanwhile:
        (folder / "saved.py").write_text(code("newer"))
        indexing.disk_changed([folder / "saved.py"])
    indexing.refresh(folder)
    indexing._builds.submit(lambda: None).result(WAIT_S)
    assert knows(indexing, folder, "def newer" if is_changed_meanwhile else "def saved")
    go_on.set()
    settle(indexing)
    looked(indexing)
    assert knows(indexing, folder, "def newer") is is_changed_meanwhile
    assert knows(indexing, folder, "def saved") is not is_changed_meanwhile
    assert not knows(indexing, folder, "def typed")


def test_the_text_of_a_file_that_goes_is_taken_from_its_copy(
    indexing: Indexing, builder: FakeBuilder, folder: Path
) -> None:
    workspace(folder, copy=code("saved"), other=code("other"))
    kept = stored(folder, "saved.py")
    size = len(code("saved"))
    builder.kept[folder] = replace(kept, duplicates={size: ["other.py", "missing.py", "copy.py"]})
    is_asked_for(indexing, builder, folder)
    assert not knows(indexing, folder, "def other")
    (folder / "saved.py").unlink()
    indexing.disk_changed([folder / "saved.py"])
    assert not knows(indexing, folder, "def saved")
    looked(indexing)
    assert knows(indexing, folder, "def saved") and not knows(indexing, folder, "def saved", name="copy.py")


@pytest.mark.parametrize("name, is_built_anew", [(".gitignore", True), ("moved_folder", True), ("a.lock", False)])
def test_what_may_concern_many_files_is_a_build(
    indexing: Indexing, builder: FakeBuilder, folder: Path, name: str, is_built_anew: bool
) -> None:
    begin(indexing, folder)
    indexing.disk_changed([folder / name, folder / ".git" / "HEAD", folder.parent / "outside.py"])
    settle(indexing)
    assert builder.n_builds == 1 + is_built_anew


def test_what_changes_during_a_build_is_not_lost(indexing: Indexing, builder: FakeBuilder, folder: Path) -> None:
    begin(indexing, folder)
    builder.begun.acquire()
    builder.go.clear()
    indexing.refresh(folder)
    assert builder.begun.acquire(timeout=WAIT_S)  # it has read the files
    (folder / "saved.py").unlink()
    (folder / "new.py").write_text(code("made"))
    indexing.disk_changed([folder / "saved.py", folder / "new.py"])
    indexing._reads.submit(lambda: None).result(WAIT_S)
    assert not knows(indexing, folder, "def saved")
    builder.go.set()
    settle(indexing)
    assert not knows(indexing, folder, "def saved")
    assert knows(indexing, folder, "def made")


def test_ignored_files_are_not_known_though_they_are_open_or_change(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    (folder / ".gitignore").write_text("private*.py\n")
    on_disk, opened = folder / "private.py", folder / "private_too.py"
    on_disk.write_text(code("canary"))
    indexing.change(document(opened, code("canary"), folder))
    assert not knows(indexing, folder, "canary"), "before it has been found out"
    indexing.disk_changed([on_disk])
    settle(indexing)
    assert not knows(indexing, folder, "canary")
    indexing.change(document(opened, code("canary_too"), folder))
    assert not knows(indexing, folder, "canary")
    indexing.close(opened.as_uri())
    settle(indexing)
    assert not knows(indexing, folder, "canary")


def test_an_open_file_that_is_ignored_from_now_on_is_forgotten(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    indexing.change(document(folder / "opened.py", code("canary"), folder))
    settle(indexing)
    assert knows(indexing, folder, "canary")
    (folder / ".gitignore").write_text("opened.py\n")
    indexing.disk_changed([folder / ".gitignore"])
    settle(indexing)
    assert not knows(indexing, folder, "canary")


@pytest.mark.parametrize(
    "name, text",
    [
        (".env.py", code("canary")),
        ("id_rsa", code("canary")),
        ("node_modules/canary.js", code("canary")),
        ("keys.py", f'{code("plain")}password = "{"canary" + "Zq8Rt2Lp6Vx9Kd3Mn7Bw5Hc"}"\n'),
        ("huge.py", code("canary") * 10_000),
    ],
)
def test_what_may_not_be_read_is_not_known_from_an_open_document(
    indexing: Indexing, folder: Path, name: str, text: str
) -> None:
    begin(indexing, folder)
    indexing.change(document(folder / name, text, folder))
    settle(indexing)
    assert not knows(indexing, folder, "canary")


def test_what_is_excluded_is_gone_at_once(indexing: Indexing, builder: FakeBuilder, folder: Path) -> None:
    begin(indexing, folder)
    indexing.change(document(folder / "opened.py", code("opened"), folder))
    indexing.change(document(folder / "kept.py", code("kept"), folder))
    settle(indexing)
    assert all(knows(indexing, folder, f"def {name}") for name in ("opened", "saved", "kept"))
    builder.begun.acquire()
    builder.go.clear()
    indexing.configure(Settings(exclude=("opened.py", "saved.py")))
    for word, is_known in (("def opened", False), ("def saved", False), ("def kept", True)):
        assert knows(indexing, folder, word) is is_known
    builder.go.set()
    settle(indexing)
    assert builder.exclude == ("opened.py", "saved.py")
    for word, is_known in (("def opened", False), ("def saved", False), ("def installed", True)):
        assert knows(indexing, folder, word) is is_known


def test_a_build_under_former_settings_is_not_used(indexing: Indexing, builder: FakeBuilder, folder: Path) -> None:
    builder.go.clear()
    indexing.use_roots([folder])
    indexing.start()
    assert builder.begun.acquire(timeout=WAIT_S)
    indexing.configure(Settings(exclude=("saved.py",)))
    known: list[bool] = []
    builder.at_start = lambda: known.append(knows(indexing, folder, "def saved"))
    builder.go.set()
    settle(indexing)
    assert known == [False], "when the second build begins, the first has ended"
    assert not knows(indexing, folder, "def saved")


def test_settings_that_come_before_the_start_do_not_build(
    indexing: Indexing, builder: FakeBuilder, folder: Path
) -> None:
    indexing.use_roots([folder])
    indexing.configure(Settings(exclude=("x.py",)))
    settle(indexing)
    assert builder.n_builds == 0
    indexing.start()
    settle(indexing)
    assert builder.n_builds == 1


def test_switched_off_there_is_no_index_and_switched_on_there_is_one_again(
    indexing: Indexing, builder: FakeBuilder, folder: Path
) -> None:
    begin(indexing, folder)
    opened = document(folder / "opened.py", code("opened"), folder)
    off = Settings(index=IndexSettings(enabled=False))
    indexing.configure(off)
    indexing.change(opened)
    assert indexing.index_for(opened) is None
    indexing.refresh(folder)
    indexing.disk_changed([folder / "saved.py"])
    settle(indexing)
    assert builder.n_builds == 1
    assert indexing.status()[0]["isBuilt"] is False
    indexing.configure(Settings())
    settle(indexing)
    assert knows(indexing, folder, "def opened")
    assert knows(indexing, folder, "def saved")


def test_dependencies_can_be_switched_off(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    indexing.configure(Settings(index=IndexSettings(dependencies=False)))
    settle(indexing)
    assert knows(indexing, folder, "def saved")
    assert not knows(indexing, folder, "def installed")


def test_of_folders_within_folders_the_innermost_answers(indexing: Indexing, tmp_path: Path) -> None:
    outer = workspace(tmp_path / "outer", of_outer=code("of_outer"))
    inner = workspace(outer / "inner", of_inner=code("of_inner"))
    begin(indexing, outer, inner)
    assert knows(indexing, inner, "def of_inner")
    assert not knows(indexing, inner, "def of_outer")
    assert knows(indexing, outer, "def of_outer")
    assert knows(indexing, outer, "def of_inner")
    (inner / "of_inner.py").unlink()
    indexing.disk_changed([inner / "of_inner.py"])
    settle(indexing)
    assert not knows(indexing, inner, "def of_inner")
    assert not knows(indexing, outer, "def of_inner"), "what is gone is gone from every folder"


def test_a_folder_whose_name_begins_like_another_is_another(indexing: Indexing, tmp_path: Path) -> None:
    one, two = workspace(tmp_path / "one", a=code("first")), workspace(tmp_path / "one_more", b=code("other"))
    begin(indexing, one, two)
    assert knows(indexing, two, "def other")
    assert not knows(indexing, two, "def first")


def test_documents_outside_of_every_folder_know_each_other_alone(indexing: Indexing, folder: Path) -> None:
    begin(indexing, folder)
    loose = document(folder.parent / "elsewhere" / "loose.py", code("loose"))
    asking = document(folder.parent / "elsewhere" / "asking.py", "")
    indexing.change(loose)
    live = indexing.index_for(asking)
    assert live is not None
    assert live is not indexing.index_for(document(folder / "a.py", "", folder))
    assert [b"def loose" in file.text for tier in live.tiers(asking, 0) for file in tier.segment.files()].count(True)
    assert not knows(indexing, folder, "def loose")
    indexing.close(loose.uri)
    assert not any(b"def loose" in file.text for tier in live.tiers(asking, 0) for file in tier.segment.files())


class Prepared:
    """Waits for changed texts to be made searchable where nobody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._done = threading.Semaphore(0)
        prepare = LiveIndex.prepare

        def prepare_and_tell(live: LiveIndex) -> None:
            prepare(live)
            self._done.release()

        monkeypatch.setattr(LiveIndex, "prepare", prepare_and_tell)
        monkeypatch.setattr(preparing, "QUIET_S", 0.0)

    def wait(self, live: LiveIndex) -> None:
        while not self._is_ready(live):
            assert self._done.acquire(timeout=WAIT_S)

    def _is_ready(self, live: LiveIndex) -> bool:
        together = live._searchable._together[0] if live._searchable._together is not None else {}
        return not any(each.may_need_segment and together.get(path) is not each for path, each in live._changed.items())


@pytest.mark.parametrize("is_loose", [False, True])
def test_open_documents_are_made_searchable_before_anybody_searches(
    indexing: Indexing, folder: Path, monkeypatch: pytest.MonkeyPatch, is_loose: bool
) -> None:
    root = folder.parent / "elsewhere" if is_loose else folder
    begin(indexing, folder)
    opened = [document(root / f"open_{number}.py", code(f"old_{number}"), root) for number in range(3 * MAX_FRESH)]
    for each in opened:
        indexing.change(each)
    settle(indexing)
    prepared = Prepared(monkeypatch)
    for number, each in enumerate(opened):
        indexing.change(replace(each, text=code(f"new_{number}")))
    asking = document(root / "asking.py", "", root)
    live = indexing.index_for(asking)
    assert live is not None
    prepared.wait(live)
    built: list[int] = []
    build = Segment.build
    monkeypatch.setattr(Segment, "build", lambda files: built.append(len(files)) or build(files))
    (this_file,) = (tier for tier in live.tiers(asking, 0) if tier.name == THIS_FILE)
    assert len(built) == 1 and this_file.segment.n_bytes <= 2, "only the document at hand"
    assert all(knows(indexing, root, f"def new_{number}(") for number in range(3 * MAX_FRESH))


def test_other_folders_take_their_open_documents_with_them(indexing: Indexing, folder: Path, tmp_path: Path) -> None:
    other = workspace(tmp_path / "other", there=code("there"))
    begin(indexing, folder)
    indexing.change(document(other / "opened.py", code("opened")))
    begin(indexing, other)
    assert knows(indexing, other, "def opened")
    assert knows(indexing, other, "def there")
    assert [told["folder"] for told in indexing.status()] == [str(other)]


@pytest.mark.parametrize("error, says", [(UserError("no room; make some"), "make some"), (ValueError(), "log")])
def test_a_build_that_fails_is_one_problem_until_the_next_succeeds(
    indexing: Indexing, builder: FakeBuilder, folder: Path, error: Exception, says: str
) -> None:
    builder.error = error
    begin(indexing, folder)
    (problem,) = indexing.problems
    assert says in problem
    indexing.refresh(folder)
    settle(indexing)
    assert indexing.problems == (problem,)
    assert indexing.status()[0]["problem"] == problem
    indexing.change(document(folder / "opened.py", code("opened"), folder))
    settle(indexing)
    assert knows(indexing, folder, "def opened"), "what is open is known all the same"
    builder.error = None
    indexing.refresh(folder)
    settle(indexing)
    assert not indexing.problems


def test_memory_is_bounded_though_no_build_succeeds(
    indexing: Indexing, builder: FakeBuilder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexed_folder, "MAX_CHANGED_BYTES", 500)
    builder.error = UserError("no")
    begin(indexing, folder)
    for number in range(40):
        file = folder / f"file_{number}.py"
        file.write_text(code(f"name_{number}"))
        indexing.disk_changed([file])
        settle(indexing)
    live = indexing.index_for(document(folder / "asking.py", "", folder))
    assert live is not None
    assert live.n_changed_bytes < 2 * 500 + 200
    assert builder.n_builds == 1, "what has just failed is not tried again at once"
    monkeypatch.setattr(indexed_folder, "RETRY_SECONDS", -1.0)
    monkeypatch.setattr(indexed_folder, "PAUSE_PER_BUILD", -1.0)
    builder.error = None
    indexing.disk_changed([folder / "file_1.py"])
    settle(indexing)
    assert builder.n_builds == 2
    assert live.n_changed_bytes == 0


def test_open_documents_that_may_not_be_read_do_not_hide_how_much_is_held(
    indexing: Indexing, builder: FakeBuilder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexed_folder, "MAX_CHANGED_BYTES", 500)
    (folder / ".gitignore").write_text("ignored.py\n")
    begin(indexing, folder)
    indexing.change(document(folder / "ignored.py", "x" * 100_000, folder))
    for number in range(8):
        (folder / f"file_{number}.py").write_text(code(f"name_{number}"))
        indexing.disk_changed([folder / f"file_{number}.py"])
        settle(indexing)
    assert builder.n_builds == 2


def test_many_files_that_change_one_by_one_are_a_build_at_last(
    indexing: Indexing, builder: FakeBuilder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexed_folder, "MAX_CHANGED_FILES", 3)
    begin(indexing, folder)
    for number in range(5):
        indexing.disk_changed([folder / f"gone_{number}.py"])
        settle(indexing)
    assert builder.n_builds == 2


def test_the_disk_is_looked_at_now_and_then(
    indexing: Indexing, builder: FakeBuilder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(indexing, folder)
    indexing.look_around()
    settle(indexing)
    assert builder.n_builds == 1
    monkeypatch.setattr(module, "RESCAN_SECONDS", -1.0)
    monkeypatch.setattr(indexed_folder, "PAUSE_PER_BUILD", -1.0)
    indexing.watches = True
    indexing.look_around()
    settle(indexing)
    assert builder.n_builds == 1
    indexing.watches = False
    indexing.look_around()
    settle(indexing)
    assert builder.n_builds == 2


async def test_the_user_is_told_once_that_a_workspace_is_too_large(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HereAndNow:
        """The build of the child process, in this one."""

        def __init__(self, root: Path, output: Path, *_: object) -> None:
            self._root, self._output = root, output

        def events(self) -> Iterator[Result]:
            yield build_module.build(self._root, self._output)

        def stop(self) -> None: ...

    monkeypatch.setattr("server.index.build_process.start_build", HereAndNow)
    monkeypatch.setattr(build_module, "MAX_REPOSITORY_BYTES", len(code("saved")))
    server = Server(ServeOptions(), lambda choice: model(Gate()))
    client = Client(server)
    workspace(folder, other=code("other"))
    await client.initialize(rootUri=folder.as_uri())

    def is_shown() -> bool:
        """Whether a build has ended, and all has been said of it."""
        going_on = [task.get_coro().__name__ for task in server._background]  # type: ignore[union-attr]
        return bool(server.session.indexing.status()[0]["isBuilt"]) and "show" not in going_on

    n_left_out = []
    for number in range(3):
        if number:
            workspace(folder, **{f"more_{number}": code(f"m{number}")})
            server.session.indexing.refresh(folder)
        async with asyncio.timeout(WAIT_S):
            while not is_shown():
                await asyncio.sleep(0)
        n_left_out.append(server.session.indexing.status()[0]["dropped"]["beyond the limit"])
    assert n_left_out == [1, 2, 3]
    shown = [each["params"]["message"] for each in client.messages if each.get("method") == "window/showMessage"]
    assert len([text for text in shown if f"{folder} holds more than" in text]) == 1, shown
    server.session.close()
    assert server.session.join(WAIT_S)


def test_shutting_down_ends_the_build_and_takes_nothing_more(
    indexing: Indexing, builder: FakeBuilder, folder: Path, builds: list[tuple[Path, Future[None]]]
) -> None:
    builder.go.clear()
    builder.error = UserError("killed")
    indexing.use_roots([folder])
    indexing.start()
    assert builder.begun.acquire(timeout=WAIT_S)
    indexing.refresh(folder)
    indexing.shut_down()
    assert builder.is_stopped
    (_, running), (_, waiting) = builds
    running.result(WAIT_S)
    assert waiting.cancelled()
    assert indexing.problems == ()
    opened = document(folder / "opened.py", code("opened"), folder)
    indexing.change(opened)
    indexing.close(opened.uri)
    indexing.disk_changed([folder / "saved.py"])
    indexing.refresh(folder)
    assert builder.n_builds == 1
