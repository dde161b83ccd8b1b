"""Rows of a repository: general code and explanations in their share, what is new first, the same rows every time."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from finetune import examples
from finetune.collect import SourceText
from finetune.examples import Examples, general_files, make_examples
from finetune.novelty import novelty
from finetune.split import Split
from server.lm.errors import UserError
from server.lm.tokenizer import BytePairTokenizer, load_tokenizer
from server.repository.duplicates import fingerprint

LENGTH = 128
BASE = Path(__file__).resolve().parents[1] / "server" / "base_model"


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    found = load_tokenizer(BASE)
    assert isinstance(found, BytePairTokenizer)
    return found


def source(path: str, text: str) -> SourceText:
    return SourceText(path, text, "python", 0, 0, fingerprint(text))


def python(name: str, n: int = 30) -> SourceText:
    draw = random.Random(name)
    parts = [
        f'def {name}_{i}(first, second):\n    """Return the {name} of an order that is open."""\n'
        f"    value = first + {draw.randrange(99)}\n    return value * second\n\n\n"
        for i in range(n)
    ]
    return source(f"{name}.py", "".join(parts))


def typescript(name: str) -> SourceText:
    return source(f"{name}.ts", "".join(f"export const {name}{i} = (a: number) => a * {i};\n" for i in range(90)))


def parts(*train: SourceText) -> Split:
    return Split(tuple(train), (python("chosen"),), (python("judged"),))


def n_explaining(found: Examples, tokenizer: BytePairTokenizer) -> int:
    assert tokenizer.special is not None
    return int((found.train == tokenizer.special.doc).any(axis=1).sum())


def text_of(rows: np.ndarray, tokenizer: BytePairTokenizer) -> str:
    return "".join(tokenizer.decode(row.tolist()) for row in rows)


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(tokenizer: BytePairTokenizer) -> None:
    split = parts(python("order"), python("price"))
    one, again, other = (make_examples(split, tokenizer, LENGTH, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.train, again.train) and np.array_equal(one.validation, again.validation)
    assert not np.array_equal(one.train[: len(other.train)], other.train[: len(one.train)])
    assert one.train.dtype == np.uint16 and one.train.shape[1] == LENGTH + 1 and one.share_seen == 1.0


def test_general_code_stands_beside_the_repositorys(tokenizer: BytePairTokenizer) -> None:
    found = make_examples(parts(*(python(name) for name in ("order", "price", "stock"))), tokenizer, LENGTH, 0)
    assert len(found.general) == len(found.train) and found.general.shape[1] == LENGTH + 1
    assert "def order_1(" not in text_of(found.general, tokenizer)


def test_a_base_without_markers_is_asked_for_general_code_without_them(tokenizer: BytePairTokenizer) -> None:
    special = tokenizer.special
    assert special is not None
    found = make_examples(parts(python("order")), tokenizer, LENGTH, 0, knows_markers=False)
    assert len(found.general) == len(found.train)
    markers = [special.file, special.fim_prefix, special.fim_suffix, special.fim_middle, special.doc]
    assert not np.isin(found.general, markers).any() and np.isin(found.train, markers).any()
    whole = text_of(found.general[:, :], tokenizer)
    assert whole.count("def ") > 5


def test_neither_validation_nor_judging_text_is_learned_from(tokenizer: BytePairTokenizer) -> None:
    found = make_examples(parts(python("order")), tokenizer, LENGTH, 0)
    learned = text_of(found.train, tokenizer)
    assert "order_1" in learned and "chosen_1" not in learned and "judged_1" not in learned
    assert "chosen_1" in text_of(found.validation, tokenizer)


def test_the_most_novel_files_come_first_and_the_share_is_told(tokenizer: BytePairTokenizer) -> None:
    split = parts(*(python(name) for name in ("order", "price", "stock")))
    new = {"order.py": 1.0, "price.py": 3.0, "stock.py": 0.5}
    found = make_examples(split, tokenizer, LENGTH, 0, max_rows=8, novelty=new)
    assert len(found.train) == 8 and 0 < found.share_seen < 0.5
    lines = text_of(found.train, tokenizer)
    assert "def price_1(" in lines and "def stock_1(" not in lines


@pytest.mark.parametrize("max_rows", [None, 40])
def test_explanations_are_among_the_rows_also_where_less_than_an_epoch_fits(
    tokenizer: BytePairTokenizer, max_rows: int | None
) -> None:
    files = [python(name, 60) for name in ("order", "price", "stock", "member")]
    new = {file.path: 1.0 for file in files}
    found = make_examples(parts(*files), tokenizer, LENGTH, 0, max_rows=max_rows, novelty=new)
    assert n_explaining(found, tokenizer) / len(found.train) > 0.02


def test_typescript_gives_rows(tokenizer: BytePairTokenizer) -> None:
    found = make_examples(parts(typescript("order"), typescript("price")), tokenizer, LENGTH, 0)
    assert "export const order" in text_of(found.train, tokenizer)


def test_files_without_a_row_are_refused(tokenizer: BytePairTokenizer) -> None:
    with pytest.raises(
        UserError, match=r"1 with 6 bytes are left to learn from, 1 with [\d,]+ bytes.*at least 48 tokens"
    ):
        make_examples(parts(source("a.py", "x = 1\n")), tokenizer, LENGTH, 0)


def test_general_files_are_the_librarys_own_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "test" / "lib"
    for path in ("json/encoder.py", "test/some.py", "site-packages/other.py"):
        (library / path).parent.mkdir(parents=True)
        (library / path).write_text("value = 1\n" * 200)
    monkeypatch.setattr(examples.sysconfig, "get_path", lambda _name: str(library))
    assert [file.path for file in general_files(0, 10_000)] == ["json/encoder.py"]


def test_what_is_novel_is_asked_of_a_bounded_number_of_files(tokenizer: BytePairTokenizer) -> None:
    model = SimpleNamespace(loss=lambda _ids, _targets, n: SimpleNamespace(item=lambda: float(n)))
    files = [python(f"name{i}") for i in range(9)]
    assert len(novelty(model, tokenizer, files, 3)) == 3  # type: ignore[arg-type]
    assert novelty(model, tokenizer, files, 9).keys() == {file.path for file in files}  # type: ignore[arg-type]
