"""The byte-level BPE: exact both ways, never a marker out of text, the same with and without remembered lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from conftest import TOKENIZER_TEXT
from hypothesis import given, settings
from hypothesis import strategies as st

from server.lm import tokenizer as module
from server.lm.tokenizer import SPECIAL_TOKEN_NAMES, BytePairTokenizer, TokenizerError, load_tokenizer, new_backend

ANY_TEXT = st.text(max_size=80) | st.text(alphabet=" \t\n\r\fabcé€😀\ud800\u2028", max_size=80)
LINES = st.lists(st.sampled_from(["", "    x = 1", "\treturn", "  ", "é€", "def add(first", "x" * 600]), max_size=12)


@pytest.fixture(scope="module")
def learned(tiny_checkpoint: Path) -> BytePairTokenizer:
    return load_tokenizer(tiny_checkpoint)


@pytest.fixture
def plain_gpt2(tmp_path: Path) -> Path:
    """A folder with the two files of a plain GPT-2: every byte, a few merges across blanks, one marker."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "x"), ("a", "d"), ("ad", "d"), ("Ċ", "Ċ")]
    entries = [*alphabet, *map("".join, merges), "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({entry: number for number, entry in enumerate(entries)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return tmp_path


@pytest.fixture
def changed(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., BytePairTokenizer]:
    """`changed(normalizer=...)`: the learned tokenizer with parts of its file replaced."""

    def make(**parts: object) -> BytePairTokenizer:
        document = json.loads((tiny_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
        (tmp_path / "tokenizer.json").write_text(json.dumps(document | parts))
        return load_tokenizer(tmp_path)

    return make


def test_the_markers_are_the_first_ids(learned):
    assert learned.special == module.SpecialTokens(*range(8))
    assert learned.end_of_text == 0
    assert [learned.token_bytes(token_id) for token_id in range(8)] == [b""] * 8


@settings(max_examples=50)
@given(ANY_TEXT)
def test_decoding_gives_the_text_back(learned, text):
    assert learned.decode(learned.encode(text)) == text.replace("\ud800", "\ufffd")


@settings(max_examples=50)
@given(ANY_TEXT)
def test_the_bytes_of_the_ids_are_the_text(learned, text):
    data = b"".join(map(learned.token_bytes, learned.encode(text)))
    assert data.decode() == text.replace("\ud800", "\ufffd")


def test_two_surrogates_that_make_a_character_are_it(learned):
    assert learned.decode(learned.encode("\ud83d\ude00")) == "😀"


@pytest.mark.parametrize("name", SPECIAL_TOKEN_NAMES)
def test_a_marker_that_stands_in_the_text_is_text(learned, name):
    token_ids = learned.encode(f"a = '{name}'\n")
    assert min(token_ids) >= len(SPECIAL_TOKEN_NAMES)
    assert learned.decode(token_ids) == f"a = '{name}'\n"


def test_markers_give_no_text_and_broken_utf8_gives_replacements(learned):
    euro = learned.encode("€")
    assert learned.decode([0, *learned.encode("a"), 6]) == "a"
    assert learned.decode(euro[:-1]) == "\ufffd"


@settings(max_examples=50)
@given(st.lists(LINES.map("\n".join) | ANY_TEXT, max_size=4))
def test_remembered_lines_change_nothing(learned, texts):
    backend = tokenizers.Tokenizer.from_str(learned.to_json())
    backend.encode_special_tokens = True
    for text in texts:
        clean = text.replace("\ud800", "\ufffd")
        assert learned.encode(text) == backend.encode(clean, add_special_tokens=False).ids


@settings(max_examples=50)
@given(LINES, LINES)
def test_what_follows_a_line_break_does_not_change_the_ids_before_it(learned, above, below):
    before, after = "\n".join(above), "\n".join(["", *below])
    together = learned.encode(before + after)
    assert together[: len(learned.encode(before))] == learned.encode(before)


def test_the_memory_of_lines_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "N_CACHED_LINES", 8)
    memory = module._LineCache()
    for number in range(100):
        memory.put(str(number), (number,))
    held = [number for number in range(100) if memory.get(str(number))]
    assert held[-4:] == [96, 97, 98, 99]
    assert len(held) <= 8
    memory.put("x" * 10_000, (1,))
    assert memory.get("x" * 10_000) is None


def test_a_line_that_is_used_stays_remembered(monkeypatch):
    monkeypatch.setattr(module, "N_CACHED_LINES", 8)
    memory = module._LineCache()
    memory.put("import os", (1, 2))
    for number in range(100):
        memory.put(str(number), (number,))
        assert memory.get("import os") == (1, 2)


def test_a_known_text_is_not_cut_again(tiny_checkpoint, monkeypatch):
    fresh = load_tokenizer(tiny_checkpoint)
    asked: list[str] = []
    cut = fresh._encode
    monkeypatch.setattr(fresh, "_encode", lambda text: asked.append(text) or cut(text))
    text = "".join(TOKENIZER_TEXT)
    fresh.encode(text + "ret")
    fresh.encode(text + "retu")
    assert asked == [text + "ret", "\nretu"]


def test_a_plain_gpt2_vocabulary_remembers_no_lines(plain_gpt2):
    loaded = load_tokenizer(plain_gpt2)
    assert loaded._lines is None
    assert loaded.special is None
    assert loaded.end_of_text == loaded.vocab_size - 1
    assert [loaded.token_bytes(token_id) for token_id in loaded.encode("\n\n\nadd x")] == [
        b"\n\n",
        b"\n",
        b"add",
        b" x",
    ]
    assert loaded.end_of_text not in loaded.encode("<|endoftext|>")


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}},
        {"pre_tokenizer": None},
    ],
)
def test_lines_are_remembered_only_where_they_are_cut_one_by_one(changed, parts):
    assert changed()._lines is not None
    assert changed(**parts)._lines is None


def test_the_json_gives_the_tokenizer_back(learned):
    again = BytePairTokenizer(tokenizers.Tokenizer.from_str(learned.to_json()), "again")
    assert [again.encode(text) for text in TOKENIZER_TEXT] == [learned.encode(text) for text in TOKENIZER_TEXT]


def test_the_fingerprint_follows_the_file(tiny_checkpoint, changed):
    assert load_tokenizer(tiny_checkpoint).fingerprint == load_tokenizer(tiny_checkpoint).fingerprint
    assert changed(normalizer={"type": "NFC"}).fingerprint != load_tokenizer(tiny_checkpoint).fingerprint


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=rf"no tokenizer in {tmp_path}: expected tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1, 2", '{"model": {"type": "BPE"}}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=f"cannot read the tokenizer in {tmp_path}"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_that_is_not_of_bytes_is_refused(tmp_path):
    model = tokenizers.models.WordLevel({"hello": 0, "wörld €": 1}, unk_token="hello")
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="'wörld €' is not byte-level"):
        load_tokenizer(tmp_path)


def test_a_new_backend_keeps_line_breaks_with_their_indentation_apart():
    pieces = new_backend().pre_tokenizer.pre_tokenize_str("a b\n\n\t  c d\n")
    assert [piece for piece, _ in pieces] == ["aĠb", "Ċ", "ĊĉĠĠ", "cĠd", "Ċ"]
