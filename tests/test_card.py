"""The model card says what the records say, and breaks no table."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.pretrain import card as module
from finetune.pretrain.card import Records, model_card
from finetune.pretrain.choice import EXCLUDED_PACKAGES, read_names, split_of
from finetune.pretrain.manifest import Manifest, PackageRecord, read_manifest
from finetune.pretrain.run_folder import Progress

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = (
    PackageRecord("one", "1.0", "one-1.0.whl", "aa", "MIT", 10, 2_000_000, "train"),
    PackageRecord("two", "1.0", "two-1.0.whl", "bb", "MIT", 10, 1_500_000, "train"),
    PackageRecord("three", "1.0", "three-1.0.whl", "cc", "Apache-2.0", 5, 400_000, "heldout"),
)
RECORDS = Records(
    recipe={
        "shape": {"n_layer": 4, "n_embd": 256, "n_head": 4, "n_positions": 1024, "vocab_size": 8192},
        "rows": {"rows": 1000, "length": 512},
        "long_rows": {"rows": 100, "length": 1024},
        "long_share": 0.3,
        "batch_tokens": 4096,
        "muon_rate": 0.02,
        "adam_rate": 0.003,
        "weight_decay": 0.05,
        "warmup_steps": 60,
        "decay_share": 0.4,
        "seed": 1,
    },
    progress=Progress(2_000, 8_192_000, 5_400.0),
    log=[
        {"step": step, "tokens": 4096 * step, "seconds": 2.7 * step, "rate": 1.0, "loss": 9 - step / 500}
        for step in range(5, 2_001, 5)
    ],
    manifest=Manifest("feed", "3.11.7", PACKAGES, {"copyleft licence": ["x", "y"]}, {"generated": 7}, 3),
    n_parameters=5_500_000,
)
FIGURES = {
    "weights_sha256": "beef",
    "precision": "int8",
    "bits_per_byte": {
        "packages": 31,
        "files": 40,
        "bytes": 400_000,
        "model": 1.834,
        "xz": 2.011,
        "ngram": 2.345,
        "ngram_order": 5,
        "ngram_training_bytes": 20_000_000,
    },
    "next_line": {"lines": 300, "exact_match": 0.0333},
    "explanation": {"functions": 200, "chrf": 0.123, "name_chrf": 0.111},
    "completions": [{"path": "p/a.py", "above": "import os\n\n    ", "expected": "x = 1", "written": "y = `|`"}],
    "explanations": [
        {"path": "p/a.py", "name": "add", "expected": "Adds both.", "written": "A | `b` *c* <d>\n e_f", "chrf": 0.1}
    ],
}


@pytest.fixture
def card() -> str:
    return model_card(RECORDS, FIGURES)


@pytest.mark.parametrize(
    "said",
    [
        "| training | 2 | 20 | 3.5 |",
        "| held out | 1 | 5 | 0.4 |",
        "| MIT | 2 | 3.5 |\n| Apache-2.0 | 1 | 0.4 |",
        "Packages left out: copyleft licence 2.",
        "Files left out: generated 7. 3 strings",
        "90 minutes, 2,000 steps, 8.19 million tokens, 1,517 tokens/s",
        "1,000 rows of 512 tokens, in the last 30 % of the run from 100 rows of 1024",
        "8 % of the rows are explanations",
        "2,048 entries 2.71, 4,096 entries 2.60, 8,192 entries 2.50",
        "peak rate 0.02",
        "| parameters | 5.5 million, stored as fp16 |",
        "| bits per byte | **1.834** |",
        "| the same files in one stream of `xz -9e` | 2.011 |",
        "5-gram model of 20 MB of the training text | 2.345 |",
        "**3.3 %** of 300",
        "**12.3** over 200 functions",
        "spelled out, chrF | 11.1 |",
        "weights, sha256 | `beef` |",
        "| 2,000 | 8.19 | 90.0 | 5.000 |",
        "Apache-2.0, as the rest of the project",
    ],
)
def test_the_records_are_in_the_card(card, said):
    assert " ".join(said.split()) in " ".join(card.split())


def test_the_trials_are_shown_word_for_word(card):
    assert "`p/a.py`\n\n        import os\n    >>>     y = `|`\n    ===     x = 1" in card
    assert "| `add` | A \\| \\`b\\` \\*c\\* \\<d\\> e\\_f | Adds both. |" in card


def test_every_row_of_a_table_has_as_many_cells_as_its_head(card):
    blocks = [block.split("\n") for block in card.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 6
    for block in blocks:
        assert len({row.replace("\\|", "").count("|") for row in block}) == 1


def test_no_line_of_prose_is_long(card):
    assert all(len(line) <= 120 for line in card.split("\n") if not line.startswith("|"))


@pytest.mark.parametrize("n_entries, n_rows", [(400, module.N_LOG_ROWS), (2, 2), (1, 1), (0, 0)])
def test_the_loss_is_shown_in_a_few_rows(n_entries, n_rows):
    records = Records(**{**fields(RECORDS), "log": RECORDS.log[:n_entries]})
    table = model_card(records, FIGURES).split("| step |")[1].split("\n\n")[0]
    assert table.count("\n") == 1 + n_rows


def fields(records: Records) -> dict[str, object]:
    return {name: getattr(records, name) for name in Records.__slots__}


def test_a_run_without_long_rows_says_nothing_of_them():
    records = Records(**{**fields(RECORDS), "recipe": {**RECORDS.recipe, "long_rows": None}})
    assert "1,000 rows of 512 tokens. A row starts" in " ".join(model_card(records, FIGURES).split())


@pytest.fixture(scope="module")
def shipped() -> Manifest:
    return read_manifest(ROOT / module.MANIFEST_PATH)


def test_the_record_of_the_corpus_holds_no_package_that_must_stay_out(shipped):
    assert {package.name for package in shipped.packages}.isdisjoint(read_names(EXCLUDED_PACKAGES))
    assert all(package.split == split_of(package.name) for package in shipped.packages)
    assert all(len(package.sha256) == 64 and package.licence and package.version for package in shipped.packages)


def test_the_record_of_the_corpus_names_no_folder(shipped):
    assert all("/" not in package.archive and "\\" not in package.archive for package in shipped.packages)
    text = (ROOT / module.MANIFEST_PATH).read_text(encoding="utf-8")
    assert "//" not in text and "home" not in text
