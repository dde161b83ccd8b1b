"""The training loop: it learns, keeps the best state, goes on after a kill, and repeats itself to the byte."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from finetune import run_state, training
from finetune.base import open_base
from finetune.batches import general_of
from finetune.examples import Examples, Rows
from finetune.planning import (
    MAX_GENERAL_ROWS,
    Pace,
    Plan,
    expected_s,
    is_hurried,
    n_looks_for,
    n_validation_rows_for,
    plan_for,
    read_plan,
    write_plan,
)
from finetune.training import Progress, Trained, new_adapter, rate_at, train
from server.lm.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning:peft")
PLAN = Plan(steps=24, length=32, batch_rows=4, rank=4, alpha=8, learning_rate=5e-3, warmup_steps=2, validate_every=6)


@pytest.fixture
def rows() -> Rows:
    """Rows that follow a rule, so that there is something to learn."""
    starts = np.random.default_rng(0).integers(10, 60, 24)
    return np.array([[10 + (start + 7 * at) % 50 for at in range(33)] for start in starts], dtype=np.uint16)


def trained(base: Path, rows: Rows, folder: Path, plan: Plan = PLAN, **options: object) -> Trained:
    return train(open_base(str(base)), examples(rows), plan, folder, **options)  # type: ignore[arg-type]


def examples(rows: Rows) -> Examples:
    return Examples(train=rows, validation=rows[:4], general=rows[:0], share_seen=1.0)


def test_general_code_keeps_the_base_as_it_is_there(tiny_checkpoint: Path, rows: Rows, tmp_path: Path) -> None:
    base, general = open_base(str(tiny_checkpoint)), (rows[::-1] + 200).astype(np.uint16)
    moved = []
    for name, weight in (("free", 0.0), ("held", 20.0)):
        plan = replace(PLAN, general_weight=weight)
        found = train(base, replace(examples(rows), general=general), plan, tmp_path / name)
        model = new_adapter(base, plan, rows)
        before = model.hidden_states(torch.from_numpy(general[:, :-1].astype(np.int64)))
        ids, targets = (torch.from_numpy(part.astype(np.int64)) for part in (general[:, :-1], general[:, 1:]))
        least = model.divergence(ids, targets, before, targets.numel()).item()
        model.load(found.adapter)
        moved.append(model.divergence(ids, targets, before, targets.numel()).item() - least)
        assert found.best < found.first - 0.3
    assert 0 < moved[1] < moved[0] / 3


def weights(folder: Path) -> bytes:
    return (folder / "best" / "adapter_model.safetensors").read_bytes()


def of(found: Trained) -> bytes:
    return (found.adapter / "adapter_model.safetensors").read_bytes()


def test_it_learns_and_keeps_the_best_state(tiny_checkpoint: Path, rows: Rows, tmp_path: Path) -> None:
    found = trained(tiny_checkpoint, rows, tmp_path / "run")
    assert found.best < found.first - 0.5 and found.why_ended == "done"
    assert found.best == min(value for _, _, value in found.history)
    assert json.loads((found.adapter / "adapter_config.json").read_text())["r"] == 4
    assert found.tokens == 24 * 4 * 32


def test_the_same_plan_and_seed_give_the_same_bytes(tiny_checkpoint: Path, rows: Rows, tmp_path: Path) -> None:
    for name in ("one", "two"):
        trained(tiny_checkpoint, rows, tmp_path / name)
    trained(tiny_checkpoint, rows, tmp_path / "other", replace(PLAN, seed=1))
    assert weights(tmp_path / "one") == weights(tmp_path / "two") != weights(tmp_path / "other")


@pytest.mark.parametrize("killed_at", [1, 7, 13])
def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    tiny_checkpoint: Path, rows: Rows, tmp_path: Path, killed_at: int
) -> None:
    whole = trained(tiny_checkpoint, rows, tmp_path / "whole")
    steps: list[int] = []
    folder = tmp_path / "broken"
    first = trained(
        tiny_checkpoint, rows, folder, told=lambda at: steps.append(at.step), stopped=lambda: steps[-1] == killed_at
    )
    assert first.why_ended == "interrupted"
    seen: list[Progress] = []
    second = trained(tiny_checkpoint, rows, folder, told=seen.append)
    assert seen[0].step == killed_at + 1
    assert second.why_ended == "done" and second.best <= whole.best + 0.02


def ended_by_time(base: Path, rows: Rows, folder: Path, plan: Plan) -> Trained:
    """A run of seven steps, by a clock that each of them takes on by a second."""
    clock = [0.0]

    def tick(_: Progress) -> None:
        clock[0] += 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        return trained(base, rows, folder, plan, budget_s=7.5, told=tick)


def test_a_run_that_time_ended_is_told_by_its_plan(tiny_checkpoint: Path, rows: Rows, tmp_path: Path) -> None:
    """What the clock decided is in the plan afterwards: the same adapter again, however fast the machine is."""
    plan = replace(PLAN, validate_every=5)
    timed = ended_by_time(tiny_checkpoint, rows, tmp_path / "timed", plan)
    assert timed.why_ended == "budget" and 5 < timed.steps < PLAN.steps and timed.steps % 5
    again = trained(tiny_checkpoint, rows, tmp_path / "again", replace(plan, stop_after=timed.steps))
    assert again.why_ended == "done" and again.steps == timed.steps and again.history == timed.history
    assert of(again) == of(timed) and again.best_step == timed.best_step == timed.steps


def test_a_run_that_got_more_time_is_told_by_its_plan(tiny_checkpoint: Path, rows: Rows, tmp_path: Path) -> None:
    """Where its time ended first nothing is left of it: neither a look nor a state."""
    plan = replace(PLAN, validate_every=5)
    whole = trained(tiny_checkpoint, rows, tmp_path / "whole", plan)
    first = ended_by_time(tiny_checkpoint, rows, tmp_path / "timed", plan)
    second = trained(tiny_checkpoint, rows, tmp_path / "timed", plan)
    assert first.why_ended == "budget" and first.steps % 5 and second.why_ended == "done"
    assert second.history == whole.history and of(second) == of(whole)


@pytest.mark.parametrize("end", ["budget", "done", "overfit"])
def test_a_run_that_has_ended_learns_no_more_when_it_is_resumed(
    tiny_checkpoint: Path, rows: Rows, tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if end == "overfit":
        values = iter([1.0, *[2.0] * 50])
        monkeypatch.setattr(training, "validation_loss", lambda *_: next(values))
    plan = replace(PLAN, steps=6, validate_every=1)
    budget_s = 0.0 if end == "budget" else math.inf
    first = trained(tiny_checkpoint, rows, tmp_path / "run", plan, budget_s=budget_s)
    kept = of(first)
    seen: list[Progress] = []
    again = trained(tiny_checkpoint, rows, tmp_path / "run", plan, budget_s=budget_s, told=seen.append)
    assert first.why_ended == again.why_ended == end and not seen
    assert again.steps == first.steps and again.history == first.history and of(again) == kept


def test_ctrl_c_while_the_last_state_is_looked_at_counts(tiny_checkpoint: Path, rows: Rows, tmp_path: Path) -> None:
    seen: list[int] = []
    plan = replace(PLAN, steps=2, validate_every=2)
    found = trained(
        tiny_checkpoint, rows, tmp_path / "run", plan, told=lambda at: seen.append(at.step), stopped=lambda: 2 in seen
    )
    assert found.why_ended == "interrupted"


def test_a_state_of_another_run_or_a_damaged_one_is_not_used(tiny_checkpoint: Path, rows: Rows, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained(tiny_checkpoint, rows, folder, stopped=lambda: True)
    seen: list[Progress] = []
    trained(tiny_checkpoint, rows, folder, replace(PLAN, steps=2), told=seen.append)
    assert seen[0].step == 0
    (folder / "state.pt").write_bytes(b"half")
    seen.clear()
    trained(tiny_checkpoint, rows, folder, replace(PLAN, steps=2), told=seen.append)
    assert seen[0].step == 0


def test_it_ends_when_the_budget_is_used_up_or_it_gets_worse(
    tiny_checkpoint: Path, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(tiny_checkpoint, rows, tmp_path / "budget", budget_s=0.0).why_ended == "budget"
    values = iter([1.0, *[2.0] * 50])
    monkeypatch.setattr(training, "validation_loss", lambda *_: next(values))
    found = trained(tiny_checkpoint, rows, tmp_path / "worse", replace(PLAN, steps=100, validate_every=1))
    assert found.why_ended == "overfit" and found.best == 1.0 and found.best_step == 0


def test_a_disk_that_refuses_is_one_sentence(
    tiny_checkpoint: Path, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_state.os, "replace", refuse)
    with pytest.raises(UserError, match="No space left on device.*in force is as it was"):
        trained(tiny_checkpoint, rows, tmp_path / "run", replace(PLAN, steps=1))


@pytest.fixture
def steps_of_2_s_and_looks_of_5_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves with them alone, and a loss that falls."""
    now = 0.0

    def later(seconds: float, value: float) -> float:
        nonlocal now
        now += seconds
        return value

    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(training, "validation_loss", lambda *_: later(5.0, 1.0 - now / 1e6))
    monkeypatch.setattr(training, "_take_step", lambda *_: later(2.0, 1.0))


