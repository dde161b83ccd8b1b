"""Whatever a model writes, one sentence comes out, rated lower the less it explains."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.sentence import Sentence, one_sentence, sentence_end, stems, without_repetition

SOURCE = "def read_rows(path):\n    with open(path) as file:\n        return [line.split() for line in file]\n"


def shaped(generated: str, *, mean_logprob: float = -0.5, finished: bool = True) -> Sentence:
    sentence = one_sentence(generated, mean_logprob=mean_logprob, finished=finished, name="read_rows", source=SOURCE)
    assert sentence is not None
    return sentence


@pytest.mark.parametrize(
    ("generated", "shown"),
    [
        ("Reads the rows of a file.", "Reads the rows of a file."),
        (" reads the rows of a file", "Reads the rows of a file."),
        ("Reads rows. Then it closes the file.", "Reads rows."),
        ("Reads rows\n\n:param path: where", "Reads rows."),
        ("Reads os.path and 3.5 rows. Closes it", "Reads os.path and 3.5 rows."),
        ("Reads rows, e.g. the first ones. More", "Reads rows, e.g. the first ones."),
        ('"""Reads rows.', "Reads rows."),
        ("# Reads rows.", "Reads rows."),
        ("/** Reads rows", "Reads rows."),
        ("```python\nReads rows", "Reads rows."),
        ("Reads rows ```code```", "Reads rows."),
        ("Reads the the rows of a file", "Reads."),  # what follows a repetition is not trusted
        ("Reads rows of rows of rows of rows of", "Reads rows."),
        ("read_rows opens the file", "read_rows opens the file."),
        ("Is it a row?", "Is it a row?"),
        ("Reads\trows  of\u00a0files:", "Reads rows of files."),
    ],
)
def test_one_sentence_with_a_capital_and_a_full_stop(generated: str, shown: str) -> None:
    assert shaped(generated).text == shown


@pytest.mark.parametrize("generated", ["", "   \n", "...", "```\n```", "1234", "***"])
def test_no_words_no_sentence(generated: str) -> None:
    assert one_sentence(generated, mean_logprob=0.0, finished=True, name="f", source="def f(): ...") is None


def test_a_sentence_that_was_cut_off_ends_at_its_last_full_word_group() -> None:
    assert shaped("Reads the rows of a file and returns the", finished=False).text == (
        "Reads the rows of a file and returns."
    )


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ("Reads the rows of a", "Reads the rows of a file."),
        ("Reads the rows of a file of a file of a file.", "Reads the rows of a file."),
        ("Paints a blue elephant.", "Reads the rows of a file."),
        ("Rows.", "Reads the rows of a file."),
        ("Reads " + "rows and columns or lines from here " * 1 + "x " * 40, "Reads the rows of a file."),
        ("Rows == {}[]()<>//;;== rows.", "Reads the rows of a file."),
    ],
)
def test_each_sign_of_nonsense_lowers_the_confidence(worse: str, better: str) -> None:
    assert shaped(worse, finished=worse.endswith(".")).confidence < 0.8 * shaped(better).confidence


def test_an_unsure_model_gives_an_unsure_sentence() -> None:
    sure, unsure = (shaped("Reads rows of files.", mean_logprob=value).confidence for value in (-0.1, -3.0))
    assert 0.0 < unsure < 0.1 < 0.8 < sure <= 1.0


@pytest.mark.parametrize(
    "sentence, name",
    [
        ("Adds two.", "add"),
        ("Splitting it up.", "split"),
        ("Writes it.", "write_all"),
        ("Writing it.", "write"),
        ("Copies it.", "copy"),
        ("Loads a config.", "loadJSONConfig"),
        ("Parsed rows.", "HTMLParser"),
        ("Sets the Größe.", "größe"),
    ],
)
def test_words_are_compared_without_endings_and_names_by_their_parts(sentence: str, name: str) -> None:
    assert stems(sentence) & stems(name)


@pytest.mark.parametrize("sentence, name", [("Returns a value.", "return_value"), ("Reads.", "write")])
def test_words_that_fit_everything_say_nothing(sentence: str, name: str) -> None:
    assert not stems(sentence) & stems(name)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Reads rows", None),
        ("Reads rows.", None),  # may go on as a name or a number
        ("Reads rows. T", 11),
        ("Reads rows.\n", 11),
        ("Reads rows\n", 10),
        ("\n Reads rows", None),
        ("Reads os.path ", None),
        ("Reads e.g. rows", None),
        ("", None),
    ],
)
def test_decoding_stops_behind_the_first_sentence(text: str, end: int | None) -> None:
    assert sentence_end(text) == end


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a b c", "a b c"),
        ("a b a b c", "a b"),
        ("a b b c", "a b"),
        ("one two three one two four", "one two three one two four"),
    ],
)
def test_words_are_kept_up_to_their_repetition(text: str, kept: str) -> None:
    words, looped = without_repetition(text.split())
    assert " ".join(words) == kept and looped == (kept != text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.floats(allow_nan=True, allow_infinity=True), st.booleans(), st.text(max_size=20))
def test_any_text_gives_one_line_or_nothing(text: str, mean_logprob: float, finished: bool, name: str) -> None:
    sentence = one_sentence(text, mean_logprob=min(mean_logprob, 0.0), finished=finished, name=name, source=text)
    if sentence is not None:
        assert "\n" not in sentence.text and sentence.text[-1] in ".!?" and 0.0 <= sentence.confidence <= 1.0


@pytest.mark.parametrize("text", ["Read a subsubsubsubsub.", "A list of matrix.matrix.matrix.matrix."])
def test_a_stammer_is_cut_and_costs_confidence(text: str) -> None:
    plain = one_sentence("Read a list.", mean_logprob=-0.1, finished=True, name="read", source="list matrix")
    found = one_sentence(text, mean_logprob=-0.1, finished=True, name="read", source="list matrix")
    assert plain is not None and found is not None
    assert len(found.text) < len(text) and found.confidence < plain.confidence / 2
