"""The index's own figures: what they are taken over, and which texts count as the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.index.segment import Segment, SegmentFile
from server.index.store import read_current
from server.index.texts import load_segments
from server.lm.decode import Generation
from tests.bench import index
from tests.bench.table import BenchError
from tests.test_completion import writer

CODE = "def add_{n}(first, second):\n    total = first + second\n    return total * {n}\n"


def test_looking_up_is_timed_so_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "N_LOOKUPS", 7)
    segment = Segment.build([SegmentFile("a.py", b"def add(first, second):\n    return first + second\n" * 20)])
    spent = list(index._lookups(segment))
    assert len(spent) == 7 and all(seconds > 0 for seconds in spent)


def test_an_update_is_timed_apart_from_the_completion_after_it() -> None:
    text = "".join(f"value_{n} = {n * n}\n" for n in range(index.SAVED_LINES + 1_000)).encode()
    update_ms, search_ms = index._update_ms(Segment.build([SegmentFile("a.py", text)]))
    assert update_ms > search_ms > 0


def test_the_build_that_is_timed_is_the_child_processs(tmp_path: Path) -> None:
    root, stored = tmp_path / "root", tmp_path / "stored"
    root.mkdir()
    for n in range(3):
        (root / f"m{n}.py").write_text(CODE.format(n=n))
    assert index._build_in_child(root, stored).n_files == 3
    assert read_current(stored) is not None


def test_only_what_was_read_of_a_mapped_index_is_resident(tmp_path: Path) -> None:
    root, stored = tmp_path / "root", tmp_path / "stored"
    root.mkdir()
    for file in range(4):
        (root / f"m{file}.py").write_text("".join(CODE.format(n=n) for n in range(1_000 * file, 1_000 * (file + 1))))
    index._build_in_child(root, stored)
    generation = read_current(stored)
    assert generation is not None
    assert index.resident_bytes(generation.repository) is None  # nothing is mapped yet
    segments = load_segments(generation)
    assert segments is not None
    resident = index.resident_bytes(generation.repository)
    if resident is None:
        pytest.skip("/proc does not tell")
    assert segments[0].text_of(0)
    on_disk = sum(path.stat().st_size for path in generation.repository.iterdir())
    assert resident < (index.resident_bytes(generation.repository) or 0) <= on_disk + 2 * 4096


def written(*steps: tuple[str, float], end: float = -0.1) -> Generation:
    """A text by its tokens and their log-probabilities."""
    texts, logprobs = tuple(text for text, _ in steps), tuple(logprob for _, logprob in steps)
    return Generation("".join(texts), "stop", 0.0, logprobs, texts, end, 1, 0, len(texts), 0, 0, 0.0, 0.0)


SAME = ("x", -0.1)


@pytest.mark.parametrize("one, other, expected", [
    # Rounding may move all that is told of a text; what counts is how near the two tokens are.
    (written(SAME, ("a", -1.0)), written(("x", -0.2), ("b", -1.0005)), True),
    (written(SAME, ("a", -1.0)), written(SAME, ("b", -1.002)), False),
    # What follows the first difference says nothing.
    (written(("a", -1.0), ("c", -9.0)), written(("b", -1.0005), ("d", -0.1)), True),
    (written(("a", -1.0), ("c", -2.0)), written(("b", -1.5), ("d", -2.0)), False),
    # One may have ended where the other goes on.
    (written(SAME, end=-1.0), written(SAME, ("a", -1.0005)), True),
    (written(SAME, end=-1.0), written(SAME, ("a", -2.0)), False),
    (written(SAME), written(SAME), False),
])  # fmt: skip
def test_texts_that_part_at_equally_likely_tokens_are_a_tie(one: Generation, other: Generation, expected: bool) -> None:
    assert index.is_tie(one, other) is index.is_tie(other, one) is expected


LINE = "    total = first_value + second_value\n"


def test_drafts_are_timed_on_lines_that_the_model_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "N_LINES", 3)
    segment = Segment.build([SegmentFile("a.py", (LINE + "    other_value = first_value\n").encode() * 20)])
    ratio, same, confirmed = index._drafts(segment, writer(LINE))
    assert ratio.value is not None and ratio.value > 0
    assert same.value == 100 and "of 3 lines; 0 part" in same.note
    assert confirmed.value is not None and confirmed.value > 50 and confirmed.note != "of 0"


def test_lines_that_the_model_writes_otherwise_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "N_WINDOWS", 2)
    segment = Segment.build([SegmentFile("a.py", LINE.encode() * 20)])
    with pytest.raises(BenchError, match="no line"):
        index._drafts(segment, writer(LINE.replace("second_value", "second_valve")))
