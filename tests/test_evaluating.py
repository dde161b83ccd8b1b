"""Before and after on held-out files: the same figures for the same model, better ones for a better one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetune import evaluating
from finetune.answers import WAYS
from finetune.collect import SourceText
from finetune.evaluating import evaluate
from finetune.examples import make_examples
from finetune.gate import decide
from finetune.general import judging_files
from finetune.held_out_bits import bits_of_files, file_bits, windows_of
from finetune.report import shown, table
from finetune.scoring import Interval
from finetune.split import Split
from server.index.lines import Line
from server.index.live import REPOSITORY, LiveIndex
from server.index.segment import Segment, SegmentFile
from server.lm.adapter_manifest import write_manifest
from server.lm.context import Document
from server.lm.model import LoadedModel, load_model
from server.lm.tokenizer import BytePairTokenizer
from server.repository.duplicates import fingerprint
from tests.adapters import random_adapter


def source(path: str, text: str) -> SourceText:
    return SourceText(path, text, "python", 0, 0, fingerprint(text))


def texts(n: int) -> list[SourceText]:
    return [
        source(f"{name}.py", "".join(f"def {name}_{at}(first):\n    return first + {at}\n\n\n" for at in range(4)))
        for name in ("alpha", "beta", "gamma", "delta", "epsilon")[:n]
    ]


def index_of(files: list[SourceText]) -> LiveIndex:
    index = LiveIndex()
    index.use({REPOSITORY: Segment.build([SegmentFile(file.path, file.text.encode()) for file in files])})
    return index


@pytest.fixture(autouse=True)
def little_general_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file of it: how much there is changes nothing here."""
    one = judging_files()[:1]
    monkeypatch.setattr(evaluating, "judging_files", lambda: one)


@pytest.fixture
def adapted(tiny_checkpoint: Path, tmp_path: Path) -> LoadedModel:
    folder = tmp_path / "adapter"
    write_manifest(folder, random_adapter(folder, tiny_checkpoint))
    return load_model(str(tiny_checkpoint), precision="fp32", threads=1, adapter=folder)


def test_a_model_against_itself_changes_nothing_and_is_refused(tiny_model: LoadedModel, tiny_checkpoint: Path) -> None:
    other = load_model(str(tiny_checkpoint), precision="fp32", threads=1)
    found = evaluate(tiny_model, other, index_of(texts(3)), texts(5)[3:], 0, 60)
    assert found.bits_change is not None and abs(found.bits_change.mean) < 1e-4
    assert found.exact_interval is not None and found.exact_interval.mean == 0 and found.won == found.lost == ()
    assert found.general_before == pytest.approx(found.general_after, rel=1e-5)
    assert found.general_change is not None and abs(found.general_change.mean) < 1e-4
    for gained in (found.alone, found.with_index):
        assert gained.exact == gained.similarity == gained.saved == Interval(0.0, 0.0, 0.0)
    assert [way.name for way in found.ways] == list(WAYS) and found.n_points > 4
    assert found.n_files == found.n_heldout == 2
    decision = decide(found, [])
    assert not decision.publish and len(decision.reasons) == 1 and "not surely easier" in decision.reasons[0]


