"""The pipeline with an index beside the model: what is known to the workspace is offered, nothing that must not be."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import MARKERS, FakeEngine, FakeTokenizer

from server.completion import CompletionRequest, Outcome, complete, prefill_ahead
from server.index.live import REPOSITORY, LiveIndex
from server.index.segment import Segment, SegmentFile
from server.lm.context import Document
from server.lm.engine import Logits, PrefixCache
from server.lm.healing import TokenIndex
from server.lm.languages import language_for
from server.lm.model import LoadedModel
from server.settings import CompletionSettings, Settings
from tests.marks import split_at_cursor
from tests.test_secrets import SECRETS

SETTINGS = Settings(completion=CompletionSettings(min_confidence=0.0, deadline_ms=60_000))


@pytest.fixture
def undecided() -> LoadedModel:
    """A model to which every character is as likely as the next, and the end of the text less so."""
    tokenizer = FakeTokenizer([*string.printable, *(bytes([byte]) for byte in range(128, 256))])

    def next_logits(token_ids: tuple[int, ...]) -> Logits:
        logits = np.zeros(tokenizer.vocab_size, dtype=np.float32)
        logits[MARKERS.end_of_text] = -1.0
        return logits

    engine = FakeEngine(next_logits, tokenizer.vocab_size)
    return LoadedModel(
        name="fake",
        folder=Path("/models/fake"),
        fingerprint="fake",
        tokenizer=tokenizer,
        token_index=TokenIndex(tokenizer),
        engine=engine,
        completion_cache=PrefixCache(engine, 0),
        explanation_cache=PrefixCache(engine, 1),
        supports_infilling=True,
        supports_explanations=True,
        precision="fp32",
    )


def ask(
    marked: str, model: LoadedModel, index: LiveIndex | None, settings: Settings = SETTINGS, **request: object
) -> Outcome:
    text, offset = split_at_cursor(marked)
    document = Document("file:///work/here.py", "here.py", language_for("python"), text)
    return complete(CompletionRequest(document, offset, **request), model, settings, index=index)  # type: ignore[arg-type]


def texts(outcome: Outcome) -> list[str]:
    return [suggestion.text for suggestion in outcome.suggestions]


def written(outcome: Outcome) -> str:
    """What was written before any filter."""
    return "".join(share.text for share in outcome.shares)


def test_a_function_added_to_one_open_document_is_offered_in_another_at_once(undecided: LoadedModel) -> None:
    index = LiveIndex()
    index.change("other.py", "import os\n", is_open=True)
    marked = "import other\n\ntotal = other.sum_of_<|>\n"
    assert not written(ask(marked, undecided, index)).startswith("rows")
    index.change("other.py", "import os\n\n\ntotal = other.sum_of_rows(table)\n", is_open=True)
    outcome = ask(marked, undecided, index)
    assert texts(outcome) == ["rows(table)"]
    first = outcome.shares[0]
    assert first.index_share > 0.5 and [source.path for source in first.sources] == ["other.py"]
    assert first.sources[0].line == 4
    index.change("other.py", "import os\n\n\ntotal = other.sum_of_columns(table)\n", is_open=True)
    assert texts(ask(marked, undecided, index)) == ["columns(table)"]
    index.change("other.py", None, is_open=True)
    assert not written(ask(marked, undecided, index)).startswith(("rows", "columns"))


def test_the_repository_knows_what_the_model_does_not(undecided: LoadedModel) -> None:
    index = LiveIndex()
    index.use({REPOSITORY: Segment.build([SegmentFile("lib/area.py", b"size = measure(width, height)\n")])})
    outcome = ask("size = measure(<|>)\n", undecided, index)
    assert texts(outcome) == ["width, height"]
    assert {source.path for share in outcome.shares for source in share.sources} == {"lib/area.py"}


def test_the_line_that_is_written_does_not_answer_for_itself(undecided: LoadedModel) -> None:
    marked = "size = measure(width)\nq = very_own_<|>\n"
    with_rest = "size = measure(width)\nq = very_own_<|> very_own_name(1)\n"
    for text in (marked, with_rest):
        assert not written(ask(text, undecided, LiveIndex())).startswith("name")
    assert written(ask(marked + "r = very_own_name(2)\n", undecided, LiveIndex())).startswith("name(2)")


def test_characters_of_several_bytes_are_offered_whole(undecided: LoadedModel) -> None:
    index = LiveIndex()
    index.change("other.py", "label = 'Größe in €'\n", is_open=True)
    assert texts(ask("label = 'Gr<|>\n", undecided, index)) == ["öße in €'"]


def test_line_ends_of_either_kind_match_the_other(undecided: LoadedModel) -> None:
    index = LiveIndex()
    index.change("other.py", "first()\r\nsecond = rs\r\n", is_open=True)
    (here,) = texts(ask("first()\nsecond = <|>\n", undecided, index))
    assert here.startswith("rs")
    assert texts(ask("first()\r\nsecond = <|>\r\n", undecided, index)) == [here]


def test_what_the_popup_would_insert_counts_as_typed(undecided: LoadedModel) -> None:
    index = LiveIndex()
    index.change("other.py", "size = measure_area(width)\n", is_open=True)
    (suggestion,) = ask("size = mea<|>\n", undecided, index, selected_text="measure_").suggestions
    assert suggestion.text == "measure_area(width)"


def test_an_index_that_knows_nothing_changes_nothing(tiny_model: LoadedModel) -> None:
    for marked in ("<|>", "def add(first, second): return fi<|>", "x = <|>  # one line"):
        for trigger in ("automatic", "invoked"):
            without = ask(marked, tiny_model, None, trigger=trigger)
            index = LiveIndex()
            index.use({REPOSITORY: Segment.build([])})
            outcome = ask(marked, tiny_model, index, trigger=trigger)
            assert all(share.index_share == 0.0 for share in outcome.shares)
            assert (outcome.suggestions, outcome.ended, outcome.verdicts) == (
                without.suggestions,
                without.ended,
                without.verdicts,
            )


def test_a_real_model_is_told_of_a_function_in_another_document(tiny_model: LoadedModel) -> None:
    index = LiveIndex()
    line = "result = values.total_of_names(first, second)\n"
    index.change("other.py", line * 3, is_open=True)
    outcome = ask("result = values.total_<|>\n", tiny_model, index)
    assert "names(" in written(outcome)  # a random model would not know the name
    assert outcome.n_drafted_tokens >= outcome.n_accepted_tokens > 0


def test_drafts_change_nothing_of_what_is_offered(tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    index = LiveIndex()
    index.change("other.py", "for name in names:\n    print(first, name)\n    continue\n" * 2, is_open=True)

    def silent(self: object, text_so_far: bytes, max_tokens: int) -> Sequence[int]:
        return []

    for marked in ("for name in names:\n    print(<|>\n", "for name in <|>", "for name in names:\n    <|>\n"):
        drafted = ask(marked, tiny_model, index)
        with monkeypatch.context() as patch:
            patch.setattr("server.index.opinion.Opinion.propose", silent)
            plain = ask(marked, tiny_model, index)
        assert texts(drafted) == texts(plain) and written(drafted) == written(plain)
        assert drafted.n_new_tokens == plain.n_new_tokens and plain.n_drafted_tokens == 0


def test_shares_go_with_the_tokens_written(tiny_model: LoadedModel) -> None:
    index = LiveIndex()
    index.change("other.py", "total = add(1, 2)\nprint(total)\n", is_open=True)
    for marked in ("total = a<|>\n", "total = add(1, <|>\n", "print(<|>)\n"):
        outcome = ask(marked, tiny_model, index)
        assert len(outcome.shares) <= outcome.n_new_tokens
        assert all(0.0 <= share.index_share <= 1.0 for share in outcome.shares)
    assert ask("total = a<|>\n", tiny_model, None).shares == ()


def test_reading_ahead_readies_the_index(undecided: LoadedModel) -> None:
    index = LiveIndex()
    text, offset = split_at_cursor("size = measure(width)\nother = 1\nsize = <|>\n")
    document = Document("file:///work/here.py", "here.py", language_for("python"), text)
    prefill_ahead(document, offset, undecided, SETTINGS, index=index)
    (before,) = index.tiers(document, offset)
    outcome = ask("size = measure(width)\nother = 1\nsize = m<|>\n", undecided, index)
    assert written(outcome).endswith("easure(width)")
    (after,) = index.tiers(document, offset)
    assert after.segment is before.segment


@pytest.mark.parametrize("kind, secret, line", SECRETS)
def test_no_secret_is_ever_offered(undecided: LoadedModel, kind: str, secret: str, line: str) -> None:
    planted = line.format(secret)
    at = planted.index(secret)
    index = LiveIndex()
    index.change("other.py", planted.replace(secret, "password"), is_open=True)
    assert written(ask(planted[:at] + "pass<|>", undecided, index)).startswith("word"), "else nothing is tested here"
    index.change("other.py", planted, is_open=True)
    for typed in (planted[:at], planted[: at + 4]):
        for marked in (f"{typed}<|>", f"{planted}x = 1\n{typed}<|>", f"x = 1\n{typed}<|>\nx = 2\n{planted}"):
            outcome = ask(marked, undecided, index, trigger="invoked")
            offered = "".join([written(outcome), *texts(outcome)])
            assert secret[4:12] not in offered
