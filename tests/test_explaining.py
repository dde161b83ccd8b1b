"""Hovers wait no longer than they may, make way for typing, and lose nothing that was written for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.explaining import Explaining
from server.lm.context import Document
from server.lm.languages import language_for
from server.scheduler import Scheduler, Urgency
from server.settings import HoverSettings
from tests.marks import split_at_cursor
from tests.test_session import WAIT_S, Gate, model

SOURCE = "def add(first, second):\n    return first + second"
SENTENCE = "Adds the second number to the first."
SCRIPT = f"{SOURCE}{SENTENCE}\n"
DRAWN = f"{SOURCE}\n\n\na<|>dd(1, 2)\n"
PATIENT = HoverSettings(deadline_ms=20_000)
HASTY = HoverSettings(deadline_ms=10)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def worker() -> Scheduler:
    return Scheduler("test-worker")


@pytest_asyncio.fixture
async def explaining(worker: Scheduler, gate: Gate) -> AsyncIterator[Explaining]:
    result = Explaining(worker)
    yield result
    gate.open.set()
    worker.close()
    result.close()
    assert worker.join(WAIT_S)


def place(drawn: str = DRAWN, language: str = "python") -> tuple[Document, int]:
    text, offset = split_at_cursor(drawn)
    return Document("file:///work/module.py", "module.py", language_for(language), text), offset


async def test_a_hover_has_the_facts_and_the_sentence_that_came_in_time(explaining: Explaining, gate: Gate) -> None:
    document, offset = place()
    explanation = await explaining.hover(document, offset, model(gate, SCRIPT), PATIENT)
    assert explanation is not None
    assert explanation.sentence == SENTENCE
    assert "def add(first, second)" in explanation.markdown
    assert document.text[explanation.start : explanation.end] == "add"


async def test_without_a_model_a_hover_has_the_facts(explaining: Explaining) -> None:
    explanation = await explaining.hover(*place(), None, PATIENT)
    assert explanation is not None
    assert explanation.sentence is None
    assert "def add(first, second)" in explanation.markdown


@pytest.mark.parametrize("drawn", ["x = 'wo<|>rd'\n", "<|>\n", "undefined<|>\n", "# no<|>te\n"])
async def test_there_is_no_hover_where_there_is_nothing_to_say(explaining: Explaining, drawn: str) -> None:
    assert await explaining.hover(*place(drawn), None, PATIENT) is None


async def test_a_late_sentence_is_there_for_the_next_hover(
    explaining: Explaining, worker: Scheduler, gate: Gate
) -> None:
    slow = model(gate, SCRIPT)
    await explaining.hover(*place(), None, PATIENT)  # what has to be imported is
    gate.close()
    early = await explaining.hover(*place(), slow, HASTY)
    assert early is not None
    assert early.sentence is None
    assert "def add(first, second)" in early.markdown
    await gate.reached()
    gate.open.set()
    after = worker.submit(Urgency.PREFILL, "after it", lambda _: None)
    await asyncio.wrap_future(after.future)
    n_passed = gate.n_passed
    later = await explaining.hover(*place(), slow, PATIENT)
    assert later is not None
    assert (later.sentence, gate.n_passed) == (SENTENCE, n_passed)


async def test_hovering_again_waits_for_the_sentence_that_is_being_written(explaining: Explaining, gate: Gate) -> None:
    slow = model(gate, SCRIPT)
    await explaining.hover(*place(), None, PATIENT)
    gate.close()
    await explaining.hover(*place(), slow, HASTY)
    await gate.reached()
    assert explaining._writing is not None
    job = explaining._writing[2]
    await explaining.hover(*place(), slow, HASTY)
    assert explaining._writing[2] is job
    gate.open.set()
    sentence = await asyncio.wrap_future(job.future)
    assert sentence is not None
    assert sentence.text == SENTENCE


async def test_typing_comes_first_and_the_sentence_is_finished_after_it(
    explaining: Explaining, worker: Scheduler, gate: Gate
) -> None:
    gate.close()
    hover = asyncio.create_task(explaining.hover(*place(), model(gate, SCRIPT), PATIENT))
    await gate.reached()
    typing = worker.submit(Urgency.COMPLETION, "typing", lambda _: gate.n_passed)
    gate.open.set()
    n_passed = await asyncio.wrap_future(typing.future)
    explanation = await hover
    assert explanation is not None
    assert explanation.sentence == SENTENCE
    assert n_passed is not None
    assert n_passed <= 1 < gate.n_passed


async def test_cancelling_a_hover_frees_the_worker(explaining: Explaining, worker: Scheduler, gate: Gate) -> None:
    gate.close()
    hover = asyncio.create_task(explaining.hover(*place(), model(gate, SCRIPT), PATIENT))
    await gate.reached()
    hover.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hover
    gate.open.set()
    free = worker.submit(Urgency.PREFILL, "next", lambda _: gate.n_passed)
    assert await asyncio.wrap_future(free.future) <= 1  # type: ignore[operator]


async def test_a_model_that_fails_costs_a_hover_its_sentence_alone(
    explaining: Explaining, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.pass_through = lambda: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    explanation = await explaining.hover(*place(), model(gate, SCRIPT), PATIENT)
    assert explanation is not None
    assert explanation.sentence is None
    assert "ZeroDivisionError" in caplog.text


async def test_explaining_a_selection_says_a_sentence_about_it(explaining: Explaining, gate: Gate) -> None:
    document, _ = place()
    explanation = await explaining.explain(document, 0, len(SOURCE), model(gate, SCRIPT), PATIENT)
    assert explanation is not None
    assert explanation.sentence == SENTENCE


async def test_a_hover_does_not_take_the_place_of_a_command(explaining: Explaining, gate: Gate) -> None:
    gate.close()
    document, offset = place()
    author = model(gate, SCRIPT)
    command = asyncio.create_task(explaining.explain(document, 0, len(SOURCE), author, PATIENT))
    await gate.reached()
    hover = asyncio.create_task(explaining.hover(document, offset, author, PATIENT))
    await asyncio.sleep(0)
    gate.open.set()
    answers = [await command, await hover]
    assert [answer.sentence for answer in answers if answer is not None] == [SENTENCE, SENTENCE]
