"""Hovers wait no longer than they may, make way for typing, and lose nothing that was written for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

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


async def waiting(explaining: Explaining, n_hovers: int) -> None:
    """Returns when so many hovers wait for the sentence that is being written."""
    async with asyncio.timeout(WAIT_S):
        while explaining._writing is None or explaining._writing.n_waiting < n_hovers:
            await asyncio.sleep(0)


async def test_a_hover_has_the_facts_and_the_sentence_that_came_in_time(explaining: Explaining, gate: Gate) -> None:
    document, offset = place()
    explanation = await explaining.hover(document, offset, model(gate, SCRIPT), PATIENT)
    assert explanation is not None
    assert explanation.sentence == SENTENCE
    assert "def add(first, second)" in explanation.markdown
    assert document.text[explanation.start : explanation.end] == "add"


@pytest.mark.parametrize(("generate", "sentence"), [("auto", None), ("always", SENTENCE)])
async def test_a_model_that_says_less_than_a_name_is_asked_only_where_that_is_wanted(
    explaining: Explaining, gate: Gate, generate: Any, sentence: str | None
) -> None:
    author = replace(model(gate, SCRIPT), explains_by_default=False)
    settings = replace(PATIENT, generate=generate)
    explanation = await explaining.hover(*place(), author, settings)
    assert explanation is not None
    assert explanation.sentence == sentence


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
    job = explaining._writing.job
    await explaining.hover(*place(), slow, HASTY)
    assert explaining._writing.job is job
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


async def test_cancelling_a_hover_leaves_the_sentence_to_another_that_waits_for_it(
    explaining: Explaining, gate: Gate
) -> None:
    gate.close()
    author = model(gate, SCRIPT)
    one = asyncio.create_task(explaining.hover(*place(), author, PATIENT))
    await gate.reached()
    document, offset = place()
    other = asyncio.create_task(explaining.hover(replace(document, uri="file:///link.py"), offset, author, PATIENT))
    await waiting(explaining, 2)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    gate.open.set()
    explanation = await other
    assert explanation is not None
    assert explanation.sentence == SENTENCE


async def test_cancelling_a_hover_leaves_the_sentence_of_another_alone(explaining: Explaining, gate: Gate) -> None:
    gate.close()
    author = model(gate, SCRIPT)
    text, offset = split_at_cursor("def other(x):\n    return x\n\n\noth<|>er(1)\n")
    one = asyncio.create_task(
        explaining.hover(
            Document("file:///work/one.py", "one.py", language_for("python"), text), offset, author, PATIENT
        )
    )
    await gate.reached()
    first = explaining._writing
    assert first is not None
    other = asyncio.create_task(explaining.hover(*place(), author, PATIENT))
    async with asyncio.timeout(WAIT_S):
        while explaining._writing is first:
            await asyncio.sleep(0)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    gate.open.set()
    explanation = await other
    assert explanation is not None
    assert explanation.sentence == SENTENCE


async def test_a_hover_does_not_wait_for_the_facts_of_a_command(
    explaining: Explaining, monkeypatch: pytest.MonkeyPatch
) -> None:
    await explaining.hover(*place(), None, PATIENT)
    reading, release = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        reading.set()
        assert release.wait(WAIT_S)

    monkeypatch.setattr("server.explanation.asked_about", slow)
    document, offset = place()
    command = asyncio.create_task(explaining.explain(document, offset, offset, None, PATIENT))
    assert await asyncio.to_thread(reading.wait, WAIT_S)
    try:
        assert await asyncio.wait_for(explaining.hover(document, offset, None, HASTY), WAIT_S / 2) is not None
        assert not command.done()
    finally:
        release.set()
    await command


async def test_no_document_is_parsed_on_the_thread_of_the_model(
    explaining: Explaining, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    import server.source_file

    parse, threads = server.source_file.parse, set()

    def noted(*arguments: Any) -> Any:
        threads.add(threading.current_thread().name)
        return parse(*arguments)

    monkeypatch.setattr("server.source_file.parse", noted)
    document, offset = place()
    for start, end in ((offset, offset), (0, len(SOURCE))):
        explanation = await explaining.explain(document, start, end, model(gate, SCRIPT), PATIENT)
        assert explanation is not None and explanation.sentence == SENTENCE
    assert threads == {"loracle-explain"}


@pytest.mark.parametrize(
    "path, exclude",
    [("generated/api.py", ("generated/",)), ("generated/api.py", ("./generated",)), ("app/.env", ())],
)
async def test_a_barred_file_gets_facts_and_never_the_model(
    explaining: Explaining, gate: Gate, path: str, exclude: tuple[str, ...]
) -> None:
    document, offset = place()
    document = replace(document, uri=f"file:///work/{path}", path=path)
    author = model(gate, SCRIPT)
    hover = await explaining.hover(document, offset, author, PATIENT, exclude)
    explained = await explaining.explain(document, offset, offset, author, PATIENT, exclude)
    selected = await explaining.explain(document, 0, len(SOURCE), author, PATIENT, exclude)
    for explanation in (hover, explained, selected):
        assert explanation is not None and explanation.sentence is None
    assert hover is not None and "def add(first, second)" in hover.markdown
    assert gate.n_passed == 0


@pytest.mark.parametrize("home", ["app", "lib"])
async def test_what_is_defined_in_a_barred_file_never_reaches_the_model(
    explaining: Explaining, gate: Gate, tmp_path: Path, home: str
) -> None:
    """In the workspace folder of the file that asks, and in another one."""
    for folder in ("app", "lib/private"):
        (tmp_path / folder).mkdir(parents=True)
    explaining.workspace_roots = (tmp_path / "app", tmp_path / "lib")
    private = "private" if home == "lib" else "../lib/private"
    (tmp_path / "lib" / "private" / "sums.ts").write_text("export function add() { return 1 }\n", encoding="utf-8")
    text, offset = split_at_cursor(f"import {{ add }} from './{private}/sums';\nad<|>d();\n")
    path = tmp_path / home / "main.ts"
    document = Document(path.as_uri(), "main.ts", language_for("typescript"), text)
    settings, author = replace(PATIENT, generate="always"), model(gate, SCRIPT)
    for answer in (
        await explaining.hover(document, offset, author, settings, ("/private/**",)),
        await explaining.explain(document, offset, offset, author, settings, ("/private/**",)),
    ):
        assert answer is not None and answer.sentence is None
        assert "function add()" in answer.markdown
    assert gate.n_passed == 0
    await explaining.hover(document, offset, author, settings)
    assert gate.n_passed > 0


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
