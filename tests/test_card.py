"""The model card says what the records say, and breaks no table."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.pretrain import card as module
from finetune.pretrain.card import Records, model_card
from finetune.pretrain.card_figures import explanation_verdict
from finetune.pretrain.choice import EXCLUDED_PACKAGES, read_names, split_of
from finetune.pretrain.manifest import Manifest, PackageRecord, read_manifest
from finetune.pretrain.npm_archives import NAME_PREFIX
from finetune.pretrain.run_folder import Progress
from tests.bench.repositories import HELD_OUT

MEASURED = set("streamlink beets soco nikola pymodbus mitmproxy rxjs tweepy fabric pychromecast".split())
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
        "training_bytes": 20_000_000,
        "by_kind": {
            "name": {"share_of_bytes": 0.3, "share_of_bits": 0.45, "bits_per_byte": 2.751},
            "layout": {"share_of_bytes": 0.7, "share_of_bits": 0.55, "bits_per_byte": 1.441},
        },
        "files_without_kinds": 2,
    },
    "former": {"weights_sha256": "dead", "bits_per_byte": 1.999},
    "next_line": {"lines": 300, "exact_match": 0.0333},
    "mid_line": {"lines": 290, "exact_match": 0.252},
    "explanation": {
        "functions": 200,
        "functions_searched": 6884,
        "chrf": {
            "model": 0.123,
            "name": 0.111,
            "similar": 0.2,
            "over_name": {"mean": 0.012, "low": 0.002, "high": 0.022},
            "over_similar": {"mean": -0.077, "low": -0.1, "high": -0.05},
        },
        "bleu": {
            "model": 0.05,
            "name": 0.06,
            "similar": 0.07,
            "over_name": {"mean": -0.01, "low": -0.03, "high": 0.01},
            "over_similar": {"mean": -0.02, "low": -0.04, "high": 0.0},
        },
    },
    "next_lines_shown": [{"path": "p/a.py", "above": "import os\n\n    ", "expected": "x = 1", "written": "y = `|`"}],
    "mid_lines_shown": [{"path": "p/b.py", "above": "import os\nx = f(", "expected": "a)", "written": "b)"}],
    "explanations_shown": [
        {"path": "p/a.py", "name": "add", "expected": "Adds both.", "written": "A | `b` *c* <d>\n e_f"}
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
        "90.0 minutes, 2,000 steps, 8.19 million tokens, 1,517 tokens/s",
        "1,000 rows of 512 tokens, in the last 30 % of the run from 100 rows of 1024",
        "8 % of the rows are explanations",
        "peak rate 0.02",
        "| parameters | 5.5 million, stored as fp16 |",
        "| bits per byte | **1.834** |",
        "| the same files in one stream of `xz -9e` | 2.011 |",
        "5-gram model of 20 MB of the training text | 2.345 |",
        "**3.3 %** of 300",
        "**25.2 %** of 290",
        "it writes 3.3 % of whole lines and 25.2 % of the ends of lines right",
        "| the same files by the model before | 1.999 |",
        "| name | 30.0 % | 45.0 % | 2.751 |",
        "Left out: 2 files that Python cannot cut into tokens.",
        "| **the model's sentence** | 12.3 | 5.0 |",
        "| the function's name spelled out | 11.1 (+1.2, +0.2 to +2.2) | 6.0 (-1.0, -3.0 to +1.0) |",
        "training function | 20.0 (-7.7, -10.0 to -5.0) | 7.0",
        "By chrF the model beats the function's name spelled out.",
        "of 6,884 functions",
        "inside a line 20 %, at the end of a block 30 %, at the end of any other line 50 %",
        "![loss over tokens](loss.svg)",
        "## 2 completions and 1 explanations, unselected",
        "| trained on | 8.19 million tokens |",
        "weights, sha256 | `beef` |",
        "| 2,000 | 8.19 | 90.0 | 5.000 |",
        "Apache-2.0, as the rest of the project",
    ],
)
def test_the_records_are_in_the_card(card, said):
    assert " ".join(said.split()) in " ".join(card.split())


def test_the_trials_are_shown_word_for_word(card):
    assert "`p/a.py`\n\n        import os\n    >>>     ¦y = `|`\n    ===     ¦x = 1" in card
    assert "`p/b.py`\n\n        import os\n    >>> x = f(¦b)\n    === x = f(¦a)" in card
    assert "| `add` | A \\| \\`b\\` \\*c\\* \\<d\\> e\\_f | Adds both. |" in card


def test_every_row_of_a_table_has_as_many_cells_as_its_head(card):
    blocks = [block.split("\n") for block in card.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 8
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


def with_recipe(**changes: object) -> Records:
    return Records(**{**fields(RECORDS), "recipe": {**RECORDS.recipe, **changes}})


def test_a_run_from_former_weights_says_so_and_counts_their_tokens():
    records = with_recipe(**{"from": {"weights_sha256": "f00d", "trained_tokens": 5_000_000}})
    card = " ".join(model_card(records, FIGURES).split())
    assert records.trained_tokens == 13_192_000
    assert "| trained on | 13.19 million tokens |" in card
    assert "(sha256 `f00d`) that had seen 5.00 million tokens, and went on for 8.19 million: 13.19 million" in card
    assert "It has 6 million parameters and has seen 13 million tokens" in card
    assert "former weights" not in model_card(RECORDS, FIGURES)


def test_the_utilisation_is_told_where_it_was_measured():
    log = [{**entry, "flop_utilisation": 0.25 + 0.1 * (n % 2)} for n, entry in enumerate(RECORDS.log[:10])]
    card = " ".join(model_card(Records(**{**fields(RECORDS), "log": log}), FIGURES).split())
    assert "1,517 tokens/s, 30 % of the device's peak. Batches" in card
    assert "peak. Batches" not in " ".join(model_card(RECORDS, FIGURES).split())


def test_shares_that_the_rows_record_are_the_ones_that_count():
    rows = {"rows": 1000, "length": 512, "shares": {"explanation": 0.12, "end_in_line": 0.35}}
    card = " ".join(model_card(with_recipe(rows=rows), FIGURES).split())
    assert "12 % of the rows are explanations" in card
    assert "inside a line 35 %, at the end of a block 30 %, at the end of any other line 35 %" in card


@pytest.mark.parametrize(
    "low, high, verdict",
    [(0.01, 0.02, "beats"), (-0.02, -0.01, "does not reach"), (-0.01, 0.01, "cannot be told from")],
)
def test_the_verdict_on_sentences_is_that_of_the_interval(low, high, verdict):
    assert explanation_verdict({"chrf": {"over_name": {"low": low, "high": high}}}).startswith(verdict)


def test_without_a_former_model_there_is_no_row_of_it():
    assert "model before" not in model_card(RECORDS, {**FIGURES, "former": None})


def test_what_is_folded_is_unfolded_again(card):
    assert card.count("<details>\n<summary>") == card.count("\n\n</details>") == 5


def test_a_run_without_long_rows_says_nothing_of_them():
    records = Records(**{**fields(RECORDS), "recipe": {**RECORDS.recipe, "long_rows": None}})
    assert "1,000 rows of 512 tokens, gone over 16.0 times. A row starts" in " ".join(
        model_card(records, FIGURES).split()
    )


@pytest.fixture(scope="module")
def shipped() -> Manifest:
    return read_manifest(ROOT / module.MANIFEST_PATH)


def names_of(manifest: Manifest) -> set[str]:
    """The names of packages, those of npm without what tells them from Python's, and without their scope as well."""
    whole = {package.name.removeprefix(NAME_PREFIX) for package in manifest.packages}
    return whole | {name.rsplit("/", 1)[-1] for name in whole}


def test_the_record_of_the_corpus_holds_no_package_that_must_stay_out(shipped):
    assert names_of(shipped).isdisjoint(read_names(EXCLUDED_PACKAGES))
    assert all(package.split == split_of(package.name) for package in shipped.packages)
    assert all(len(package.sha256) == 64 and package.licence and package.version for package in shipped.packages)


def test_the_record_of_the_corpus_holds_no_package_that_measuring_uses(shipped):
    measured = {package.name for package in HELD_OUT} | MEASURED
    names = names_of(shipped)
    assert len(names) > 500
    assert names.isdisjoint(measured)
    assert measured <= read_names(EXCLUDED_PACKAGES), "so that no later corpus holds them either"


def test_the_record_of_the_corpus_names_no_folder(shipped):
    assert all("/" not in package.archive and "\\" not in package.archive for package in shipped.packages)
    text = (ROOT / module.MANIFEST_PATH).read_text(encoding="utf-8")
    assert "//" not in text and "home" not in text
