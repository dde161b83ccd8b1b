"""Typing along a suggestion needs no model; everything else does."""

from __future__ import annotations

import pytest

from server.completion import Suggestion
from server.suggestion_cache import MAX_CHARACTERS, MAX_ENTRIES, Offer, SuggestionCache
from tests.marks import split_at_cursor

URI = "file:///work/module.py"


def offer(text: str, start: int, end: int, name: str = "1") -> Offer:
    return Offer(name, Suggestion(text, start, end, 0.9))


def remember(cache: SuggestionCache, drawn: str, *texts: str, invoked: bool = False) -> None:
    text, offset = split_at_cursor(drawn)
    offers = [offer(each, offset, offset, str(n)) for n, each in enumerate(texts, 1)]
    cache.store(URI, text, offset, "key", offers, invoked=invoked)


def find(cache: SuggestionCache, drawn: str, *, invoked: bool = False, key: str = "key") -> tuple[Offer, ...] | None:
    text, offset = split_at_cursor(drawn)
    return cache.find(URI, text, offset, key, invoked=invoked)


def texts(found: tuple[Offer, ...] | None) -> list[str] | None:
    return None if found is None else [each.suggestion.text for each in found]


@pytest.mark.parametrize(
    "drawn, rest",
    [
        ("a = 1\nx = <|>\nb\n", "call(y)"),  # asked again
        ("a = 1\nx = c<|>\nb\n", "all(y)"),
        ("a = 1\nx = call(y<|>\nb\n", ")"),
        ("a = 1\nx = call(y)<|>\nb\n", None),  # accepted: what comes next, only the model knows
        ("a = 1\nx = k<|>\nb\n", None),  # typed something else
        ("a = 1\nx =<|>\nb\n", None),  # corrected beyond the place of the question
        ("a = 2\nx = c<|>\nb\n", None),  # changed above
        ("a = 1\nx = c<|>\nd\n", None),  # changed below
        ("a = 1\nx = c<|> \nb\n", None),
        ("a = 1\nx = c<|>", None),
    ],
)
def test_only_what_was_typed_of_the_suggestion_may_differ(drawn: str, rest: str | None) -> None:
    cache = SuggestionCache()
    remember(cache, "a = 1\nx = <|>\nb\n", "call(y)")
    assert texts(find(cache, drawn)) == (None if rest is None else [rest])


def test_the_rest_stands_at_the_cursor_and_keeps_its_name() -> None:
    cache = SuggestionCache()
    remember(cache, "x = <|>\n", "call(y)")
    assert find(cache, "x = ca<|>\n") == (offer("ll(y)", 6, 6),)


def test_a_correction_within_the_suggestion_finds_it_again() -> None:
    cache = SuggestionCache()
    remember(cache, "x = <|>\n", "call(y)")
    assert texts(find(cache, "x = call<|>\n")) == ["(y)"]
    assert texts(find(cache, "x = calk<|>\n")) is None
    assert texts(find(cache, "x = cal<|>\n")) == ["l(y)"]
    assert texts(find(cache, "x = <|>\n")) == ["call(y)"]


@pytest.mark.parametrize(
    "suggestion, drawn, rest, overwrites",
    [
        ("(a, b)", "f(<|>)\n", "a, b", 0),  # the bracket that the editor closed stays
        ("(a, b)", "f(a<|>)\n", ", b", 0),
        ("(a, b):", "f(a<|>)\n", ", b):", 1),  # and is overwritten where more follows
        ("([1], 2)", "f([<|>])\n", "1], 2)", 2),
        ("['key']", "f['<|>']\n", "key", 0),
        ("['key']", "f['<|>'\n", "key']", 1),  # an editor that closes quotes only
        ("['key']", "f['<|>]\n", None, 0),
        ("(a, b)", "f(<|>]\n", None, 0),
        ("(a, b)", "f(a, b<|>)\n", None, 0),  # nothing is left to type
        ('"a" + b', 'f"<|>"\n', 'a" + b', 1),
    ],
)
def test_brackets_and_quotes_that_the_editor_closes_do_not_disturb(
    suggestion: str, drawn: str, rest: str | None, overwrites: int
) -> None:
    cache = SuggestionCache()
    remember(cache, "f<|>\n", suggestion)
    found = find(cache, drawn)
    assert texts(found) == (None if rest is None else [rest])
    if found is not None:
        assert found[0].suggestion.end - found[0].suggestion.start == overwrites


def test_an_empty_answer_is_remembered_for_its_place_alone() -> None:
    cache = SuggestionCache()
    remember(cache, "x = <|>\n")
    assert find(cache, "x = <|>\n") == ()
    assert find(cache, "x = c<|>\n") is None


def test_the_newest_answer_counts() -> None:
    cache = SuggestionCache()
    remember(cache, "x = <|>\n", "old_name")
    remember(cache, "x = <|>\n", "new_name")
    assert texts(find(cache, "x = <|>\n")) == ["new_name"]
    assert texts(find(cache, "x = o<|>\n")) == ["ld_name"]


def test_of_several_offers_those_are_left_that_begin_as_typed() -> None:
    cache = SuggestionCache()
    remember(cache, "x = <|>\n", "call(y)", "cast(z)", "other", invoked=True)
    assert texts(find(cache, "x = ca<|>\n")) == ["ll(y)", "st(z)"]
    assert texts(find(cache, "x = cas<|>\n")) == ["t(z)"]


def test_asking_for_alternatives_is_another_question() -> None:
    cache = SuggestionCache()
    remember(cache, "x = <|>\n", "call(y)")
    assert find(cache, "x = <|>\n", invoked=True) is None
    assert find(cache, "x = c<|>\n", invoked=True) is None
    remember(cache, "y = <|>\n", "unsure", invoked=True)
    assert texts(find(cache, "y = <|>\n", invoked=True)) == ["unsure"]
    assert find(cache, "y = <|>\n") is None
    assert texts(find(cache, "y = u<|>\n")) == ["nsure"]


def test_another_document_model_or_setting_is_another_question() -> None:
    cache = SuggestionCache()
    remember(cache, "x = <|>\n", "call(y)")
    assert find(cache, "x = <|>\n", key="other") is None
    assert cache.find("file:///other.py", "x = \n", 4, "key", invoked=False) is None
    cache.forget("file:///other.py")
    assert find(cache, "x = <|>\n") is not None
    cache.forget(URI)
    assert find(cache, "x = <|>\n") is None


def test_the_cache_is_bounded_in_number_and_size() -> None:
    cache = SuggestionCache()
    for number in range(MAX_ENTRIES + 5):
        remember(cache, f"x{number} = <|>\n", "call()")
    assert find(cache, "x4 = <|>\n") is None
    assert find(cache, "x5 = <|>\n") is not None
    huge = "#" * MAX_CHARACTERS
    remember(cache, f"{huge}\nx = <|>\n", "call()")
    assert find(cache, f"x{MAX_ENTRIES + 4} = <|>\n") is None
    assert texts(find(cache, f"{huge}\nx = c<|>\n")) == ["all()"]
