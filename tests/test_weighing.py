"""Lines of the index beside what the model writes: read, put together where they say the same, and ranked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.index.lines import Line
from server.index.sources import Source
from server.lm.decode import Finish, Generation
from server.ranking import Evidence, probabilities
from server.weighing import MAX_LINES, MIN_LINE, Bar, Option, expected, log_likelihood, rank, weigh

SOURCES = (Source("repository", "a.py", 3), Source("this file", "b.py", 8))


def line(text: str, probability: float) -> Line:
    return Line(text, probability, SOURCES)


def read(text: str, probability: float, model: float | None) -> Option:
    """A line of the index as the model has read it, or has not."""
    return Option(None, line(text, probability), model)


def written(*tokens: str, logprob: float = -0.5, end: float = -0.25, finish: Finish = "stop") -> Generation:
    return Generation(
        text="".join(tokens),
        finish=finish,
        mean_logprob=logprob,
        token_logprobs=(logprob,) * len(tokens),
        token_texts=tokens,
        end_logprob=end,
        n_prompt_tokens=9,
        n_cached_tokens=0,
        n_new_tokens=len(tokens),
        n_drafted_tokens=0,
        n_accepted_tokens=0,
        prefill_ms=0.0,
        decode_ms=0.0,
    )


@dataclass
class Reading:
    """A decoder that finds each text less likely the longer it is, up to a limit of so many texts."""

    n_left: int = 99
    asked: list[str] = field(default_factory=list)

    def log_likelihood(self, text: str, at_least: float) -> float | None:
        """As the decoder: of a text that is less likely than `at_least` something between the two."""
        self.asked.append(text)
        if len(self.asked) > self.n_left:
            return None
        return -float(len(text)) if -len(text) >= at_least else -math.inf


def weighed(lines: list[Line], n_left: int = 99, least: float = 0.0) -> tuple[list[Option], list[str]]:
    decoder = Reading(n_left)
    return weigh(lines, decoder, least), decoder.asked  # type: ignore[arg-type]


def test_the_likeliest_lines_are_read_in_their_order_and_no_others() -> None:
    lines = [line("a" * n, 0.5) for n in range(MAX_LINES + 3, 0, -1)]
    options, asked = weighed(lines)
    assert [option.line for option in options] == lines[:MAX_LINES]
    assert asked == [line.text for line in lines[:MAX_LINES]]
    assert [option.model for option in options] == [-len(line.text) for line in lines[:MAX_LINES]]
    assert all(option.written is None for option in options)


def test_of_unlikely_lines_only_the_first_is_read() -> None:
    unlikely = [line("a", MIN_LINE / 2), line("b", MIN_LINE / 3)]
    assert weighed(unlikely)[1] == ["a"]
    assert weighed([line("c", MIN_LINE), *unlikely])[1] == ["c"]
    assert weighed([]) == ([], [])


def test_after_a_limit_lines_are_not_read() -> None:
    options, _ = weighed([line("a", 0.5), line("ab", 0.3)], n_left=1)
    assert [option.model for option in options] == [-1.0, None]


LINES = st.lists(st.tuples(st.integers(0, 40), st.floats(MIN_LINE, 0.8)), min_size=1, max_size=MAX_LINES)


@given(LINES, st.floats(0.0, 0.9))
def test_only_lines_that_are_never_likely_enough_are_left_out(drawn: list[tuple[int, float]], least: float) -> None:
    lines = [line(f"{number}" + "x" * n, probability) for number, (n, probability) in enumerate(drawn)]
    options, _ = weighed(lines, least=least)
    kept = [option.line for option in options]
    for found in lines:
        (alone,) = probabilities([Evidence(found.probability, -len(found.text), False)])
        assert (found in kept) == (alone >= least) or alone == pytest.approx(least, abs=1e-3)


def test_what_stands_behind_the_cursor_is_not_read_again() -> None:
    decoder = Reading(9)
    (option,) = weigh([line("a, b)", 0.5)], decoder, behind=")")  # type: ignore[arg-type]
    assert decoder.asked == ["a, b"] and option.text == "a, b)"
    assert expected([line("a, b)", 0.5)], behind=")") == "a, b"
    (both,) = rank([option], [written("a, b")], behind=")")
    assert both.line is option.line and both.text == "a, b"


def test_the_text_that_is_read_first_is_expected() -> None:
    assert expected([line("a", 0.5), line("b", 0.4)]) == "a"
    assert expected([line("a", MIN_LINE / 2)]) == "a" and expected([]) == ""
    assert expected([line("a", 0.01)], min_confidence=0.9) == ""  # however likely the model finds it


def test_a_text_is_written_on_while_it_may_be_the_likeliest() -> None:
    alone, beside = Bar.over([], 0.3), Bar.over([read("price", 0.5, -1.0)], 0.3)
    for bar in (alone, beside):
        for logprob in (-0.1, -1.0, -3.0, -20.0):
            likeliest, *_ = rank(bar.lines, [written("x", logprob=logprob, end=0.0)])
            is_worth_it = likeliest.written is not None and likeliest.probability >= 0.3
            assert bar.allows("x", logprob) == is_worth_it
    assert Bar.over([], 0.0).allows("x", -99.0)


def test_what_may_become_a_line_or_has_more_lines_is_always_written_on() -> None:
    bar = Bar.over([read("price", 0.5, -1.0)], 0.9)
    assert bar.allows("pri", -20.0) and bar.allows("x\n", -20.0) and not bar.allows("pro", -20.0)


def test_the_likeliest_comes_first_by_what_both_say() -> None:
    lines = [read("a", 0.5, -20.0), read("b", 0.4, -1.0), read("c", 0.1, -1.0)]
    ranked = rank(lines, [])
    assert [option.text for option in ranked] == ["b", "c", "a"]
    evidence = [Evidence(0.4, -1.0, False), Evidence(0.1, -1.0, False), Evidence(0.5, -20.0, False)]
    assert [option.probability for option in ranked] == pytest.approx(probabilities(evidence))


@pytest.mark.parametrize("text", [("pri", "ce"), ("price",), ("price", "\n    ", "other"), ("price", "  ")])
def test_a_line_that_the_model_writes_too_is_one_text_of_both(text: tuple[str, ...]) -> None:
    generation = written(*text)
    both, other = rank([read("other", 0.2, -4.0), read("price", 0.5, -2.0)], [generation])
    assert both.written is generation and both.line == line("price", 0.5) and both.text == generation.text
    assert both.model == log_likelihood(generation)
    assert (other.text, other.written) == ("other", None)
    evidence = [Evidence(0.5, log_likelihood(generation), True), Evidence(0.2, -4.0, False)]
    assert [both.probability, other.probability] == pytest.approx(probabilities(evidence))


def test_what_only_begins_like_a_line_is_a_text_of_its_own() -> None:
    ranked = rank([read("price", 0.5, -2.0)], [written("pri"), written("price", "_of")])
    assert sorted((option.text, option.line is not None) for option in ranked) == [
        ("pri", False),
        ("price", True),
        ("price_of", False),
    ]


def test_a_line_is_put_to_the_first_text_that_says_it() -> None:
    first, second = written("price"), written("pri", "ce", logprob=-3.0)
    ranked = rank([read("price", 0.5, -2.0)], [first, second])
    assert [(option.written, option.line is not None) for option in ranked] == [(first, True), (second, False)]


def test_a_line_that_was_not_read_counts_by_the_index() -> None:
    generation = written("price", logprob=-1.0)
    ranked = rank([read("other", 0.3, -3.0), read("total", 0.99, None), read("amount", 0.01, None)], [generation])
    by_text = {option.text: option.probability for option in ranked}
    assert (by_text["total"], by_text["amount"]) == (0.99, 0.01)
    assert [option.text for option in ranked[-2:]] == ["total", "amount"]  # behind what the model knows
    without = {option.text: option.probability for option in rank([read("other", 0.3, -3.0)], [generation])}
    assert {text: by_text[text] for text in without} == without  # it takes nothing from the others


def test_an_unread_line_that_the_model_writes_has_been_judged_by_writing() -> None:
    (both,) = rank([read("price", 0.3, None)], [written("price")])
    assert both.probability == pytest.approx(probabilities([Evidence(0.3, -0.75, True)])[0])


def test_of_nothing_there_is_nothing() -> None:
    assert rank([], []) == []


TEXTS = st.lists(st.sampled_from("abcdef"), unique=True, max_size=5)


@given(TEXTS, TEXTS, st.data())
def test_all_texts_are_ranked_each_once(known: list[str], said: list[str], data: st.DataObject) -> None:
    model = st.none() | st.floats(-30.0, 0.0)
    lines = [read(text, data.draw(st.floats(0.01, 0.8)), data.draw(model)) for text in known]
    generations = [written(text, logprob=data.draw(st.floats(-30.0, 0.0))) for text in said]
    ranked = rank(lines, generations)
    assert sorted(option.text for option in ranked) == sorted({*known, *said})
    likely = [(option.model is not None, option.probability) for option in ranked]
    assert likely == sorted(likely, reverse=True)
    assert {option.text for option in ranked if option.line is not None} == set(known)
    assert {option.text for option in ranked if option.written is not None} == set(said)
    assert sum(option.probability for option in ranked if option.model is not None) < 1.0


@pytest.mark.parametrize("generation, expected", [
    (written("a", "bc"), -0.5 - 0.5 - 0.25),  # all of it, and its end
    (written("a", "bc", end=0.0, finish="deadline"), -1.0),  # it did not end there by itself
    (written("a", "b", "\n    ", "c", "d"), -1.0),  # what the second line is does not count
    (written("ab\n", "c"), -0.5),  # a token that has a part in the line
    (written(end=-2.0), -2.0),
])  # fmt: skip
def test_what_the_model_gives_the_first_line(generation: Generation, expected: float) -> None:
    assert log_likelihood(generation) == pytest.approx(expected)
    assert math.exp(log_likelihood(generation)) <= 1.0
