"""The learned vocabulary: its fixed part, its pieces, and that a smaller one is the head of a larger one."""

from __future__ import annotations

import json

import pytest
from conftest import TOKENIZER_TEXT

from finetune.pretrain.vocabulary import MAX_LINE_CHARACTERS, learn, save, smaller
from server.lm.errors import UserError
from server.lm.tokenizer import SPECIAL_TOKEN_NAMES, load_tokenizer

SMALLEST = 264  # the markers and every byte


def entries(tokenizer) -> list[bytes]:
    return [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]


def test_markers_come_first_then_every_byte_then_merges():
    tokenizer = learn(TOKENIZER_TEXT, 300)
    vocab = json.loads(tokenizer.to_json())["model"]["vocab"]
    assert [name for name, token_id in vocab.items() if token_id < 8] == list(SPECIAL_TOKEN_NAMES)
    assert sorted(entries(tokenizer)[8:SMALLEST]) == [bytes([byte]) for byte in range(256)]
    assert all(len(entry) > 1 for entry in entries(tokenizer)[SMALLEST:])
    assert tokenizer.vocab_size == 300


def test_merges_cross_blanks_but_never_line_breaks():
    tokenizer = learn(["x = 1\n    return self\n\n\n        return self\n"] * 20, 320)
    assert any(entry.strip().count(b" ") for entry in entries(tokenizer)), "such as `return self`"
    assert b"\n    " in entries(tokenizer)
    for entry in entries(tokenizer):
        assert b"\n" not in entry[1:]
        assert not entry.startswith(b"\n") or not entry.strip(b"\n \t")


@pytest.mark.parametrize("size", [SMALLEST, 265, 280, 300, 339])
@pytest.mark.parametrize("texts", [TOKENIZER_TEXT, ["aaaaaaaaaabababaaab abab aab\n" * 9]])
def test_a_smaller_vocabulary_is_what_would_have_been_learned(texts, size):
    larger = learn(texts, 340)
    size = min(size, larger.vocab_size)
    cut, learned = smaller(larger.to_json(), size), learn(texts, size)
    assert entries(cut) == entries(learned)
    assert json.loads(cut.to_json())["model"]["merges"] == json.loads(learned.to_json())["model"]["merges"]
    assert [cut.encode(text) for text in texts] == [learned.encode(text) for text in texts]


def test_two_merges_that_lead_to_one_entry_count_once():
    document = json.loads(learn(TOKENIZER_TEXT, SMALLEST).to_json())
    merges = [["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"], ["d", "e"]]
    document["model"]["merges"] = merges
    document["model"]["vocab"] |= {"ab": 264, "bc": 265, "abc": 266, "de": 267}
    for size, n_merges in ((265, 1), (266, 2), (267, 3), (268, 5)):
        cut = smaller(json.dumps(document), size)
        assert json.loads(cut.to_json())["model"]["merges"] == merges[:n_merges]
        assert cut.vocab_size == size


@pytest.mark.parametrize("size", [0, SMALLEST - 1, 301])
def test_a_size_that_cannot_be_cut_is_refused(size):
    with pytest.raises(UserError, match=f"a vocabulary of 300 entries cannot be cut to {size}"):
        smaller(learn(TOKENIZER_TEXT, 300).to_json(), size)


def test_a_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(UserError, match="at least 264 entries, not 263"):
        learn(TOKENIZER_TEXT, 263)


def test_lines_of_data_teach_nothing():
    table = "0123" * (MAX_LINE_CHARACTERS // 4 + 1)
    assert entries(learn([*TOKENIZER_TEXT, f"\n{table}\n" * 50], 300)) == entries(
        learn([*TOKENIZER_TEXT, "\n\n" * 50], 300)
    )


def test_what_is_saved_is_what_was_learned(tmp_path):
    tokenizer = learn(TOKENIZER_TEXT, 300)
    save(tokenizer, tmp_path / "new" / "folder")
    again = load_tokenizer(tmp_path / "new" / "folder")
    assert again.to_json() == tokenizer.to_json()
    assert again.fingerprint == tokenizer.fingerprint
