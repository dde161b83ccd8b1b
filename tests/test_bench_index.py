"""The index's own figures: what they are taken over, and which texts count as the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from server.index.segment import Segment, SegmentFile
from server.index.store import read_current
from server.index.texts import load_segments
from tests.bench import index

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


def heard(*steps: tuple[str, list[float]]) -> dict[bytes, np.ndarray]:
    """Log-probabilities of three tokens by the text before them."""
    return {text.encode(): np.array(log_probs, dtype=np.float32) for text, log_probs in steps}


SAME = ("", [-0.1, -3.0, -3.0])


@pytest.mark.parametrize("with_drafts, without, expected", [
    # Rounding may move all of a distribution; what counts is how near the two tokens are in one of them.
    (heard(SAME, ("a", [-1.0, -1.1, -3.0])), heard(SAME, ("a", [-1.0205, -1.02, -3.0])), True),
    (heard(SAME, ("a", [-1.0, -1.1, -3.0])), heard(SAME, ("a", [-1.022, -1.02, -3.0])), False),
    # What follows the first difference says nothing.
    (heard(("", [-1.0, -1.1, -3.0]), ("a", [-9.0, 0.0, -9.0])), heard(("", [-1.0005, -1.0, -3.0])), True),
    (heard(SAME), heard(SAME), False),
])  # fmt: skip
def test_texts_that_part_at_equally_likely_tokens_are_a_tie(
    with_drafts: dict[bytes, np.ndarray], without: dict[bytes, np.ndarray], expected: bool
) -> None:
    assert index.is_tie(with_drafts, without) is expected


class Doubling:
    """An opinion that doubles what it is given."""

    def __init__(self) -> None:
        self.prepared: list[bytes] = []

    def prepare(self, texts: Sequence[bytes]) -> None:
        self.prepared += texts

    def mix(self, log_probs: np.ndarray, text_so_far: bytes) -> np.ndarray:
        return 2 * log_probs


def test_an_opinion_is_heard_as_it_is() -> None:
    opinion = Doubling()
    listener = index.Heard(opinion)  # type: ignore[arg-type]
    listener.prepare([b"a", b"ab"])
    assert opinion.prepared == [b"a", b"ab"]
    assert listener.mix(np.array([-1.0]), b"a").tolist() == [-2.0]
    assert listener.by_text[b"a"].tolist() == [-2.0]
