"""What a run is made ready from: nothing is lost by a mistake, and of very much text a part is enough."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from finetune import preparing
from finetune.base import Base, open_base
from finetune.collect import SourceText
from finetune.kept_run import is_kept, read_run
from finetune.options import Options
from finetune.planning import Plan
from finetune.preparing import drawn, prepared
from finetune.progress import Display
from finetune.world import World
from server.lm.errors import UserError
from server.repository.duplicates import fingerprint

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")
PLAN = Plan(steps=2, length=128, batch_rows=2, rank=2, alpha=4)


@pytest.fixture
def base(tiny_checkpoint: Path) -> Base:
    return open_base(str(tiny_checkpoint))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    for word in ("order", "price", "stock", "member", "basket", "label"):
        lines = [f"def {word}_{at}(first):\n    return {word}.total(first, {at * len(word)})\n\n\n" for at in range(30)]
        (tmp_path / "shop" / f"{word}.py").write_text("".join(lines))
    return tmp_path / "shop"


def made_ready(root: Path, base: Base, run_folder: Path, plan: Path, **options: object) -> str:
    said = io.StringIO()
    prepared(Options(root, plan=plan, **options), Display(said), base, run_folder, World())  # type: ignore[arg-type]
    return said.getvalue()


def plan_file(folder: Path, **fields: object) -> Path:
    (folder / "plan.json").write_text(json.dumps({**asdict(PLAN), **fields}))
    return folder / "plan.json"


def test_a_mistake_costs_no_unfinished_run(root: Path, base: Base, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    assert "unfinished" not in made_ready(root, base, run_folder, plan_file(tmp_path), seed=5)
    (run_folder / "train").mkdir()
    (run_folder / "train" / "state.pt").touch()
    with pytest.raises(UserError, match="cannot read the plan"):
        made_ready(root, base, run_folder, tmp_path / "missing.json")
    with pytest.raises(UserError, match="a `length` from 64"):
        made_ready(root, base, run_folder, plan_file(tmp_path, length=4))
    with pytest.raises(UserError, match="too little to learn from"):
        made_ready(root, base, run_folder, plan_file(tmp_path), include=("order.py",))
    assert is_kept(run_folder) and (run_folder / "train" / "state.pt").exists()
    assert "the run before is unfinished: `--resume` goes on" in made_ready(
        root, base, run_folder, plan_file(tmp_path), seed=6
    )
    assert read_run(run_folder, root, base).seed == 6 and not (run_folder / "train").exists()


def test_what_was_cut_is_told_by_kind_and_file_and_never_shown(root: Path, base: Base, tmp_path: Path) -> None:
    secrets = {"order.py": ["hunter2Xq7", "tr0ub4dorX"], "price.py": ["c0rrecth0rse"]}
    for name, values in secrets.items():
        lines = [f'password_{at} = "{value}"\n' for at, value in enumerate(values)]
        (root / name).write_text((root / name).read_text() + "".join(lines))
    (root / "stock.py").write_text((root / "stock.py").read_text() + f'aws = "AKIA{"QWERTYUIOPASDFGH"}"\n')
    said = made_ready(root, base, tmp_path / "run", plan_file(tmp_path))
    assert "cut, cloud key: stock.py\n" in said and "cut, named secret: order.py (2 times), price.py\n" in said
    assert not any(value in said for values in secrets.values() for value in values) and "AKIA" not in said


@pytest.mark.parametrize("seed", range(6))
def test_five_files_of_which_four_say_nothing_are_refused_with_counts(
    root: Path, base: Base, tmp_path: Path, seed: int
) -> None:
    for at, path in enumerate(sorted(root.iterdir())[:5]):
        path.write_text(path.read_text()[:3_900] if at == 0 else f"LIMIT_{at * 7919} = {at * 104729}\n" * 2)
    sorted(root.iterdir())[5].unlink()
    with pytest.raises(
        UserError, match=r"too little.*\d+ with [\d,]+ bytes.*at least|too little.*\d+ files with.*at least"
    ):
        made_ready(root, base, tmp_path / "run", plan_file(tmp_path), seed=seed)


def test_a_run_goes_on_with_nothing_that_is_excluded_by_now(root: Path, base: Base, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    made_ready(root, base, run_folder, plan_file(tmp_path))
    learned = next(iter(read_run(run_folder, root, base).learned))
    for globs, goes_on in (((), True), (("other/**",), True), ((learned,), False)):
        resumed = Options(root, resume=True, exclude=globs)
        if goes_on:
            assert prepared(resumed, Display(io.StringIO()), base, run_folder, World())
        else:
            with pytest.raises(UserError, match=f"learns from {learned}, which is excluded by now"):
                prepared(resumed, Display(io.StringIO()), base, run_folder, World())


def test_of_more_text_than_is_made_into_rows_a_part_is_told(
    root: Path, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "%" not in made_ready(root, base, tmp_path / "run", plan_file(tmp_path, steps=100))
    monkeypatch.setattr(preparing, "MIN_REACH", 3_000)
    monkeypatch.setattr(preparing, "MAX_CHOICE", 0)
    assert "the most novel" in made_ready(root, base, tmp_path / "run", plan_file(tmp_path, steps=100))
    run = read_run(tmp_path / "run", root, base)
    assert 0 < run.examples.share_seen < 0.9 and len(run.learned) > 2  # all are known to be there


def test_files_are_drawn_alike_each_time_and_in_their_order() -> None:
    texts = [SourceText(f"{n:02}.py", "x" * 100, "python", 0, 0, fingerprint("x")) for n in range(20)]
    assert drawn(texts, 2_000, 0) == tuple(texts)
    some = drawn(texts, 550, 0)
    assert len(some) == 5 and list(some) == sorted(some, key=lambda file: file.path) == list(drawn(texts, 550, 0))
    assert some != drawn(texts, 550, 1) and len(drawn(texts, 10, 0)) == 1
