"""The indexes of a session: which folder answers, what a change does, and what may never be read. Builds are fakes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from server import indexed_folder
from server import indexing as module
from server.index.builder import Built
from server.index.live import DEPENDENCIES, REPOSITORY
from server.index.segment import Segment, SegmentFile
from server.indexing import MAX_SINGLE_CHANGES, Indexing
from server.lm.context import Document
from server.lm.errors import UserError
from server.lm.languages import language_for
from server.settings import IndexSettings, Settings

WAIT_S = 20.0
CODE = "def {name}(first, second):\n    total = first + second\n    return total * {name}_factor\n"


def code(name: str) -> str:
    """A function long enough to be worth indexing."""
    return CODE.format(name=name)


class FakeBuilder:
    """Reads the Python files of a folder; waits and fails on demand."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.kept: dict[Path, Built] = {}
        self.error: Exception | None = None
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
        progress(50)
        self.begun.release()
        assert self.go.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        installed = Segment.build([SegmentFile("lib/installed.py", code("installed").encode())])
        return Built({REPOSITORY: Segment.build(files), DEPENDENCIES: installed}, f"g{self.n_builds}", len(files))

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
    builder.kept[folder] = Built({REPOSITORY: Segment.build([SegmentFile("a.py", b"def before(): pass\n")])}, "kept", 1)
    builder.go.clear()
    indexing.use_roots([folder])
    indexing.start()
    assert builder.begun.acquire(timeout=WAIT_S)
    assert knows(indexing, folder, "before")
    assert indexing.status()[0]["generation"] == "kept"
    assert indexing.percent(folder) == 50
    builder.go.set()
    settle(indexing)
    assert not knows(indexing, folder, "before")
    assert indexing.percent(folder) is None


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
