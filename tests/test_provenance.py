"""Rows, runs and corpora that were not made for each other are not used together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.pretrain.card import read_records
from finetune.pretrain.gpt2 import Shape
from finetune.pretrain.manifest import Manifest, write_manifest
from finetune.pretrain.provenance import (
    Provenance,
    ProvenanceError,
    check_corpus,
    check_recipe,
    provenance_path,
    read_provenance,
    write_provenance,
)
from finetune.pretrain.run_folder import read_progress, read_recipe, write_recipe
from finetune.pretrain.trainer import Plan, train

ORIGIN = Provenance(corpus="feed", tokenizer="beef", length=16, seed=1, max_package_bytes=1_000)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Four steps, the last one or two of longer rows; both files of rows say where they come from."""
    generator = np.random.default_rng(0)
    for name, length in (("rows.npy", 16), ("long.npy", 32)):
        np.save(tmp_path / name, generator.integers(8, 64, (10, length + 1)).astype(np.uint16))
        write_provenance(tmp_path / name, replace(ORIGIN, length=length))
    return Plan(
        shape=Shape(n_layer=1, n_embd=16, n_head=2, n_positions=32, vocab_size=64),
        rows=tmp_path / "rows.npy",
        long_rows=tmp_path / "long.npy",
        output=tmp_path / "run",
        tokenizer="beef",
        batch_tokens=64,
        tokens=4 * 64,
        threads=1,
    )


def test_what_is_written_is_read(tmp_path):
    write_provenance(tmp_path / "rows.npy", ORIGIN)
    assert read_provenance(tmp_path / "rows.npy") == ORIGIN
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy.json"]


def test_rows_without_an_origin_are_taken_as_they_are(plan):
    provenance_path(plan.rows).unlink()
    train(plan, stop_after_steps=1)
    recipe = read_recipe(plan.output)
    assert recipe["rows"] == {"rows": 10, "length": 16}
    check_corpus({"rows": recipe["rows"], "long_rows": None}, "anything", Path("corpus"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"corpus": "feed"}', '{"wrong": 1}', "1"])
def test_a_damaged_origin_is_named(tmp_path, content):
    (tmp_path / "rows.npy.json").write_text(content)
    with pytest.raises(ProvenanceError, match=f"cannot read {tmp_path}/rows.npy.json"):
        read_provenance(tmp_path / "rows.npy")


def test_the_recipe_says_where_the_rows_come_from(plan):
    train(plan, stop_after_steps=1)
    recipe = read_recipe(plan.output)
    assert recipe["tokenizer"] == "beef"
    for name, length in (("rows", 16), ("long_rows", 32)):
        found = recipe[name]
        assert found.pop("rows") == 10
        assert Provenance(**found) == replace(ORIGIN, length=length)


@pytest.mark.parametrize("name", ["rows.npy", "long.npy"])
def test_rows_of_another_tokenizer_are_refused(plan, tmp_path, name):
    write_provenance(tmp_path / name, replace(ORIGIN, tokenizer="dead"))
    with pytest.raises(ProvenanceError, match=f"{name} was made with the tokenizer dead, this run has beef"):
        train(plan)
    assert not plan.output.exists()


def test_rows_of_two_corpora_are_refused(plan, tmp_path):
    write_provenance(tmp_path / "long.npy", replace(ORIGIN, corpus="food"))
    with pytest.raises(ProvenanceError, match=r"rows\.npy was made from the corpus feed, .*long\.npy from food"):
        train(plan)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"seed": 2}, "seed was 1, is now 2"),
        ({"muon_rate": 0.5}, "muon_rate was 0.02, is now 0.5"),
        ({"batch_tokens": 128}, "batch_tokens was 64, is now 128"),
        ({"long_rows": None}, "long_rows was .*, is now None"),
        ({"seed": 2, "decay_share": 0.1}, "decay_share was 0.4, is now 0.1; seed was 1, is now 2"),
    ],
)
def test_a_run_does_not_go_on_with_another_recipe(plan, changes, said):
    train(plan, stop_after_steps=1)
    before = read_recipe(plan.output)
    with pytest.raises(ProvenanceError, match=f"has another recipe: {said}; give the former values"):
        train(replace(plan, **changes))
    assert read_recipe(plan.output) == before


def test_a_run_does_not_go_on_with_rows_that_were_made_anew(plan):
    train(plan, stop_after_steps=1)
    write_provenance(plan.rows, replace(ORIGIN, seed=2))
    with pytest.raises(ProvenanceError, match=r"rows\.seed was 1, is now 2"):
        train(plan)


def test_budget_output_and_threads_are_not_part_of_what_must_stay(plan, tmp_path):
    train(plan, stop_after_steps=1)
    moved = plan.output.rename(tmp_path / "moved")
    train(replace(plan, output=moved, threads=2, tokens=6 * 64, minutes=60.0, checkpoint_seconds=1.0))
    assert read_progress(moved).step == 6


def test_a_recipe_left_by_a_run_that_saved_no_state_is_written_over(plan):
    write_recipe(plan.output, {"seed": 9})
    train(plan, stop_after_steps=1)
    assert read_recipe(plan.output)["seed"] == 1


def test_what_an_older_recipe_does_not_record_is_not_compared():
    now: dict[str, Any] = {"seed": 1, "tokenizer": "beef", "rows": {"rows": 3, "length": 16, "corpus": "feed"}}
    check_recipe(Path("run"), {"seed": 1, "rows": {"rows": 3, "length": 16}, "gone": 5}, now)
    with pytest.raises(ProvenanceError, match=r"rows\.rows was 4, is now 3"):
        check_recipe(Path("run"), {"seed": 1, "rows": {"rows": 4, "length": 16}}, now)


def test_only_the_corpus_of_the_rows_judges_a_run(plan, tmp_path):
    train(plan)
    for identity in ("food", "feed"):
        corpus = tmp_path / identity
        corpus.mkdir()
        write_manifest(Manifest(identity, "3.11", ()), corpus / "manifest.json")
    assert read_records(plan.output, tmp_path / "feed").manifest.identity == "feed"
    with pytest.raises(ProvenanceError, match="food is the corpus food, the run was trained on feed"):
        read_records(plan.output, tmp_path / "food")


def test_an_origin_names_no_folder(tmp_path):
    write_provenance(tmp_path / "rows.npy", ORIGIN)
    assert str(tmp_path) not in json.dumps((tmp_path / "rows.npy.json").read_text())
