"""The index's own figures: what they are taken over, and that bounds are kept apart from them."""

from __future__ import annotations

from pathlib import Path

from server.index.segment import Segment, SegmentFile
from tests.bench import index


def test_looking_up_is_timed_so_many_times(monkeypatch):
    monkeypatch.setattr(index, "N_LOOKUPS", 7)
    segment = Segment.build([SegmentFile("a.py", b"def add(first, second):\n    return first + second\n" * 20)])
    spent = list(index._lookups(segment))
    assert len(spent) == 7 and all(seconds > 0 for seconds in spent)


def test_an_update_is_timed_on_a_text_of_2000_lines(tmp_path: Path):
    segment = Segment.build([SegmentFile("a.py", b"value = 1\n" * 3_000)])
    assert index._update_ms(segment) > 0
