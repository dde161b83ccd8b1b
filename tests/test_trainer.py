"""The training loop: resumable to the bit, on schedule, and clear about what is in its way."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune.pretrain import trainer
from finetune.pretrain.accelerator import flops_per_token
from finetune.pretrain.gpt2 import GPT2, Shape
from finetune.pretrain.provenance import Provenance, ProvenanceError, write_provenance
from finetune.pretrain.row_source import FileRows, Wanted, open_rows
from finetune.pretrain.run_folder import (
    LOG_FILE,
    STATE_FILE,
    TrainingError,
    append_to_log,
    load_checkpoint,
    read_log,
    read_progress,
    read_recipe,
    trained_tokens,
    weights_sha256,
)
from finetune.pretrain.shards import ShardError, read_shards, write_shards
from finetune.pretrain.trainer import PAD_ID, Plan, rate_at, train
from server.lm.checkpoint import CheckpointError
from server.lm.engine import ModelConfig
from server.lm.torch_engine import TorchEngine

SHAPE = Shape(n_layer=1, n_embd=16, n_head=2, n_positions=32, vocab_size=64)
STEPS = 12


def rows_of(n_rows: int, length: int, seed: int = 0, vocab_size: int = 64) -> np.ndarray:
    """Rows in which a token decides the next one, so that there is something to learn."""
    first = np.random.default_rng(seed).integers(8, vocab_size, size=(n_rows, 1))
    return ((first + 3 * np.arange(length + 1)) % (vocab_size - 8) + 8).astype(np.uint16)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Twelve steps of four rows; the last few of longer rows."""
    np.save(tmp_path / "rows.npy", rows_of(10, 16))
    np.save(tmp_path / "long.npy", rows_of(5, 32, seed=1))
    return Plan(
        shape=SHAPE,
        rows=tmp_path / "rows.npy",
        long_rows=tmp_path / "long.npy",
        output=tmp_path / "run",
        batch_tokens=64,
        tokens=STEPS * 64,
        warmup_steps=2,
        threads=1,
    )


def weights_of(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_run_that_was_killed_goes_on_to_the_same_weights(plan, tmp_path):
    whole = train(replace(plan, output=tmp_path / "whole"))
    train(plan, stop_after_steps=3)
    shutil.copyfile(plan.output / STATE_FILE, tmp_path / "kept.pt")
    train(plan, stop_after_steps=2)
    os.replace(tmp_path / "kept.pt", plan.output / STATE_FILE)  # killed before the next save: two steps are lost
    assert not (plan.output / "model.safetensors").exists()
    broken = train(plan)
    assert read_progress(plan.output).step == STEPS
    assert weights_of(plan.output) == weights_of(tmp_path / "whole")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, broken.state_dict()[name]), name


def test_another_seed_gives_other_weights(plan, tmp_path):
    train(plan)
    train(replace(plan, seed=2, output=tmp_path / "other"))
    assert weights_of(plan.output) != weights_of(tmp_path / "other")


def test_what_is_trained_is_learned(plan):
    longer = replace(plan, tokens=150 * 64, long_rows=None)
    model = train(longer)
    batch = torch.from_numpy(rows_of(10, 16).astype(np.int64))
    assert float(model.loss(batch[:, :-1], batch[:, 1:]).detach()) < 0.5 * float(np.log(64))


def test_a_finished_run_is_left_as_it_is(plan):
    train(plan)
    before = weights_of(plan.output)
    train(plan)
    assert weights_of(plan.output) == before
    assert read_progress(plan.output).step == STEPS


def test_longer_rows_come_in_the_last_part(plan):
    train(plan)
    taken = read_progress(plan.output).rows_taken
    assert taken["rows"] == 9 * 4  # steps that began before 70 % of the tokens
    assert taken["long_rows"] == 3 * 2


def test_padding_is_not_learned(plan, monkeypatch):
    rows = rows_of(10, 16)
    rows[:, 9:] = PAD_ID
    np.save(plan.rows, rows)
    seen = []
    monkeypatch.setattr(GPT2, "loss", lambda model, ids, targets: seen.append(targets) or model.hidden(ids).mean())
    train(replace(plan, long_rows=None), stop_after_steps=2)
    for targets in seen:
        assert (targets[:, 8:] == trainer.IGNORED).all()
        assert (targets[:, :8] > 0).all()


