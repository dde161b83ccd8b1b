"""How old an adapter is: by commits and by texts, in real repositories, and in words."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import adapter_age
from server.adapter_age import AdapterAge, AdapterAges, age_of
from server.lm.adapter_manifest import Manifest, write_manifest
from server.lm.adapter_store import AdapterStore
from tests.test_adapter_store import BASE
from tests.test_finetuning import Editor, children, editor
from tests.test_session import WAIT_S

__all__ = ["children", "editor"]  # fixtures

MADE_AT = "2026-05-01T12:00:00Z"
BEFORE, AFTER = 1_777_000_000.0, 1_778_000_000.0  # days before it and after it
N_FILES = 20
UP_TO_DATE = AdapterAge(0, N_FILES, 0, 0, True)


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(path: Path, text: str, at: float = AFTER) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def code(number: int, change: str = "") -> str:
    return f"def order_{number}(price, amount):\n    return price * amount + {number}{change}\n" * 3


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Shop:
    """A repository, and an adapter that learned its files but the held-out one."""

    def __init__(self, root: Path, adapter: Path, *, in_git: bool = True) -> None:
        self.root, self.adapter = root, adapter
        for number in range(N_FILES):
            write(self.file(number), code(number), BEFORE)
        write(root / "heldout.py", code(100), BEFORE)
        commit = None
        if in_git:
            git(root, "init", "-q")
            self.commit()
            commit = git(root, "rev-parse", "HEAD")
        learned = {self.file(number).name: digest(code(number)) for number in range(N_FILES)}
        self.manifest = Manifest(BASE, MADE_AT, "shop", commit, {}, trained_files=learned)
        self.manifest = replace(self.manifest, files={"adapter_config.json": "", "adapter_model.safetensors": ""})
        self.keep()

    def file(self, number: int) -> Path:
        return self.root / f"order_{number}.py"

    def commit(self, *options: str) -> None:
        git(self.root, "add", "-A")
        git(self.root, "commit", "-qm", "more", *options)

    def keep(self, **changes: Any) -> None:
        """The manifest with changes."""
        self.adapter.mkdir(parents=True, exist_ok=True)
        write_manifest(self.adapter, replace(self.manifest, **changes))

    def age(self, *exclude: str, **options: float) -> AdapterAge:
        age = age_of(self.root, self.adapter, exclude, **options)
        assert age is not None
        return age


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "shop").mkdir()
    return Shop(tmp_path / "shop", tmp_path / "adapter")


def test_a_new_adapter_is_up_to_date(shop: Shop) -> None:
    assert shop.age() == UP_TO_DATE
    assert not shop.age().is_run_advised
    assert shop.age().advice == "0 commits since, 0 of 20 learned files changed, 0 new: no new run is needed"


def test_many_commits_ask_for_another_run(shop: Shop) -> None:
    for _ in range(50):
        shop.commit("--allow-empty")
    assert shop.age().n_commits == 50 and not shop.age().is_run_advised
    shop.commit("--allow-empty")
    age = shop.age()
    assert (age.n_commits, age.is_run_advised) == (51, True)
    assert age.advice.startswith("51 commits were made since, more than 50: train it again with")


@pytest.mark.parametrize("is_committed", [True, False])
def test_changed_files_ask_for_another_run(shop: Shop, is_committed: bool) -> None:
    for number in range(3):
        write(shop.file(number), code(number, " - 1"))
    assert shop.age().n_changed == 3 and not shop.age().is_run_advised
    shop.file(3).unlink()
    if is_committed:
        shop.commit()
    age = shop.age()
    assert age == AdapterAge(int(is_committed), N_FILES, 4, 0, True)
    assert age.is_run_advised and age.advice.startswith("4 of 20 learned files have changed, more than 15 %: train")


def test_what_was_touched_and_reads_as_it_was_learned_has_not_changed(shop: Shop) -> None:
    for number in range(N_FILES):
        write(shop.file(number), code(number).replace("\n", "\r\n"))
    assert shop.age() == UP_TO_DATE


def test_an_edit_while_the_run_went_on_is_a_change(shop: Shop) -> None:
    write(shop.file(0), code(0, " - 1"), shop.manifest.made_at - 60)
    assert shop.age().n_changed == 1


@pytest.mark.parametrize("in_git", [True, False], ids=["git", "walk"])
def test_new_files_ask_for_another_run(tmp_path: Path, in_git: bool) -> None:
    (tmp_path / "shop").mkdir()
    shop = Shop(tmp_path / "shop", tmp_path / "adapter", in_git=in_git)
    assert shop.age() == replace(UP_TO_DATE, n_commits=0 if in_git else None)
    for number in range(3):
        write(shop.root / "more" / f"new_{number}.py", code(200 + number))
    write(shop.root / "more" / "old.py", code(300), BEFORE)  # it was there, and not learned
    write(shop.root / "more" / "empty.py", "")
    write(shop.root / "more" / "picture.png", "no code")
    assert shop.age().n_new == 3 and not shop.age().is_run_advised
    write(shop.root / "more" / "new_3.py", code(203))
    age = shop.age()
    assert age.n_new == 4 and age.is_run_advised
    assert age.advice.startswith("4 files are new, more than 15 % of the 20 that were learned: train")
    assert shop.age("more/**").n_new == 0


def test_what_may_not_be_learned_any_more_has_changed(shop: Shop) -> None:
    write(shop.file(0), code(0))
    assert shop.age("order_0.py").n_changed == 1


def test_a_held_out_file_that_changes_is_not_new_to_git(shop: Shop) -> None:
    write(shop.root / "heldout.py", code(100, " - 1"))
    shop.commit()
    assert shop.age() == replace(UP_TO_DATE, n_commits=1)


def test_a_folder_inside_a_repository_is_looked_at_alone(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    (outer / "shop").mkdir(parents=True)
    git(outer, "init", "-q")
    shop = Shop(outer / "shop", tmp_path / "adapter", in_git=False)
    write(outer / "outside.py", code(1), BEFORE)
    shop.commit()
    shop.keep(commit=git(outer, "rev-parse", "HEAD"))
    write(outer / "beside.py", code(2))
    write(shop.root / "heldout.py", code(100, " - 1"))
    assert shop.age() == UP_TO_DATE


@pytest.mark.parametrize("commit", [None, "0" * 40, "--output=evil", "HEAD", "main"])
def test_a_commit_that_git_does_not_know_is_no_number(shop: Shop, commit: str | None) -> None:
    shop.keep(commit=commit)
    age = shop.age()
    assert age.n_commits is None and age.n_changed == 0
    assert age.advice.startswith("0 of 20 learned files changed")
    assert not (shop.root / "evil").exists()


def test_no_path_of_a_manifest_leads_out_of_the_repository(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = shop.root.parent / "outside.py"
    write(outside, code(1))
    paths = ("../outside.py", str(outside), "a/../../outside.py", "nul\0.py")
    shop.keep(trained_files=dict.fromkeys(paths, digest(code(1))))
    read: list[str] = []
    monkeypatch.setattr(adapter_age, "read_text", lambda root, path, rule: read.append(path))
    assert shop.age().n_changed == len(paths)
    assert not set(read) & set(paths)


def test_notebooks_are_judged_by_their_time(shop: Shop) -> None:
    for name, at in (("one.ipynb", BEFORE), ("two.ipynb", AFTER)):
        write(shop.root / name, "{}", at)
    shop.commit()
    learned = {"one.ipynb": "0" * 64, "two.ipynb": "0" * 64}
    shop.keep(trained_files=learned, commit=git(shop.root, "rev-parse", "HEAD"))
    assert shop.age().n_changed == 1


def test_when_the_time_is_over_what_is_known_is_the_least(shop: Shop) -> None:
    for number in range(N_FILES):
        write(shop.file(number), code(number, " - 1"))
    age = shop.age(limit_s=0.0)
    assert not age.is_whole and age.n_changed < N_FILES and "at least 0 of 20" in age.advice


def test_an_adapter_that_cannot_be_read_has_no_age(tmp_path: Path) -> None:
    assert age_of(tmp_path, tmp_path / "gone", ()) is None


async def test_nobody_waits_long_and_what_is_found_later_is_told_next(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, calls, ages = threading.Event(), [], AdapterAges()

    def slow(*arguments: Any) -> AdapterAge:
        calls.append(arguments)
        assert may_end.wait(WAIT_S)
        return UP_TO_DATE

    monkeypatch.setattr(adapter_age, "age_of", slow)
    monkeypatch.setattr(adapter_age, "WAIT_S", 0.01)
    began = time.monotonic()
    assert await ages.age(shop.root, shop.adapter, ()) is None
    assert await ages.age(shop.root, shop.adapter, ()) is None
    assert time.monotonic() - began < WAIT_S / 2 and len(calls) == 1
    may_end.set()
    monkeypatch.setattr(adapter_age, "WAIT_S", WAIT_S)
    assert await ages.age(shop.root, shop.adapter, ()) == UP_TO_DATE
    assert await ages.age(shop.root, shop.adapter, ()) == UP_TO_DATE
    assert len(calls) == 1
    assert await ages.age(shop.root, shop.adapter, ("*.py",)) == UP_TO_DATE
    assert len(calls) == 2  # other globs, another answer
    monkeypatch.setattr(adapter_age, "age_of", lambda *_: 1 / 0)
    assert await ages.age(shop.root, shop.adapter, ()) is None


async def test_the_status_tells_version_and_age_of_the_adapter(editor: Editor, shop: Shop) -> None:
    store, session = AdapterStore(shop.root), editor.server.session
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (shop.adapter / name).touch()
    version = store.publish(shop.adapter, replace(shop.manifest, files=dict.fromkeys(shop.manifest.files, digest(""))))
    assert session._loader.model is not None
    session._loader.model = replace(session._loader.model, adapter=store.current())
    session.use_roots((shop.root,))

    async def told() -> Any:
        request = editor.send("workspace/executeCommand", {"command": "loracle.status", "arguments": []})
        return (await editor.reply(request))["result"]["adapter"]

    shown = await told()
    assert shown["version"] == version and shown["createdAt"] == MADE_AT and shown["commit"] == shop.manifest.commit
    assert shown["age"]["commits"] == 0 and shown["age"]["runAdvised"] is False
    shop.commit("--allow-empty")
    session._adapter_ages = AdapterAges()
    assert (await told())["age"] == {
        "commits": 1,
        "learnedFiles": N_FILES,
        "changedFiles": 0,
        "newFiles": 0,
        "isWhole": True,
        "runAdvised": False,
        "advice": "1 commit since, 0 of 20 learned files changed, 0 new: no new run is needed",
    }
    session._loader.model = replace(session._loader.model, adapter=None, adapter_problem="it does not fit")
    assert await told() == {"folder": None, "problem": "it does not fit"}
