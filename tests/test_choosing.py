"""What the model writes, or a line of the index that is likely enough, and what the filters let pass."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import pytest

from server import judging
from server.choosing import Choice, choose
from server.filters.confidence import confidence_of
from server.filters.pipeline import apply
from server.index.line_weights import SURE, TIMES_AS_LIKELY
from server.index.lines import Line
from server.index.sources import Source
from server.judging import Task
from server.lm.context import context_at
from server.lm.cursor import cursor_between
from server.lm.engine import never
from server.lm.languages import language_for
from server.lm.model import LoadedModel
from server.lm.prompt import completion_prompt
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
    n_tokens: int = 48,
    later: Future[list[Line]] | None = None,
    cancelled: Callable[[], bool] = never,
    multiline: bool = False,
) -> Choice:
    text, offset = split_at_cursor(marked)
    cursor = cursor_between(text[:offset], text[offset:], language_for("python"))
    context = context_at(document(marked)[0], offset)
    prompt = completion_prompt(context, model.tokenizer, model.token_index, 1024, 48)
    is_automatic = n_wanted == 1
    task = Task(cursor, prompt, multiline, n_wanted, is_automatic, least, n_tokens, None, cancelled)
    return choose(task, model, later or ranked(*lines), None)


def ranked(*lines: Line) -> Future[list[Line]]:
    future: Future[list[Line]] = Future()
    future.set_result(list(lines))
    return future


def texts(choice: Choice) -> list[str]:
    return [candidate.text for candidate in choice.candidates]


def test_a_sure_text_is_offered_and_an_unsure_one_makes_room() -> None:
    sure, unsure = writer("x = price\n"), writer("x = price\n", doubt=1.0)
    assert texts(chosen("x = <|>\n", sure, line("total", 0.5))) == ["price"]
    assert texts(chosen("x = <|>\n", unsure, line("total", 0.5))) == ["total"]


def test_a_line_must_be_some_times_as_likely_as_the_model_s_text() -> None:
    unsure = writer("x = price\n", doubt=6.0)
    bar = TIMES_AS_LIKELY * confidence_of(chosen("x = <|>\n", unsure).candidates[0])
    assert 0.01 < bar < SURE
    assert texts(chosen("x = <|>\n", unsure, line("total", 0.99 * bar))) == ["price"]
    assert texts(chosen("x = <|>\n", unsure, line("total", 1.01 * bar))) == ["total"]
    assert texts(chosen("x = <|>\n", unsure, line("total", 0.99 * bar), n_wanted=2))[0] == "price"
    assert texts(chosen("x = <|>\n", unsure, line("total", 1.01 * bar), n_wanted=2))[0] == "total"


def test_a_sure_line_does_not_wait_for_the_model() -> None:
    model = writer("x = price\n")
    choice = chosen("x = <|>\n", model, line("total", SURE))
    assert texts(choice) == ["total"] and choice.generations == [] and "decode" not in choice.milliseconds
    assert chosen("x = <|>\n", model, line("total", SURE - 0.01)).generations


def test_a_sure_line_that_is_found_while_the_model_writes_stops_it() -> None:
    later: Future[list[Line]] = Future()
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(True)
        if len(asked) == 3:
            later.set_result([line("total", SURE)])
        return False

    choice = chosen("x = <|>\n", writer("x = price_of_all_that_is_sold\n"), later=later, cancelled=cancelled)
    assert texts(choice) == ["total"] and choice.generations == []
    assert len(asked) == 3  # nothing was written afterwards


def test_a_sure_line_is_offered_even_if_the_model_was_quicker() -> None:
    class Late(Future[list[Line]]):
        """Lines that are ranked just when somebody waits for them."""

        def result(self, timeout: float | None = None) -> list[Line]:
            return [line("total", SURE)]

    choice = chosen("x = <|>\n", writer("x = price\n"), later=Late())
    assert texts(choice) == ["total"] and choice.generations == []


def test_whoever_is_cancelled_waits_for_no_lines() -> None:
    choice = chosen("x = <|>\n", writer("x = price\n"), later=Future(), cancelled=lambda: True)
    assert texts(choice) == [] and "cancelled" in choice.ended
    choice = chosen("x = <|>\n", writer("x = price\n"), later=Future(), cancelled=lambda: True, n_wanted=3)
    assert texts(choice) == [] and "cancelled" in choice.ended


def test_where_there_is_no_room_for_a_word_that_is_said() -> None:
    assert "no room" in chosen("x = <|>\n", writer("x = price\n"), n_tokens=0).ended


def test_a_line_tells_where_it_stands() -> None:
    (share,) = chosen("x = <|>\n", writer("x = price\n"), line("total", 0.9)).shares
    assert (share.text, share.index_share, share.sources) == ("total", 1.0, (SOURCE,))


def test_a_line_that_the_filters_hold_back_makes_room_for_the_next() -> None:
    model = writer("x = (\n", doubt=1.0)
    assert texts(chosen("x = <|>\n", model, line("((", 0.7), line("total", 0.2))) == ["total"]


def test_without_lines_it_is_the_model_s_text() -> None:
    assert texts(chosen("x = <|>\n", writer("x = price\n"))) == ["price"]


def test_nothing_is_offered_that_is_less_likely_than_wanted() -> None:
    choice = chosen("x = <|>\n", writer("x = price\n", doubt=1.0), line("total", 0.3), least=0.4)
    assert texts(choice) == []
    assert choice.verdicts[-1].filter == "confidence" and "below 0.40" in choice.ended


def test_no_filter_looks_at_a_line_that_is_too_unlikely(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(judging, "apply", lambda candidate: looked_at.append(candidate.text) or apply(candidate))
    choice = chosen("x = <|>\n", writer("x = price\n", doubt=1.0), line("total", 0.2), least=0.25)
    assert looked_at == ["p"] and texts(choice) == []  # the model gives up as well
    assert any(verdict.filter == "confidence" and "0.20 is below 0.25" in verdict.reason for verdict in choice.verdicts)
    assert texts(chosen("x = <|>\n", writer("x = price\n", doubt=1.0), line("total", 0.25), least=0.25)) == ["total"]


def test_what_has_become_too_unlikely_to_be_shown_is_not_written_to_its_end() -> None:
    def written(marked: str, least: float) -> Choice:
        return chosen(marked, writer("x = price_of_all_that_is_sold(at, once)\n", doubt=3.0), least=least)

    whole, given_up = written("x = <|>\n", 0.0), written("x = <|>\n", 0.6)
    assert whole.generations[0].finish == "stop"
    assert given_up.generations[0].finish == "unlikely" and len(given_up.generations) == 1
    assert given_up.generations[0].n_new_tokens < whole.generations[0].n_new_tokens
    assert whole.generations[0].text.startswith(given_up.generations[0].text)
    assert "fell below 0.60 (completion.minConfidence) while the model wrote" in given_up.ended
    # What stands behind the cursor may shorten a text to what is likely enough.
    assert all(each.finish == "stop" for each in written("x = <|>)\n", 0.6).generations)


def test_of_several_lines_those_before_an_unlikely_one_are_offered_and_no_more_are_written() -> None:
    model = writer("def f():\n    x = 1\n    price = of_all_that_is_sold(at, once)\n    return x\n", doubt=6.0)

    def written(least: float) -> Choice:
        return chosen("def f():\n    <|>\n", model, least=least, n_tokens=90, multiline=True)

    whole, given_up = written(0.0), written(0.05)
    assert texts(given_up) == ["x = 1"] and "\n" in texts(whole)[0]
    assert given_up.generations[0].finish == "unlikely"
    assert given_up.generations[0].n_new_tokens < whole.generations[0].n_new_tokens


def test_a_text_whose_later_lines_are_unlikely_is_judged_by_its_first() -> None:
    model = writer("def f():\n    x = 1\n    price = of_all_that_is_sold(at, once)\n    return x\n", doubt=5.3)

    def offered(probability: float) -> list[str]:
        choice = chosen(
            "def f():\n    <|>\n", model, line("pass", probability), least=0.05, n_tokens=90, multiline=True
        )
        assert choice.generations[0].finish == "unlikely"
        return texts(choice)

    assert offered(0.1) == ["x = 1"] and offered(0.7) == ["pass"]


def test_what_a_filter_leaves_of_an_unlikely_text_is_offered_if_that_is_likely_enough() -> None:
    whole, given_up = (chosen("x = <|>\n", writer("x = f(a)) + zz\n", doubt=6.0), least=least) for least in (0.0, 0.12))
    assert (whole.generations[0].finish, given_up.generations[0].finish) == ("stop", "unlikely")
    assert texts(whole) == texts(given_up) == ["f(a)"]


def test_a_line_goes_before_a_text_that_has_not_ended() -> None:
    model = writer("x = value_of_all_that_is_sold_here_and_there_and_anywhere_else_today_tomorrow\n", doubt=9.0)
    choice = chosen("x = <|>\n", model, line("total", 0.5), least=0.01)
    assert choice.generations[0].finish == "length" and texts(choice) == ["total"]


def test_a_line_is_offered_where_the_model_s_text_is_too_unlikely() -> None:
    choice = chosen("x = <|>\n", writer("x = price_of_all\n", doubt=3.0), line("total", 0.7), least=0.6)
    assert texts(choice) == ["total"] and choice.generations[0].finish == "unlikely"


@pytest.mark.parametrize("probability", [0.05, 0.9])
def test_whoever_asks_gets_several_the_best_first(probability: float) -> None:
    model = writer("x = price\n")
    choice = chosen("x = <|>\n", model, line("total", probability), line("amount", 0.01), n_wanted=3)
    found = texts(choice)
    assert {"price", "total"} <= set(found) and len(found) <= 3 and choice.generations
    assert found[0] == "price"  # the model has next to no doubt


def test_the_same_text_from_both_is_judged_by_the_surer() -> None:
    choice = chosen("x = <|>\n", writer("x = price\n"), line("price", 0.4), n_wanted=2)
    assert texts(choice)[0] == "price" and choice.shares == ()