def test_each_pass_takes_every_row_once_in_an_order_of_its_own(plan):
    source = FileRows(plan.rows, Wanted(64, plan.seed, 64, 32, plan.output))
    orders = [[source.row_at(number) for number in range(n_pass * 10, n_pass * 10 + 10)] for n_pass in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    again = FileRows(plan.rows, Wanted(64, plan.seed, 64, 32, plan.output))
    assert [again.row_at(number) for number in range(20, 30)] == orders[2]


@pytest.mark.parametrize(
    "share, step, factor",
    [
        (0.0, 0, 0.25),
        (0.0, 1, 0.5),
        (0.1, 3, 1.0),
        (0.6, 100, 1.0),
        (0.7, 100, 0.5),
        (1.0, 100, 0.0),
        (0.7, 0, 0.125),  # a short run warms up all the same
    ],
)
def test_the_rate_rises_stays_and_falls(plan, share, step, factor):
    assert rate_at(replace(plan, warmup_steps=4, decay_share=0.4), share, step) == pytest.approx(factor)


def test_without_decay_the_rate_stays(plan):
    assert rate_at(replace(plan, warmup_steps=0, decay_share=0.0), 1.0, 9) == 1.0


def test_the_budget_in_minutes_ends_a_run(plan):
    train(replace(plan, minutes=1e-9, tokens=None))
    assert read_progress(plan.output).step == 1


def test_the_recipe_names_no_folder(plan, tmp_path):
    train(plan, stop_after_steps=1)
    recipe = read_recipe(plan.output)
    assert recipe["rows"] == {"rows": 10, "length": 16}
    assert recipe["long_rows"] == {"rows": 5, "length": 32}
    assert recipe["shape"]["n_embd"] == 16
    assert str(tmp_path) not in json.dumps(recipe)


def test_the_checkpoint_is_served_by_the_reference_engine(plan):
    model = train(plan)
    engine = TorchEngine(ModelConfig(1, 2, 16, 64, 32, 64, 1e-5), plan.output, threads=1)
    served = engine.logits(0, list(range(8, 20)), 0, n_keep=12)
    with torch.no_grad():
        ours = load_checkpoint(plan.output).logits(torch.arange(8, 20)[None])[0]
        rounded = (model.logits(torch.arange(8, 20)[None])[0] - ours).abs().max()
    assert np.abs(served - ours.numpy()).max() < 1e-4
    assert 0 < float(rounded) < 0.05, "stored as fp16"


def test_a_run_without_a_budget_is_refused(plan):
    with pytest.raises(TrainingError, match="give --minutes or --tokens"):
        train(replace(plan, tokens=None))


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "No such file"),
        (b"", "cannot read training rows"),
        (b"\x93NUMPY garbage", "cannot read training rows"),
    ],
)
def test_missing_or_damaged_rows_are_named(plan, content, reason):
    plan.rows.unlink()
    if content is not None:
        plan.rows.write_bytes(content)
    with pytest.raises(ShardError, match=reason) as raised:
        train(plan)
    assert str(plan.rows) in str(raised.value)
    assert "finetune.pretrain rows" in str(raised.value)


@pytest.mark.parametrize("rows", [rows_of(3, 33), np.zeros((0, 17), np.uint16), np.zeros(9, np.uint16)])
def test_rows_of_a_wrong_shape_are_named(plan, rows):
    np.save(plan.rows, rows)
    with pytest.raises(ShardError, match="the model takes at most 32 tokens|no rows of ids"):
        train(plan)


def test_rows_of_another_tokenizer_are_named(plan):
    np.save(plan.rows, np.full((10, 17), 64, dtype=np.uint16))
    with pytest.raises(ShardError, match="holds token id 64, the model has 64"):
        train(plan)


def test_a_state_of_another_shape_is_named(plan):
    train(plan, stop_after_steps=1)
    with pytest.raises(TrainingError, match="is of shape .*'n_layer': 1.* this run wants .*'n_layer': 2"):
        train(replace(plan, shape=replace(SHAPE, n_layer=2)))


@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_a_damaged_state_is_named_and_kept(plan, damage):
    train(plan, stop_after_steps=1)
    path = plan.output / STATE_FILE
    data = path.read_bytes()
    if damage == "other":
        torch.save({"shape": trainer.asdict(SHAPE), "model": {}}, path)
    else:
        path.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    kept = path.read_bytes()
    with pytest.raises(TrainingError, match=f"cannot resume from {path}: .*; move the file away") as raised:
        train(plan)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == kept


