"""The repository's own text in the completions of a server process: what it knows, when, and what it must never say."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.wire import WAIT_S, Message, Process

from server.lm.model import load_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Start = Callable[..., Process]
SETTINGS = {
    "completion.debounceMs": 0,
    "completion.minConfidence": 0,
    "completion.deadlineMs": 60_000,
    "completion.maxNewTokens": 24,
    "hover.generate": "never",
}
WATCHING = {"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}}
CREATED, CHANGED, DELETED = 1, 2, 3
BODY = "    total = first + second\n    return total\n\n\n"
# What each file offers behind `value = `, told apart by its last word.
CALL = "value = compute_checksum_of({word})\n"


def text_with(word: str) -> str:
    return f"def about_{word}(first, second):\n{BODY}{CALL.format(word=word)}"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder in which the shipped model is converted already."""
    folder: Path = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(folder))
        load_model("default", threads=1)
    return folder


@pytest.fixture
def home(tmp_path: Path, converted: Path) -> Path:
    """A folder of this test's own; the converted model, which is only read, is that of all tests."""
    folder: Path = shutil.copytree(converted, tmp_path / "home", copy_function=os.link)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A workspace of one file, the one that is typed in; no git, so that `.gitignore` alone says what is ignored."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "asking.py").write_text("import os\n")
    return folder


