"""Progress: rewritten on a terminal, plain lines with pauses elsewhere."""

from __future__ import annotations

import io

import pytest

from finetune import progress
from finetune.progress import Display, minutes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_is_rewritten_and_left_before_the_next() -> None:
    stream = Terminal()
    display = Display(stream)
    for done in (1, 2, 4):
        display.step("step", done, 4, 10.0 * done)
    display.say("done")
    shown = stream.getvalue()
    assert shown.count("\n") == 2 and shown.endswith("step 4 of 4\ndone\n")
    assert "step 1 of 4, 30 s left" in shown and "[######      " in shown


def test_what_is_known_to_be_left_is_shown_as_it_is() -> None:
    stream = Terminal()
    Display(stream).step("step", 1, 4, 10.0, left_s=50.0)
    assert "step 1 of 4, 50 s left" in stream.getvalue()


def test_a_line_that_is_rewritten_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    Display(stream).step("step", 1, 148, 100.0, "best validation 1.782")
    assert len(stream.getvalue().removeprefix("\r\033[K")) == 39


def test_elsewhere_lines_come_now_and_then_and_the_last_one_always(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, now = io.StringIO(), 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    display = Display(stream)
    for done in range(1, 11):
        now += 6
        display.step("step", done, 10, 6.0 * done, "fine")
    lines = stream.getvalue().splitlines()
    assert 3 <= len(lines) <= 5 and lines[-1] == "step 10 of 10, fine" and "\r" not in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (-3, "0 s"), (89, "89 s"), (90, "1 min 30 s"), (601, "10 min 01 s")]
)
def test_times_are_for_people(seconds: float, shown: str) -> None:
    assert minutes(seconds) == shown