def test_a_folder_that_cannot_be_made_is_named(plan, tmp_path):
    (tmp_path / "run").write_text("a file is in the way")
    with pytest.raises(TrainingError, match=f"cannot write {tmp_path / 'run'}"):
        train(plan)


def test_a_disk_that_is_full_leaves_the_last_state_whole(plan, monkeypatch):
    train(plan, stop_after_steps=2)
    before = (plan.output / STATE_FILE).read_bytes()

    def fail(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(TrainingError, match="No space left on device.*the last state that was saved is whole"):
        train(plan, stop_after_steps=1)
    assert (plan.output / STATE_FILE).read_bytes() == before


def test_a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_state(plan, monkeypatch):
    train(plan, stop_after_steps=2)
    before = (plan.output / STATE_FILE).read_bytes()
    monkeypatch.setattr(GPT2, "loss", lambda model, ids, targets: model.hidden(ids).sum() * float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan at step 2"):
        train(plan)
    assert (plan.output / STATE_FILE).read_bytes() == before


def test_the_last_step_is_in_the_log(plan):
    train(plan)
    assert read_log(plan.output)[-1]["step"] == STEPS


def test_a_log_tells_each_step_once(tmp_path):
    for step, loss in ((5, 9.0), (9, 8.0), (13, 7.0), (8, 7.5), (12, 6.0)):  # killed after 13, resumed from 5
        append_to_log(tmp_path, {"step": step, "loss": loss})
    assert [(entry["step"], entry["loss"]) for entry in read_log(tmp_path)] == [(5, 9.0), (8, 7.5), (12, 6.0)]


def test_a_line_of_the_log_that_was_cut_short_is_left_out(tmp_path):
    append_to_log(tmp_path, {"step": 1, "loss": 9.0})
    with (tmp_path / LOG_FILE).open("a") as log:
        log.write('{"step": 2, "lo\n')
    append_to_log(tmp_path, {"step": 3, "loss": 7.0})
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 3]


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(TrainingError, match=f"cannot read {tmp_path / LOG_FILE}"):
        read_log(tmp_path)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_checkpoint(tmp_path)


# Rows in shards.


@pytest.fixture
def sharded(plan: Plan, tmp_path: Path) -> Plan:
    """The same run from three shards of 20 rows, so that twelve steps of four rows take parts of all."""
    np.save(tmp_path / "many.npy", np.random.default_rng(0).integers(8, 64, (60, 17)).astype(np.uint16))
    write_shards(tmp_path / "many.npy", tmp_path / "shards", 500)
    assert [shard.n_rows for shard in read_shards(tmp_path / "shards").shards] == [20, 20, 20]
    return replace(plan, rows=tmp_path / "shards", long_rows=None)


def test_a_run_from_shards_that_was_killed_goes_on_to_the_same_weights(sharded, tmp_path):
    train(replace(sharded, output=tmp_path / "whole"))
    for n_steps in (3, 1, 3):  # in the midst of a shard, at its end, in the midst of the next
        train(sharded, stop_after_steps=n_steps)
    train(sharded)
    assert weights_of(sharded.output) == weights_of(tmp_path / "whole")
    assert read_progress(sharded.output).visits["rows"] == [0, 1, 2]


def test_a_shard_that_arrives_while_it_trains_is_taken_next(sharded, tmp_path):
    late = sharded.rows / "shard-001.xz"
    kept = late.rename(tmp_path / "late")
    train(sharded, stop_after_steps=6)
    assert read_progress(sharded.output).visits["rows"] == [0, 2]
    kept.rename(late)
    train(replace(sharded, tokens=20 * 64))
    assert read_progress(sharded.output).visits["rows"] == [0, 2, 1, 0]


def test_passes_over_the_shards_that_are_there_repeat_in_another_order(sharded, tmp_path):
    for name in ("shard-001.xz", "shard-002.xz"):
        (sharded.rows / name).unlink()
    source = open_rows(sharded.rows, Wanted(64, 1, 64, 32, tmp_path / "cache"))
    visits: list[int] = []
    first, second = (np.concatenate([source.batch(at, visits) for at in range(n, n + 20, 4)]) for n in (0, 20))
    assert visits == [0, 0]
    assert not np.array_equal(first, second)
    assert sorted(map(bytes, first)) == sorted(map(bytes, second))


def test_a_damaged_shard_is_told_once_and_passed_over(sharded, caplog):
    path = sharded.rows / "shard-000.xz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    train(replace(sharded, tokens=25 * 64))
    assert 0 not in read_progress(sharded.output).visits["rows"]
    assert [str(path) in record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [True]


def test_when_no_shard_is_whole_all_are_named(sharded):
    (sharded.rows / "shard-000.xz").write_bytes(b"")
    (sharded.rows / "shard-001.xz").unlink()
    path = sharded.rows / "shard-002.xz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ShardError) as raised:
        train(sharded)
    for said in ("shard-000.xz is not there", "shard-001.xz is not there", f"{path} is damaged", "copy at least one"):
        assert said in str(raised.value)


def test_a_shard_that_a_resumed_run_is_in_the_midst_of_must_be_there(sharded):
    train(sharded, stop_after_steps=3)
    shutil.rmtree(sharded.output / "unpacked")
    (sharded.rows / "shard-000.xz").unlink()
    before = (sharded.output / STATE_FILE).read_bytes()
    with pytest.raises(ShardError, match=r"in the midst of a shard of .*: shard-000\.xz is not there; copy it"):
        train(sharded)
    assert (sharded.output / STATE_FILE).read_bytes() == before


def test_an_empty_folder_of_rows_is_named(plan, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShardError, match=rf"no shards\.json in {tmp_path}/empty"):
        train(replace(plan, rows=tmp_path / "empty"))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tokenizer": "dead"}, "shards was made with the tokenizer dead, this run has beef"),
        ({"split": "heldout"}, "shards was made from the packages that are held out"),
    ],
)
def test_shards_of_another_tokenizer_or_of_what_is_held_out_are_refused(plan, tmp_path, changes, said):
    write_provenance(plan.rows, replace(Provenance("feed", "beef", 16, 1, 1_000), **changes))
    write_shards(plan.rows, tmp_path / "shards", 10_000)
    with pytest.raises(ProvenanceError, match=said):
        train(replace(plan, rows=tmp_path / "shards", tokenizer="beef"))


