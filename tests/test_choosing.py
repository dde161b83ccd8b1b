"""Lines that the index knows, and what the model writes: the likeliest right, and what the filters let pass."""

from __future__ import annotations

import time

import pytest
from fakes import FakeEngine

from server.choosing import Choice, Task, choose
from server.filters.confidence import confidence_of
from server.filters.pipeline import apply
from server.index.lines import Line
from server.index.sources import Source
from server.lm.context import context_at
from server.lm.cursor import cursor_between
from server.lm.engine import never
from server.lm.languages import language_for
from server.lm.model import LoadedModel
from server.lm.prompt import completion_prompt
from server.weighing import MAX_LINES, SURE, Option, rank
from tests.marks import split_at_cursor
from tests.test_completion import document, writer

SOURCE = Source("repository", "a.py", 3)


def line(text: str, probability: float) -> Line:
    return Line(text, probability, (SOURCE,))


def chosen(
    marked: str,
    model: LoadedModel,
    *lines: Line,
    n_wanted: int = 1,
    least: float = 0.0,
    deadline: float | None = None,
) -> Choice:
    text, offset = split_at_cursor(marked)
    cursor = cursor_between(text[:offset], text[offset:], language_for("python"))
    context = context_at(document(marked)[0], offset)
    prompt = completion_prompt(context, model.tokenizer, model.token_index, 1024, 48)
    is_automatic = n_wanted == 1
    task = Task(cursor, prompt, False, n_wanted, is_automatic, least, 48, deadline, never)
    return choose(task, model, lines, None)


def texts(choice: Choice) -> list[str]:
    return [candidate.text for candidate in choice.candidates]


def test_the_likelier_one_is_offered() -> None:
    sure, unsure = writer("x = price\n"), writer("x = price\n", doubt=1.0)
    assert texts(chosen("x = <|>\n", sure, line("total", 0.5))) == ["price"]
    assert texts(chosen("x = <|>\n", unsure, line("total", 0.5))) == ["total"]


def test_a_sure_line_does_not_wait_for_the_model() -> None:
    model = writer("x = price\n")
    choice = chosen("x = <|>\n", model, line("total", SURE))
    assert texts(choice) == ["total"] and choice.generations == [] and "decode" not in choice.milliseconds
    assert chosen("x = <|>\n", model, line("total", SURE - 0.01)).generations


def test_a_line_tells_where_it_stands() -> None:
    (share,) = chosen("x = <|>\n", writer("x = price\n"), line("total", 0.9)).shares
    assert (share.text, share.index_share, share.sources) == ("total", 1.0, (SOURCE,))


def test_of_two_lines_alike_to_the_index_the_one_is_offered_that_the_model_finds_likelier() -> None:
    model = writer("x = price\n", second="t", doubt=3.0)  # what it writes of itself, it finds unlikely
    lines = line("total", 0.4), line("attot", 0.4)
    assert texts(chosen("x = <|>\n", model, *lines)) == texts(chosen("x = <|>\n", model, *lines[::-1])) == ["attot"]


def test_a_line_that_the_model_writes_too_is_likelier_than_either_says() -> None:
    def confidence(*lines: Line) -> float:
        (candidate,) = chosen("x = <|>\n", writer("x = price\n", doubt=7.0), *lines).candidates
        assert candidate.text == "price"
        return confidence_of(candidate)

    assert confidence(line("price", 0.5)) > max(confidence(), 0.5)
    assert confidence(line("total", 0.5)) < confidence()


@pytest.mark.parametrize(
    "lines", [(), (line("price", 0.4),), (line("total", 0.6),), (line("total", 0.6), line("a", 0.1))]
)
@pytest.mark.parametrize("doubt", [1.0, 4.0, 20.0])
def test_the_confidence_is_what_the_ranking_says(doubt: float, lines: tuple[Line, ...], monkeypatch) -> None:
    ranked: list[Option] = []
    monkeypatch.setattr("server.choosing.rank", lambda *found: ranked.extend(rank(*found)) or ranked)
    (candidate,) = chosen("x = <|>\n", writer("x = price\n", doubt=doubt), *lines).candidates
    (option,) = (option for option in ranked if option.text == candidate.text)
    assert confidence_of(candidate) == pytest.approx(option.probability, rel=1e-4)