@pytest.mark.usefixtures("steps_of_2_s_and_looks_of_5_s")
def test_what_is_left_is_told_from_the_second_step_on_and_shrinks(
    tiny_checkpoint: Path, rows: Rows, tmp_path: Path
) -> None:
    told: list[Progress] = []
    trained(tiny_checkpoint, rows, tmp_path / "run", told=told.append)
    left = [progress.left_s for progress in told]
    assert left[0] is None  # no step has been timed
    # 24 steps of 2 s with a look of 5 s after each sixth; the look of the step that is told is still to come.
    expected = [(24 - step) * 2.0 + (4 - step // 6 + 1) * 5.0 for step in range(1, 25)]
    assert left[1:] == pytest.approx(expected)


@pytest.mark.usefixtures("steps_of_2_s_and_looks_of_5_s")
def test_one_more_step_and_the_final_look_belong_to_the_budget(
    tiny_checkpoint: Path, rows: Rows, tmp_path: Path
) -> None:
    found = trained(tiny_checkpoint, rows, tmp_path / "run", replace(PLAN, validate_every=100), budget_s=26.0)
    assert found.why_ended == "budget" and found.steps == 8 and found.seconds == 26.0  # 5 + 8 * 2 + 5


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(PLAN, step) for step in range(PLAN.steps)]
    assert rates[0] == pytest.approx(0.5, abs=0.01) and max(rates) == rates[1] and rates[-1] < 0.2
    assert all(0 < rate <= 1 for rate in rates)


def test_a_plan_fits_the_budget_and_the_data() -> None:
    assert plan_for(8_000, Pace(2.0), 600, 1, 0).steps == 285  # some of the budget stays in reserve
    slow = plan_for(8_000, Pace(2.0, look=10.0), 600, 1, 0)
    n_looks = n_looks_for(Pace(2.0, look=10.0), 600)
    assert slow.steps * 2 + (n_looks + 2) * 10 <= 600 and slow.steps == 255 and n_looks == 4
    assert slow.steps <= n_looks * slow.validate_every
    assert plan_for(60, Pace(0.1), 600, 1, 0).steps == 200  # ten epochs of twenty steps


@pytest.mark.parametrize("budget_s", [60, 600, 6_000])
def test_reading_general_code_belongs_to_the_budget(budget_s: int) -> None:
    pace = Pace(2.0, look=1.0, general=0.5)
    plan = plan_for(80_000, pace, budget_s, 1, 0)
    spent = plan.steps * 2.0 + min(plan.steps, MAX_GENERAL_ROWS) * 0.5 + (n_looks_for(pace, budget_s) + 2) * 1.0
    assert expected_s(plan, pace, budget_s) == pytest.approx(spent)
    assert 0.95 * budget_s - 2.5 <= spent <= 0.95 * budget_s


def test_only_the_general_code_that_is_drawn_is_read(tiny_checkpoint: Path, rows: Rows) -> None:
    model = new_adapter(open_base(str(tiny_checkpoint)), PLAN, rows)
    few, many = (general_of(model, rows, replace(PLAN, steps=steps), 0) for steps in (3, 1_000))
    assert few is not None and many is not None
    assert len(few.ids) <= 3 * PLAN.general_rows < len(many.ids) == len(rows)
    for step in range(3):
        one, other = few.draw(PLAN, step), many.draw(PLAN, step)
        assert torch.equal(few.ids[one], many.ids[other]) and torch.equal(few.targets[one], many.targets[other])
        torch.testing.assert_close(few.before[one], many.before[other])


def test_where_time_is_short_fewer_rows_choose() -> None:
    assert n_validation_rows_for(24, 8.0, 600) == 24
    assert n_validation_rows_for(24, 8.0, 60) == 6 and n_validation_rows_for(24, 8.0, 5) == 4
    assert n_validation_rows_for(2, 8.0, 5) == 2 and n_validation_rows_for(0, 0.0, 5) == 0
    look = 8.0 * n_validation_rows_for(24, 8.0, 60) / 24
    assert plan_for(8_000, Pace(2.0, look), 60, 1, 0).steps >= 20


def test_general_code_weighs_more_the_more_often_the_same_rows_come() -> None:
    weights = [plan_for(n_rows, Pace(1.0), 600, 1, 0).general_weight for n_rows in (8_000, 570, 120)]
    assert weights == [2.0, 3.0, 4.0]


def test_the_rank_is_small_where_little_is_seen_for_want_of_text_or_of_time() -> None:
    assert plan_for(97, Pace(0.1), 600, 1, 0).rank == 4 and plan_for(98, Pace(0.1), 600, 1, 0).rank == 16
    assert plan_for(195, Pace(0.1), 600, 1, 0, length=256).rank == 4
    assert plan_for(196, Pace(0.1), 600, 1, 0, length=256).rank == 16
    hurried = plan_for(8_000, Pace(20.0), 600, 1, 0)
    assert hurried.steps < 33 and (hurried.rank, hurried.alpha) == (4, 8)


def test_rows_are_short_where_time_leaves_few_steps_and_not_where_text_does() -> None:
    assert is_hurried(plan_for(8_000, Pace(10.0), 600, 1, 0), 8_000)
    assert not is_hurried(plan_for(8_000, Pace(9.0), 600, 1, 0), 8_000)
    assert not is_hurried(plan_for(9, Pace(0.1), 600, 1, 0), 9)  # 30 steps are ten epochs of it
    assert not is_hurried(plan_for(8_000, Pace(10.0), 600, 1, 0, length=256), 8_000)


def test_what_is_chosen_is_kept() -> None:
    chosen = plan_for(80, Pace(0.1), 600, 1, 0, rank=8, learning_rate=1e-4)
    assert (chosen.rank, chosen.alpha, chosen.learning_rate) == (8, 16, 1e-4)


def test_a_kept_plan_is_read_again(tmp_path: Path) -> None:
    write_plan(PLAN, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == PLAN
    (tmp_path / "report.json").write_text(json.dumps({"manifest": {"plan": asdict(PLAN), "seed": 0}}))
    assert read_plan(tmp_path / "report.json") == PLAN


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot read"), ("[]", "no JSON object with `steps`"), ('{"steps": 0}', "steps = 0"),
     ('{"steps": 3, "speed": 1}', "has speed, which is not known"), ('{"steps": 3, "rank": "8"}', "rank = '8'"),
     ('{"steps": 3, "rank": 1.5}', "rank = 1.5"), ('{"steps": true}', "steps = True")],
)  # fmt: skip
def test_a_wrong_plan_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read_plan(tmp_path / "plan.json")