class Editor:
    """A server and the one document in which its user types."""

    def __init__(self, server: Process, work: Path, **settings: Any) -> None:
        self.server, self.work = server, work
        server.initialize(
            rootUri=work.as_uri(), initializationOptions=SETTINGS | settings, capabilities=WATCHING | {"window": WINDOW}
        )
        self.version = 1
        self.uri = server.open("import os\n", (work / "asking.py").as_uri())

    def status(self) -> Message:
        (folder,) = self.server.execute("loracle.status")["index"]
        return dict(folder)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Asks again until it is so: files are read in the background, and nobody is told when."""
        ends_at = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < ends_at, self.status()
            time.sleep(0.05)

    def wait_for_index(self) -> Message:
        self.wait_until(lambda: bool(self.status()["isBuilt"]) and self.server.execute("loracle.status")["model"])
        return self.status()

    def offered(self, typed: str) -> str:
        """What is offered behind `typed` on a line of its own, the line whole."""
        self.version += 1
        document = {"uri": self.uri, "version": self.version}
        text = f"import os\n\n\n{typed}"
        self.server.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})
        items = self.server.complete(self.uri, 3, len(typed))
        return typed + items[0]["insertText"] if items else typed

    def told(self, *changes: tuple[Path, int]) -> None:
        events = [{"uri": path.as_uri(), "type": kind} for path, kind in changes]
        self.server.notify("workspace/didChangeWatchedFiles", {"changes": events})


WINDOW = {"workDoneProgress": True}


@pytest.fixture
def edit(start: Start, work: Path, home: Path) -> Iterator[Callable[..., Editor]]:
    """Starts a server in the workspace."""

    def begin(folder: Path = work, cache: Path = home, **settings: Any) -> Editor:
        environment = dict.fromkeys(("HOME", "USERPROFILE", "XDG_CONFIG_HOME"), str(home))
        server = start("--threads", "1", model="default", XDG_CACHE_HOME=str(cache), **environment)
        return Editor(server, folder, **settings)

    yield begin


Edit = Callable[..., Editor]


def test_a_function_written_in_one_buffer_is_offered_in_another_at_the_next_key(edit: Edit, work: Path) -> None:
    editor = edit()
    editor.wait_for_index()
    other = editor.server.open("import sys\n", (work / "other.py").as_uri())
    editor.wait_until(lambda: "sys" in editor.offered("import s"))  # it has been found out that it may be read
    assert "fold_" not in editor.offered("value = fold_")[len("value = fold_") :]
    text = "def fold_the_corners(paper, angle):\n    return paper.rotate(angle)\n"
    editor.server.change(other, 2, text, 1, 0)
    assert editor.offered("value = fold_").startswith("value = fold_the_corners")
    assert not (work / "other.py").exists()


def test_what_supported_a_suggestion_is_named_by_file_and_line(edit: Edit, work: Path) -> None:
    (work / "supporting.py").write_text(text_with("amber"))
    editor = edit()
    editor.wait_for_index()
    assert editor.offered("value = compute_ch") == "value = compute_checksum_of(amber)"
    why = editor.server.execute("loracle.why")
    place = {"path": "supporting.py", "line": 6, "tier": "repository"}
    supported = [token for token in why["tokens"] if place in token["sources"]]
    assert supported
    assert all(0 < token["indexShare"] <= 1 for token in supported)


def test_a_file_that_is_deleted_or_moved_stops_answering(edit: Edit, work: Path) -> None:
    one, two = work / "one.py", work / "two.py"
    one.write_text(text_with("amber"))
    editor = edit()
    editor.wait_for_index()
    assert editor.offered("value = compute_ch").endswith("(amber)")
    one.rename(two)
    editor.told((one, DELETED), (two, CREATED))
    editor.wait_until(lambda: "two.py" in sources(editor, "value = compute_che"))
    assert "one.py" not in sources(editor, "value = compute_chec")
    two.unlink()
    editor.told((two, DELETED))
    editor.wait_until(lambda: "amber" not in editor.offered("value = compute_chec"))
    assert "amber" not in editor.offered("value = compute_checks")


def sources(editor: Editor, typed: str) -> set[str]:
    """The files that supported what is offered behind `typed`."""
    editor.offered(typed)
    tokens = editor.server.execute("loracle.why")["tokens"]
    return {source["path"] for token in tokens for source in token["sources"] if source["path"] != "asking.py"}


def test_what_is_ignored_excluded_or_secret_is_never_offered(edit: Edit, work: Path) -> None:
    canary = "canary"
    (work / ".gitignore").write_text("ignored*.py\nhidden/\n")
    (work / "hidden").mkdir()
    for name in ("ignored.py", "excluded.py", "hidden/inner.py", ".env"):
        (work / name).write_text(text_with(canary))
    secret = "Zq8Rt2Lp6Vx9Kd3Mn7Bw5Hc"
    (work / "plain.py").write_text(f'{text_with("amber")}api_key = "{secret}"\nclient = connect(api_key)\n')
    editor = edit(exclude=["excluded.py"])
    editor.wait_for_index()
    for name in ("ignored_too.py", "hidden/open.py", "excluded.py", ".env"):
        editor.server.open(text_with(canary), (work / name).as_uri())
    editor.told(*((work / name, CHANGED) for name in ("ignored.py", "hidden/inner.py", "excluded.py")))
    editor.server.open(text_with("cobalt"), (work / "fine.py").as_uri())
    # The last of all that was asked for is known, so that all before it has been looked at.
    editor.wait_until(lambda: "about_cobalt" in editor.offered("value = about_co"))
    for typed in ("value = compute_ch", "value = compute_checksum_of(", "value = compute_checksum_of(c", "def about_c"):
        assert canary not in editor.offered(typed)
    for typed in ('api_key = "', "api_key = ", 'api_key = "Zq8', "client = connect("):
        assert secret[4:] not in editor.offered(typed)
    assert editor.status()["dropped"]["ignored"] >= 1
    # Each of them would have been offered, were it another file.
    editor.server.open(text_with("canary"), (work / "another.py").as_uri())
    editor.wait_until(lambda: "about_canary" in editor.offered("value = about_can"))


def test_what_is_excluded_while_the_server_runs_is_gone_at_once(edit: Edit, work: Path) -> None:
    (work / "kept.py").write_text(text_with("amber"))
    editor = edit()
    editor.wait_for_index()
    assert editor.offered("value = compute_ch").endswith("(amber)")
    editor.server.notify("workspace/didChangeConfiguration", {"settings": {"loracle": {"exclude": ["kept.py"]}}})
    assert "amber" not in editor.offered("value = compute_che")


def test_a_restart_finds_the_index(edit: Edit, work: Path) -> None:
    (work / "kept.py").write_text(text_with("amber"))
    editor = edit()
    before = editor.wait_for_index()
    assert editor.server.leave() == 0
    editor = edit()
    assert editor.wait_for_index()["generation"] == before["generation"]
    assert editor.offered("value = compute_ch").endswith("(amber)")


def test_what_went_or_is_ignored_since_the_last_server_is_not_offered(edit: Edit, work: Path) -> None:
    for word in ("amber", "cobalt"):
        (work / f"{word}.py").write_text(text_with(word))
    (work / "linen.py").write_text(text_with("linen"))
    editor = edit()
    generation = editor.wait_for_index()["generation"]
    assert editor.server.leave() == 0
    (work / "amber.py").unlink()
    (work / ".gitignore").write_text("cobalt.py\n")
    editor = edit()
    editor.wait_for_index()
    for typed in ("def about_am", "def about_co", "value = compute_ch", "value = compute_checksum_of("):
        assert not {"amber.py", "cobalt.py"} & sources(editor, typed)
        assert not any(word in editor.offered(typed) for word in ("amber", "cobalt"))
    assert editor.offered("value = compute_ch").endswith("(linen)")
    editor.wait_until(lambda: editor.status()["generation"] != generation)


def test_a_folder_that_is_told_to_be_gone_stops_answering(edit: Edit, work: Path) -> None:
    (work / "v1.2").mkdir()
    (work / "v1.2" / "inner.py").write_text(text_with("amber"))
    editor = edit()
    editor.wait_for_index()
    assert editor.offered("value = compute_ch").endswith("(amber)")
    (work / "v1.2").rename(work.parent / "elsewhere")
    editor.told((work / "v1.2", DELETED))
    assert "amber" not in editor.offered("value = compute_che")


def test_indexing_is_shown_as_progress(edit: Edit) -> None:
    editor = edit()
    begun = editor.server.wait_for(lambda message: "indexing" in json.dumps(message.get("params", {})))
    assert begun["method"] == "$/progress"
    assert begun["params"]["value"]["title"] == "Loracle: indexing work"
    token = begun["params"]["token"]
    end = {"token": token, "value": {"kind": "end"}}
    editor.server.wait_for(lambda message: message.get("params") == end)


def test_an_index_that_cannot_be_kept_is_one_sentence_and_completions_come_all_the_same(
    edit: Edit, work: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()  # where a folder is needed: refused to root as well
    editor = edit(cache=tmp_path / "file")
    shown = editor.server.wait_for(
        lambda message: message.get("method") == "window/showMessage" and "index" in message["params"]["message"]
    )["params"]["message"]
    assert f"cannot keep the index of {work}" in shown
    assert "XDG_CACHE_HOME" in shown
    assert "Traceback" not in shown
    editor.server.open(text_with("cobalt"), (work / "other.py").as_uri())
    editor.wait_until(lambda: editor.offered("value = compute_ch").endswith("(cobalt)"))
    assert editor.status()["problem"] in shown


def test_another_branch_with_thousands_of_files_stalls_nothing(edit: Edit, work: Path) -> None:
    files = [work / f"folder_{number % 40}" / f"file_{number}.py" for number in range(2_000)]
    for number, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text_with(f"main_{number}"))
    editor = edit()
    first = editor.wait_for_index()
    assert first["files"] >= 2_000
    for number, file in enumerate(files):
        file.write_text(text_with(f"branch_{number}"))
    editor.told(*((file, CHANGED) for file in files))
    keys = itertools.cycle(range(6))

    def is_built() -> bool:
        editor.offered(f"value = compute_ch{'ecksum'[: next(keys)]}")  # an answer, or it fails
        return bool(editor.status()["generation"] != first["generation"])

    editor.wait_until(is_built)
    editor.wait_until(lambda: "branch_" in editor.offered("value = compute_checksum_of("))
    for file in files[:1_000]:  # one by one, as some editors tell it
        file.unlink()
        editor.told((file, DELETED))
        if len(file.name) == len("file_1.py"):
            editor.offered("value = comp")
    # Questions that nobody waits for are answered too.
    asked = [editor.server.ask(editor.uri, 0, 0) for _ in range(50)]
    assert all("result" in editor.server.reply(request) for request in asked)
    gone = {file.relative_to(work).as_posix() for file in files[:1_000]}
    editor.wait_until(lambda: not gone & sources(editor, "value = compute_checksum_of(branch_77"))
