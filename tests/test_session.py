"""A session: who gets an answer, what is counted, and how the model comes and goes. Engine and tokenizer are fakes."""

from __future__ import annotations

import asyncio
import string
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fakes import FakeEngine, FakeTokenizer, NextLogits

from server.lm.context import Document
from server.lm.engine import Logits, PrefixCache
from server.lm.errors import UserError
from server.lm.healing import TokenIndex
from server.lm.languages import language_for
from server.lm.model import LoadedModel
from server.loading import ModelChoice
from server.question import Question
from server.scheduler import Urgency
from server.session import Session
from server.settings import CompletionSettings, Settings
from server.suggestion_cache import Offer
from tests.marks import split_at_cursor

URI = "file:///work/module.py"
WAIT_S = 20.0
LINE = "    return first + second\n"
AT_ONCE = CompletionSettings(debounce_ms=0, deadline_ms=60_000, min_confidence=0.0)
NEVER = CompletionSettings(debounce_ms=5_000, deadline_ms=60_000, min_confidence=0.0)


class Gate:
    """An engine's forwards, each of which may be made to wait."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.n_passed = 0

    def close(self) -> None:
        self.entered.clear()
        self.open.clear()

    def pass_through(self) -> None:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        self.n_passed += 1

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, WAIT_S)


class GatedEngine(FakeEngine):
    def __init__(self, gate: Gate, next_logits: NextLogits, vocab_size: int) -> None:
        super().__init__(next_logits, vocab_size)
        self._gate = gate

    def logits(self, slot: int, token_ids: Sequence[int], n_past: int, n_keep: int = 1) -> Logits:
        self._gate.pass_through()
        return super().logits(slot, token_ids, n_past, n_keep)


def model(gate: Gate, script: str = LINE, name: str = "fake") -> LoadedModel:
    """A model of single characters that goes on as `script` does wherever the text ends like a part of it."""
    tokenizer = FakeTokenizer(list(string.printable))

    def next_logits(token_ids: tuple[int, ...]) -> Logits:
        import numpy as np

        text = tokenizer.decode(token_ids)
        tail = max((n for n in range(len(script)) if text.endswith(script[:n])), default=0)
        logits = np.zeros(tokenizer.vocab_size, dtype=np.float32)
        logits[tokenizer.id_of(script[tail])] = 20.0
        return logits

    engine = GatedEngine(gate, next_logits, tokenizer.vocab_size)
    return LoadedModel(
        name=name,
        folder=Path("/models") / name,
        fingerprint=name,
        tokenizer=tokenizer,
        token_index=TokenIndex(tokenizer),
        engine=engine,
        completion_cache=PrefixCache(engine, 0),
        explanation_cache=PrefixCache(engine, 1),
        supports_infilling=True,
        supports_explanations=True,
        precision="fp32",
    )


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest_asyncio.fixture
async def session(gate: Gate) -> AsyncIterator[Session]:
    """A session whose model is loaded and answers without a debounce."""
    result = Session(lambda choice: model(gate))
    loading = result.configure(Settings(completion=AT_ONCE), ())
    assert loading is not None
    await loading
    yield result
    gate.open.set()
    result.close()
    assert result.join(WAIT_S)


def question(
    drawn: str, *, invoked: bool = False, uri: str = URI, path: str = "module.py", changed_at: float = 0.0
) -> Question:
    text, offset = split_at_cursor(drawn)
    now = time.monotonic()
    return Question(Document(uri, path, language_for("python"), text), offset, invoked, now, changed_at or now)


def texts(offers: tuple[Offer, ...]) -> list[str]:
    return [offer.suggestion.text for offer in offers]


async def asked(session: Session, drawn: str) -> asyncio.Task[tuple[Offer, ...]]:
    """A question that is on its way."""
    task = asyncio.create_task(session.suggest(question(drawn)))
    await asyncio.sleep(0)
    return task


async def held(session: Session, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[tuple[Offer, ...]]:
    """A question whose answer is made, and held until the keys have rested."""
    monkeypatch.setattr("server.session.HEAD_START_S", 60.0)
    session.configure(Settings(completion=NEVER), ())
    task = await asked(session, RETURN)
    async with asyncio.timeout(WAIT_S):
        while session.last_outcome is None:
            await asyncio.sleep(0.001)
    return task


RETURN = "def add(first, second):\n    return <|>\n"
TYPED = "def add(first, second):\n    return f<|>\n"


async def test_an_answer_is_offered_under_a_name_and_counted_when_accepted(session: Session) -> None:
    (offer,) = await session.suggest(question(RETURN))
    assert offer.suggestion.text == "first + second"
    assert session.accept(offer.id)
    assert not session.accept(offer.id)
    assert not session.accept("unknown")
    figures = session.figures
    assert (figures.n_requests, figures.n_shown, figures.n_accepted) == (1, 1, 1)
    assert len(figures.latencies_ms) == 1


async def test_typing_along_needs_no_model_and_counts_as_one_suggestion(session: Session, gate: Gate) -> None:
    (offer,) = await session.suggest(question(RETURN))
    n_passed, asked_for = gate.n_passed, session.last_outcome
    (rest,) = await session.suggest(question(TYPED))
    assert (rest.id, rest.suggestion.text, gate.n_passed) == (offer.id, "irst + second", n_passed)
    assert (session.figures.n_typed_through, session.figures.n_shown) == (1, 1)
    assert session.last_outcome is not None
    assert (session.last_outcome.suggestions, session.last_outcome.ended) == ((rest.suggestion,), session.last_end)
    # How it came about is told as long as it is typed along.
    assert asked_for is not None and asked_for.verdicts and asked_for.shares
    assert (session.last_outcome.verdicts, session.last_outcome.shares) == (asked_for.verdicts, asked_for.shares)


async def test_without_a_model_the_answer_is_empty_and_says_why(gate: Gate) -> None:
    release = threading.Event()

    def load(choice: ModelChoice) -> LoadedModel:
        assert release.wait(WAIT_S)
        return model(gate)

    session = Session(load)
    loading = session.configure(Settings(completion=AT_ONCE), ())
    assert await session.suggest(question(RETURN)) == ()
    assert session.last_end == "the model is still being loaded"
    assert session.last_outcome is None
    release.set()
    assert loading is not None
    await loading
    assert texts(await session.suggest(question(RETURN))) == ["first + second"]
    session.close()


async def test_a_model_that_cannot_be_loaded_is_a_problem_in_words_and_the_former_serves_on(gate: Gate) -> None:
    def load(choice: ModelChoice) -> LoadedModel:
        if choice.model == "missing":
            raise UserError("there is no model `missing`; do this")
        if choice.model == "broken":
            raise ZeroDivisionError
        return model(gate, name=choice.model)

    session = Session(load)
    for name, problem in (
        ("good", None),
        ("missing", "there is no model `missing`; do this"),
        ("broken", "could not be"),
    ):
        loading = session.configure(Settings(model=name, completion=AT_ONCE), ())
        assert loading is not None
        await loading
        assert session.model is not None
        assert session.model.name == "good"
        assert (session.model_problem is None) if problem is None else (problem in str(session.model_problem))
    assert texts(await session.suggest(question(RETURN))) == ["first + second"]
    session.close()


async def test_a_model_that_has_failed_is_tried_again_when_it_is_chosen_again(gate: Gate) -> None:
    loaded = []

    def load(choice: ModelChoice) -> LoadedModel:
        loaded.append(choice.model)
        if len(loaded) == 1:
            raise UserError("there is no such folder; make it")
        return model(gate)

    session = Session(load)
    for problem in ("there is no such folder; make it", None):
        loading = session.configure(Settings(model="folder"), ())
        assert loading is not None
        await loading
        assert session.model_problem == problem
    assert session.configure(Settings(model="folder"), ()) is None
    assert session.model is not None
    session.close()


async def test_a_model_too_small_to_answer_is_a_problem(make_checkpoint: Callable[..., Path]) -> None:
    session = Session()
    loading = session.configure(Settings(model=str(make_checkpoint(n_positions=64)), threads=1), ())
    assert loading is not None
    await loading
    assert session.model is None
    assert "64 positions is too small" in str(session.model_problem)
    session.close()


async def test_a_question_that_fails_says_so(session: Session, gate: Gate) -> None:
    await session.suggest(question(RETURN))
    gate.pass_through = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        await session.suggest(question("total = <|>\n"))
    assert session.last_end == "it failed; the log of the server says why"


async def test_a_choice_made_while_another_model_is_loaded_wins(gate: Gate) -> None:
    started, release, loaded = threading.Event(), threading.Event(), []

    def load(choice: ModelChoice) -> LoadedModel:
        loaded.append(choice.model)
        started.set()
        assert release.wait(WAIT_S)
        return model(gate, name=choice.model)

    session = Session(load)
    loading = session.configure(Settings(model="one"), ())
    assert await asyncio.to_thread(started.wait, WAIT_S)
    assert session.configure(Settings(model="two"), ()) is None
    assert session.configure(Settings(model="three"), ()) is None
    release.set()
    assert loading is not None
    await loading
    assert session.model is not None
    assert (session.model.name, loaded) == ("three", ["one", "three"])
    assert session.configure(Settings(model="three", exclude=("x",)), ()) is None  # the same model: nothing to load
    session.close()


@pytest.mark.parametrize(
    "settings, path, invoked, reason",
    [
        (CompletionSettings(enabled=False), "module.py", True, "switched off"),
        (CompletionSettings(trigger="manual"), "module.py", False, "only when asked"),
        (AT_ONCE, ".env", True, "secrets"),
        (AT_ONCE, "home/.ssh/id_rsa", False, "secrets"),
        (AT_ONCE, "build/out.py", False, "excluded"),
        (AT_ONCE, "app/generated/out.py", False, "excluded"),
        (AT_ONCE, "app/schema_pb2.py", False, "excluded"),
    ],
)
async def test_some_questions_never_reach_the_model(
    session: Session, gate: Gate, settings: CompletionSettings, path: str, invoked: bool, reason: str
) -> None:
    session.configure(Settings(completion=settings, exclude=("build/", "**/generated/**", "*_pb2.py")), ())
    n_passed = gate.n_passed
    assert await session.suggest(question(RETURN, invoked=invoked, path=path)) == ()
    assert reason in session.last_end
    assert gate.n_passed == n_passed


async def test_asking_by_a_key_works_where_automatic_questions_are_off(session: Session) -> None:
    session.configure(Settings(completion=CompletionSettings(trigger="manual", deadline_ms=60_000)), ())
    assert texts(await session.suggest(question(RETURN, invoked=True)))[0] == "first + second"


async def test_the_newest_question_about_a_document_wins(session: Session, gate: Gate) -> None:
    gate.close()
    older = await asked(session, RETURN)
    await gate.reached()
    newer = await asked(session, TYPED)
    assert await older == ()  # at once, with the worker still inside a forward
    gate.open.set()
    assert texts(await newer) == ["irst + second"]
    assert session.figures.n_superseded == 1


async def test_questions_about_different_documents_are_all_answered(session: Session, gate: Gate) -> None:
    gate.close()
    one = asyncio.create_task(session.suggest(question(RETURN)))
    other = asyncio.create_task(session.suggest(question(RETURN, uri="file:///work/other.py")))
    await gate.reached()
    gate.open.set()
    assert texts(await one) == texts(await other) == ["first + second"]


async def test_an_edit_makes_a_question_void(session: Session, gate: Gate) -> None:
    gate.close()
    task = await asked(session, RETURN)
    await gate.reached()
    session.outdate(URI)
    assert await task == ()
    gate.open.set()
    assert session.last_end == "a newer request or an edit took its place"


async def test_a_question_waits_for_the_keys_to_rest_and_an_edit_ends_the_wait(session: Session, gate: Gate) -> None:
    session.configure(Settings(completion=NEVER), ())
    task = await asked(session, RETURN)
    session.outdate(URI)
    assert await asyncio.wait_for(task, 2.0) == ()


async def test_a_newer_question_ends_the_wait_of_an_older_one(session: Session) -> None:
    session.configure(Settings(completion=NEVER), ())
    older = await asked(session, RETURN)
    newer = await asked(session, TYPED)
    assert await asyncio.wait_for(older, 2.0) == ()
    assert not newer.done()
    session.outdate(URI)
    assert await newer == ()


async def test_who_asks_by_a_key_does_not_wait(session: Session) -> None:
    session.configure(Settings(completion=NEVER), ())
    assert texts(await asyncio.wait_for(session.suggest(question(RETURN, invoked=True)), WAIT_S))[0] == "first + second"


async def test_keys_that_have_rested_are_not_waited_for_again(session: Session) -> None:
    session.configure(Settings(completion=NEVER), ())
    rested = question(RETURN, changed_at=time.monotonic() - 6.0)
    assert texts(await asyncio.wait_for(session.suggest(rested), WAIT_S)) == ["first + second"]


async def test_the_prompt_is_read_while_the_keys_rest(session: Session, gate: Gate) -> None:
    session.configure(Settings(completion=NEVER), ())
    n_passed = gate.n_passed
    gate.entered.clear()
    task = await asked(session, RETURN)
    await gate.reached()
    assert not task.done()
    session.outdate(URI)
    await task
    assert gate.n_passed >= n_passed


async def test_the_answer_is_made_while_the_keys_rest_and_held_until_they_have(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await held(session, monkeypatch)
    assert not task.done() and session.figures.n_model_answers == 0
    session.outdate(URI)
    assert await task == () and session.figures.n_shown == 0
    # The next key finds it.
    (offer,) = await asyncio.wait_for(session.suggest(question(TYPED)), WAIT_S)
    assert (offer.suggestion.text, session.figures.n_model_answers) == ("irst + second", 0)
    assert session.last_end == "known from an earlier answer"


async def test_a_held_answer_that_the_editor_cancels_is_one_that_was_cancelled(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await held(session, monkeypatch)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (session.figures.n_cancelled, session.figures.n_shown) == (1, 0)
    assert session.last_end == "the editor cancelled the request"


async def test_an_older_question_does_not_say_how_a_newer_one_ended(session: Session) -> None:
    session.configure(Settings(completion=NEVER), ())
    older = await asked(session, RETURN)
    rested = question(RETURN, changed_at=time.monotonic() - 6.0)
    session._turns._asked_at = 0.0
    await session.suggest(rested)
    assert await older == () and session.last_end == "offered"


async def test_an_answer_comes_when_the_keys_have_rested_and_not_before(session: Session) -> None:
    session.configure(Settings(completion=replace(NEVER, debounce_ms=40)), ())
    began = time.monotonic()
    assert texts(await asyncio.wait_for(session.suggest(question(RETURN)), WAIT_S)) == ["first + second"]
    assert time.monotonic() - began >= 0.04


async def test_cancelling_frees_the_worker_at_the_next_token(session: Session, gate: Gate) -> None:
    await session.suggest(question(RETURN))
    n_all = gate.n_passed
    gate.close()
    task = await asked(session, "x = 1\n\n\n" + RETURN)
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    n_passed = gate.n_passed
    gate.open.set()
    free = session._worker.submit(Urgency.PREFILL, "probe", lambda _: gate.n_passed)
    assert await asyncio.wrap_future(free.future) <= n_passed + 1 < n_passed + n_all
    assert session.figures.n_cancelled == 1


async def test_an_answer_to_a_void_question_is_not_remembered(session: Session, gate: Gate) -> None:
    gate.close()
    task = await asked(session, RETURN)
    await gate.reached()
    session.outdate(URI)
    await task
    gate.open.set()
    assert texts(await session.suggest(question(RETURN))) == ["first + second"]
    assert session.figures.n_typed_through == 0


@pytest.mark.parametrize("invoked", [False, True])
async def test_an_answer_that_was_cut_short_is_not_remembered(
    session: Session, gate: Gate, monkeypatch: pytest.MonkeyPatch, invoked: bool
) -> None:
    from server import completion

    def cut(*arguments: Any, **options: Any) -> completion.Outcome:
        return replace(complete(*arguments, **options), is_cut_short=True)

    complete = completion.complete
    with monkeypatch.context() as patched:
        patched.setattr("server.completion.complete", cut)
        assert texts(await session.suggest(question(RETURN, invoked=invoked)))[0] == "first + second"
    await session.suggest(question(RETURN, invoked=invoked))
    assert (session.figures.n_typed_through, session.figures.n_model_answers) == (0, 2)
    await session.suggest(question(RETURN, invoked=invoked))
    assert (session.figures.n_typed_through, session.figures.n_model_answers) == (1, 2)


async def test_new_settings_void_what_was_remembered(session: Session) -> None:
    await session.suggest(question(RETURN))
    session.configure(Settings(completion=AT_ONCE, exclude=("other.py",)), ())
    await session.suggest(question(RETURN))
    assert session.figures.n_typed_through == 0


async def test_a_closed_document_leaves_nothing_behind(session: Session) -> None:
    await session.suggest(question(RETURN))
    session.forget(URI)
    await session.suggest(question(RETURN))
    assert session.figures.n_typed_through == 0


async def test_reading_ahead_warms_the_cursor_of_the_next_question(session: Session, gate: Gate) -> None:
    asked_about = question("a = 1\n" * 50 + RETURN)
    gate.entered.clear()
    session.prefill(asked_about.document, asked_about.offset)
    await gate.reached()
    assert session.model is not None
    idle = session._worker.submit(Urgency.PREFILL, "after it", lambda _: None)
    await asyncio.wrap_future(idle.future)
    await session.suggest(asked_about)
    assert session.last_outcome is not None
    assert session.last_outcome.n_cached_tokens >= session.last_outcome.n_prompt_tokens - 1


async def test_other_documents_are_not_read_ahead_while_somebody_types(session: Session, gate: Gate) -> None:
    await session.suggest(question(RETURN))
    n_passed = gate.n_passed
    other = question(RETURN, uri="file:///work/other.py")
    session.prefill(other.document, other.offset)
    idle = session._worker.submit(Urgency.PREFILL, "after it", lambda _: None)
    await asyncio.wrap_future(idle.future)
    assert gate.n_passed == n_passed


async def test_a_failing_model_fails_one_question_and_not_the_session(session: Session, gate: Gate) -> None:
    passing: Callable[[], None] = gate.pass_through
    gate.pass_through = lambda: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises(ZeroDivisionError):
        await session.suggest(question(RETURN))
    gate.pass_through = passing  # type: ignore[method-assign]
    assert texts(await session.suggest(question(RETURN))) == ["first + second"]