def test_each_model_asks_an_index_of_its_own_and_takes_the_lines_it_is_sure_of(
    tiny_model: LoadedModel, adapted: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[int] = set()
    ranked = LiveIndex.ranked

    def told(index: LiveIndex, document: Document, offset: int, inserted: str = "") -> Future[list[Line]]:
        asked.add(id(index))
        return ranked(index, document, offset, inserted)

    monkeypatch.setattr(LiveIndex, "ranked", told)
    monkeypatch.setattr(LiveIndex, "opinion", lambda *_, **__: None)  # nothing is mixed in: lines alone make it better
    found = evaluate(tiny_model, adapted, index_of(texts(5)), texts(5)[3:], 0, 60)
    exact = {way.name: way.exact for way in found.ways}
    assert len(asked) == 2 and exact["base + index"] > exact["base"] and exact["adapter + index"] > exact["adapter"]


def test_sentences_are_compared_where_there_are_docstrings(tiny_model: LoadedModel, adapted: LoadedModel) -> None:
    body = '    """Adds one to the number that is given."""\n    total = number + 1\n    return total\n'
    files = [source(f"{name}.py", f"def {name}_add(number):\n{body}") for name in ("alpha", "beta", "gamma")]
    found = evaluate(tiny_model, adapted, index_of([]), files, 0, 60)
    assert found.n_functions == 3 and found.chrf_change is not None
    assert found.chrf_change.mean == pytest.approx(found.chrf_after - found.chrf_before)
    assert any(line.startswith("sentences on 3 functions") for line in table(found))
    assert evaluate(tiny_model, adapted, index_of([]), texts(2), 0, 60).chrf_change is None


def test_of_many_files_as_many_are_judged_as_there_is_time_for(tiny_model: LoadedModel, adapted: LoadedModel) -> None:
    files = [source(f"f{n}.py", texts(1)[0].text.replace("alpha", f"name_{n}") * 9) for n in range(400)]
    began = time.monotonic()
    found = evaluate(tiny_model, adapted, index_of([]), files, 0, 1.0)
    assert 0 < found.n_files < found.n_heldout == 400 and time.monotonic() - began < 30
    assert any(f"{found.n_files} of 400" in line for line in table(found))


def test_the_index_helps_where_lines_repeat(tiny_model: LoadedModel, adapted: LoadedModel) -> None:
    found = evaluate(tiny_model, adapted, index_of(texts(3)), texts(5)[3:], 0, 60)
    ways = {way.name: way for way in found.ways}
    assert ways["base + index"].exact > ways["base"].exact
    assert found.bits_after != found.bits_before
    lines = table(found)
    assert any(line.startswith("adapter + index") for line in lines) and "bits per byte" in "\n".join(lines)


def test_without_time_there_are_no_points_and_the_gate_says_so(tiny_model: LoadedModel, adapted: LoadedModel) -> None:
    found = evaluate(tiny_model, adapted, index_of([]), texts(2), 0, 0.0)
    assert found.n_points == 0 and found.exact_interval is None
    assert any("No suggestion was compared" in reason for reason in decide(found, []).reasons)


def bits_of(model: LoadedModel, path: str, text: str) -> float:
    ids = model.tokenizer.encode(text)
    return file_bits(model, path, ids, windows_of([model], path, ids))


def test_bits_are_those_of_a_random_model_and_windows_lose_no_token(tiny_model: LoadedModel) -> None:
    text = texts(1)[0].text * 40
    per_token = bits_of(tiny_model, "a.py", text) / len(tiny_model.tokenizer.encode(text))
    assert 0.5 * math.log2(440) < per_token < 2.5 * math.log2(440)
    assert bits_of(tiny_model, "a.py", "") == 0.0


def test_where_time_ends_each_file_has_been_looked_into_and_with_time_all_of_it(tiny_model: LoadedModel) -> None:
    files = [source(f"{name}.py", texts(1)[0].text.replace("alpha", name) * 60) for name in ("alpha", "beta")]
    asked: list[float] = []

    def both(ask: Callable[[LoadedModel], float]) -> tuple[float, float]:
        asked.append(ask(tiny_model))
        return asked[-1], asked[-1] / 2

    whole, share = bits_of_files(both, [tiny_model], files, 0, math.inf)
    assert share == 1.0 and [each.n_bytes for each in sorted(whole, key=lambda each: each.path)] == [
        len(file.text.encode()) for file in files
    ]
    for each in whole:
        text = next(file.text for file in files if file.path == each.path)
        assert each.before == pytest.approx(bits_of(tiny_model, each.path, text), rel=1e-5)
        assert each.after == pytest.approx(each.before / 2)
    n_windows, asked = len(asked), []
    clock = iter([0.0, 2.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetune.held_out_bits.time", SimpleNamespace(monotonic=lambda: next(clock)))
        some, share = bits_of_files(both, [tiny_model], files, 0, 1.0)
    assert len(asked) == 2 < n_windows and len(some) == 2 and 0 < share < 0.9


@pytest.mark.parametrize(
    ("change", "said"),
    [(None, "not measured"), (Interval(-0.02, -0.03, -0.01), "-0.020 [-0.030, -0.010]")],
)
def test_changes_are_shown_with_their_interval(change: Interval | None, said: str) -> None:
    assert shown(change) == said


def test_rows_have_general_code_and_one_length(tiny_model: LoadedModel) -> None:
    tokenizer = tiny_model.tokenizer
    assert isinstance(tokenizer, BytePairTokenizer)
    files = [source(f"f{n}.py", texts(1)[0].text.replace("alpha", f"name_{n}") * 8) for n in range(12)]
    parts = Split(tuple(files[:10]), tuple(files[10:11]), tuple(files[11:]))
    found = make_examples(parts, tokenizer, 128, seed=0)
    assert found.train.shape[1] == found.validation.shape[1] == 129 and len(found.general) > 0
    assert found.share_seen == 1
    few = make_examples(parts, tokenizer, 128, seed=0, max_rows=5, novelty={"f3.py": 9.0})
    assert len(few.train) == 5 and few.share_seen < 1