# A start from weights.


def test_a_run_may_start_from_the_weights_of_another(plan, tmp_path):
    train(replace(plan, output=tmp_path / "first"))
    start = load_checkpoint(tmp_path / "first")
    warm = replace(plan, start=tmp_path / "first", muon_rate=0.0, adam_rate=0.0)
    for name, value in train(warm, stop_after_steps=1).state_dict().items():
        assert torch.equal(value, start.state_dict()[name]), name
    assert read_recipe(plan.output)["from"] == {
        "weights_sha256": weights_sha256(tmp_path / "first"),
        "trained_tokens": STEPS * 64,
    }
    assert read_progress(plan.output).step == 1
    train(warm)
    assert trained_tokens(plan.output) == 2 * STEPS * 64


def test_a_run_does_not_go_on_from_other_weights(plan, tmp_path):
    for seed in (1, 2):
        train(replace(plan, seed=seed, output=tmp_path / f"run{seed}"))
    train(replace(plan, start=tmp_path / "run1"), stop_after_steps=1)
    with pytest.raises(ProvenanceError, match=r"from\.weights_sha256 was"):
        train(replace(plan, start=tmp_path / "run2"))


def test_a_checkpoint_of_another_shape_is_named_with_both(plan, tmp_path):
    train(replace(plan, output=tmp_path / "first"))
    other = replace(plan, shape=replace(SHAPE, n_layer=2), start=tmp_path / "first")
    with pytest.raises(TrainingError, match=f"{tmp_path}/first is of shape .*'n_layer': 1.*wants .*'n_layer': 2"):
        train(other)
    assert not plan.output.exists()


def test_weights_of_another_tokenizer_are_refused(plan, tiny_checkpoint):
    shape = Shape(2, 64, 4, 1024, 440)
    with pytest.raises(ProvenanceError, match="was made with the tokenizer .*, this run has beef"):
        train(replace(plan, shape=shape, start=tiny_checkpoint, tokenizer="beef"))


def test_speed_and_use_of_the_peak_are_in_the_log(plan):
    train(replace(plan, peak_tflops=1e-6))
    entry = read_log(plan.output)[-1]
    used = entry["tokens_per_second"] * flops_per_token(SHAPE, 16) / 1e6
    assert entry["flop_utilisation"] == pytest.approx(used, rel=0.2)  # the last few rows are longer
    train(replace(plan, output=plan.output.with_name("untold")))
    assert "flop_utilisation" not in read_log(plan.output.with_name("untold"))[-1]