def test_lines_that_there_is_no_time_to_read_are_offered_as_the_index_has_them() -> None:
    choice = chosen("x = <|>\n", writer("x = price\n"), line("total", 0.5), deadline=time.monotonic() - 1)
    assert [(candidate.text, confidence_of(candidate)) for candidate in choice.candidates] == [
        ("total", pytest.approx(0.5))
    ]
    assert [generation.finish for generation in choice.generations] == ["deadline"]


def test_the_first_line_is_read_along_with_the_prompt_and_a_line_that_was_read_is_written_at_no_cost() -> None:
    def n_forwards(*lines: Line) -> int:
        model = writer("x = price\n")
        assert texts(chosen("x = <|>\n", model, *lines)) == ["price"]
        assert isinstance(model.engine, FakeEngine)
        return model.engine.n_forwards

    read, alone = [line(text, 0.1) for text in ("a", "b", "c")], n_forwards()
    unread = [line("amount", 0.1) for _ in range(9)]
    assert n_forwards(line("price", 0.1)) == 1 < alone
    assert n_forwards(*read[:1]) == alone
    assert alone < n_forwards(*read) == n_forwards(*read, *unread) <= alone + MAX_LINES - 1


def test_a_line_that_the_filters_hold_back_makes_room_for_the_next() -> None:
    model = writer("x = (\n", doubt=1.0)
    assert texts(chosen("x = <|>\n", model, line("((", 0.7), line("total", 0.2))) == ["total"]


def test_lines_are_held_back_once_though_the_model_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    monkeypatch.setattr("server.choosing.apply", lambda found: judged.append(found.text) or apply(found))
    choice = chosen("x = 1\n<|>\ny = 2\n", writer("y = 2\n", second=")"), line("((", 0.5), line("]", 0.1))
    assert texts(choice) == [] and len(choice.generations) == 2
    assert len(judged) == len(set(judged)) and {"((", "]", "y = 2"} < set(judged)


def test_without_lines_it_is_the_model_s_text() -> None:
    assert texts(chosen("x = <|>\n", writer("x = price\n"))) == ["price"]


def test_nothing_is_offered_that_is_less_likely_than_wanted() -> None:
    choice = chosen("x = <|>\n", writer("x = price\n", doubt=1.0), line("total", 0.3), least=0.4)
    assert texts(choice) == []
    assert choice.verdicts[-1].filter == "confidence" and "below 0.40" in choice.ended


@pytest.mark.parametrize("probability", [0.05, 0.9])
def test_whoever_asks_gets_several_the_likeliest_first(probability: float) -> None:
    model = writer("x = price\n")
    choice = chosen("x = <|>\n", model, line("total", probability), line("amount", 0.01), n_wanted=3)
    found = texts(choice)
    assert {"price", "total"} <= set(found) and len(found) <= 3 and choice.generations
    assert found[0] == "price"  # the model has next to no doubt


def test_the_same_text_from_both_is_offered_once_and_is_of_both() -> None:
    choice = chosen("x = <|>\n", writer("x = price\n"), line("price", 0.4), n_wanted=2)
    assert texts(choice).count("price") == 1 and texts(choice)[0] == "price"
    assert "".join(share.text for share in choice.shares) == "price"
    for share in choice.shares:
        assert share.index_share == pytest.approx(0.4 / 1.4, abs=1e-3) and share.sources == (SOURCE,)


def test_what_the_model_writes_alone_has_no_sources() -> None:
    choice = chosen("x = <|>\n", writer("x = price\n"), line("total", 0.1))
    assert {(share.index_share, share.sources) for share in choice.shares} == {(0.0, ())}
