"""Publication is the last word: what fails behind it is told, and a refusal changes nothing."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetune import judging
from finetune.base import open_base
from finetune.candidate import Candidate
from finetune.collect import Collection, SourceText
from finetune.evaluating import Case, Evaluation
from finetune.judging import index_of, judge
from finetune.memorisation import Memorised, SecretContext
from finetune.options import EXIT_NO_BETTER, EXIT_PUBLISHED, Options
from finetune.progress import Display
from finetune.scoring import Changes, Interval
from finetune.split import Split
from finetune.training import Trained
from server.index.live import LiveIndex
from server.lm.adapter_manifest import MANIFEST_FILE, read_manifest, without_source
from server.lm.adapter_store import AdapterStore
from server.lm.errors import UserError
from server.repository.duplicates import fingerprint
from tests.adapters import random_adapter

FOUND = Evaluation(
    n_files=1, n_heldout=1, share_measured=1.0, n_points=60, n_drawn=60, bits_before=1.0, bits_after=0.8,
    bits_change=Interval(-0.2, -0.3, -0.1), ways=(), alone=Changes(None, None, None),
    with_index=Changes(Interval(0.0, 0.0, 0.0), None, None),
    general_before=1.0, general_after=1.0,
    general_change=Interval(0.0, -0.1, 0.1), n_functions=1,
    chrf_before=0.3, chrf_after=0.4, chrf_change=Interval(0.1, -float("inf"), float("inf")),
    won=(Case("a.py", 1, "x = ", "private_line(x)", "", "private_line(x)"),), lost=(), seconds=1.0,
)  # fmt: skip


class Judging:
    """A candidate, and a judge who finds what the test says."""

    def __init__(self, checkpoint: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.found, self.memorised = FOUND, Memorised((), 0, 0, 0)
        self.store = AdapterStore(folder / "shop")
        self.store.run_folder.mkdir(parents=True)
        adapter = self.store.run_folder / "candidate"
        manifest = random_adapter(adapter, checkpoint)
        trained = Trained(adapter, 1.0, 2, 2.0, ((2, 1.5, 1.0),), "done", 2, 1.0, 100)
        run = SimpleNamespace(seed=0, include=(), exclude=(), holdout="hash")
        self.candidate = Candidate(run, Collection((), (), ()), Split((), (), ()), trained, manifest)  # type: ignore[arg-type]
        self._base = open_base(str(checkpoint))
        self.said = io.StringIO()
        patch.setattr(judging, "load_model", lambda *_, **__: None)
        patch.setattr(judging, "evaluate", lambda *_: self.found)
        patch.setattr(judging, "memorised", lambda *_: self.memorised)
        patch.setattr(judging, "index_of", lambda _: LiveIndex())

    def __call__(self, **options: Any) -> int:
        return judge(Options(Path(), **options), Display(self.said), self._base, self.store, self.candidate)


@pytest.fixture
def judged(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judging:
    return Judging(tiny_checkpoint, tmp_path, monkeypatch)


def test_what_is_better_is_published_and_its_figures_are_plain_json(judged: Judging, tmp_path: Path) -> None:
    assert judged(report=tmp_path / "report.json", output=tmp_path / "copy") == EXIT_PUBLISHED
    folder = judged.store.current()
    assert folder is not None and not judged.store.run_folder.exists()
    assert "private_line" in (folder / MANIFEST_FILE).read_text()
    assert "private_line" not in (tmp_path / "copy" / MANIFEST_FILE).read_text()
    assert read_manifest(tmp_path / "copy") == without_source(read_manifest(folder))  # with the figures

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    for file in (tmp_path / "report.json", folder / MANIFEST_FILE):
        text = file.read_text()
        assert json.loads(text, parse_constant=refuse) and '"low": null' in text
    assert sorted(each.name for each in (tmp_path / "copy").iterdir()) == sorted(each.name for each in folder.iterdir())


def test_the_report_tells_what_was_cut_and_what_was_asked_and_never_a_secret(judged: Judging, tmp_path: Path) -> None:
    secrets = [
        SecretContext("a.py", "key = ", "hunter2", kind) for kind in ("named secret", "named secret", "web token")
    ]
    canaries = (SecretContext("b.py", "key = ", "AKIA" + "Q" * 16),)
    judged.candidate = replace(judged.candidate, collection=Collection((), (), tuple(secrets), canaries))
    judged.memorised = Memorised((), 3, 1, 0)
    judged(report=tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["secretsCut"] == {"a.py": {"named secret": 2, "web token": 1}}
    assert report["memorisation"] == {
        "secrets": 3, "canaries": 1, "canariesNotCut": 0, "prompted": 3, "cannotTell": 1, "noTimeFor": 0, "givenBack": 0
    }  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert "3 of the contexts of 3 secrets and 1 canaries were prompted" in page
    assert not any(word in page + (tmp_path / "report.json").read_text() for word in ("hunter2", "AKIA"))


@pytest.mark.parametrize("error", [UserError("cannot write the report"), KeyboardInterrupt()])
def test_what_fails_after_publication_is_told_and_changes_nothing(
    judged: Judging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(judging, "write_report", fail)
    assert judged(report=tmp_path / "report.json") == EXIT_PUBLISHED
    assert judged.store.current() is not None and not judged.store.run_folder.exists()
    last = judged.said.getvalue().splitlines()[-1]
    assert last.startswith("published") and "nothing has changed" not in judged.said.getvalue()


def test_a_copy_that_cannot_be_written_is_told(judged: Judging, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert judged(output=tmp_path / "file", report=tmp_path / "report.json") == EXIT_PUBLISHED
    assert "published, but cannot write a copy to" in judged.said.getvalue()
    assert (tmp_path / "report.json").exists()


@pytest.mark.parametrize(
    ("found", "memorised", "said"),
    [
        (replace(FOUND, bits_change=Interval(-0.2, -0.5, 0.1)), Memorised((), 0, 0, 0), "not surely easier"),
        (FOUND, Memorised((), 4, 0, 2), "no time to ask"),
    ],
)
def test_a_refusal_changes_nothing_and_can_be_judged_again(
    judged: Judging, tmp_path: Path, found: Evaluation, memorised: Memorised, said: str
) -> None:
    judged.found, judged.memorised = found, memorised
    assert judged(report=tmp_path / "report.json", output=tmp_path / "copy") == EXIT_NO_BETTER
    assert judged.store.current() is None and judged.store.run_folder.exists() and not (tmp_path / "copy").exists()
    assert said in judged.said.getvalue() and json.loads((tmp_path / "report.json").read_text())["published"] is None


def test_the_index_knows_as_much_as_the_one_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [
        SourceText(f"{name}.py", f"{name} = compute({name})\n" * 3, "python", number, 0, fingerprint(name))
        for number, name in enumerate(("alpha", "beta", "gamma"))
    ]
    assert index_of(files).built.keys() == {"repository"}
    everything = sum(segment.n_bytes for segment in index_of(files).built.values())
    monkeypatch.setattr(judging, "MAX_REPOSITORY_BYTES", 130)
    assert sum(segment.n_bytes for segment in index_of(files).built.values()) < everything
