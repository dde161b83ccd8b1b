"""Token healing: what is taken back before the cursor, and which ways lead through it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TOKENIZER_TEXT
from fakes import MARKERS, FakeTokenizer
from hypothesis import given
from hypothesis import strategies as st

from server.lm.healing import Route, TokenIndex, heal, routes
from server.lm.tokenizer import Tokenizer, load_tokenizer

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = FakeTokenizer([*LETTERS, " ", ".", "re", "ret", "return", "return s", " self", "self.", "x = "])

# Every byte is an entry, so that any text can be written; the others cross spaces and cut characters in two.
BYTES = [bytes([byte]) for byte in range(256)]
MIXED = FakeTokenizer([*BYTES, "ab", "a b", " a", "b\n", "\n  ", "aab", "é", "€a", b"\x82\xac", b"b\xe2"])
MIXED_INDEX = TokenIndex(MIXED)
MIXED_TEXT = st.text(alphabet="ab \né€", max_size=20)


@pytest.fixture(scope="module")
def learned(tiny_checkpoint: Path) -> Tokenizer:
    return load_tokenizer(tiny_checkpoint)


def texts_of(tokenizer: Tokenizer, token_ids: list[int] | tuple[int, ...]) -> list[bytes]:
    return [tokenizer.token_bytes(token_id) for token_id in token_ids]


@given(st.lists(st.binary(min_size=1, max_size=3), unique=True), st.binary(max_size=3))
def test_index_finds_exactly_the_entries_that_go_on(entries, text):
    tokenizer = FakeTokenizer(entries)
    index = TokenIndex(tokenizer)
    longer = sorted(entry for entry in entries if entry.startswith(text) and entry != text)
    assert texts_of(tokenizer, index.extending(text).tolist()) == longer
    assert index.extends(text) == bool(longer)


def test_index_knows_the_ids_without_text():
    index = TokenIndex(WORDS)
    assert index.markers.tolist() == list(range(8))
    assert set(index.markers.tolist()).isdisjoint(index.extending(b"").tolist())


@pytest.mark.parametrize(
    "text, extra_tokens, kept, pending",
    [
        ("a.ret", 0, ["a", "."], b"ret"),  # "return" covers what is typed and goes on
        ("a.ret", 1, ["a"], b".ret"),
        ("a.ret", 2, [], b"a.ret"),
        ("a.ret", 9, [], b"a.ret"),
        ("zreturn ", 0, ["z"], b"return "),  # across the space: "return s"
        ("zself.", 0, ["z", "self."], b""),  # nothing goes on from here, the cursor is a token start
        ("zself.", 1, ["z"], b"self."),
        ("zr", 0, ["z"], b"r"),
        ("", 2, [], b""),
    ],
)
def test_takes_back_what_typing_may_still_change(text, extra_tokens, kept, pending):
    kept_ids, found = heal(WORDS.encode(text), TokenIndex(WORDS), WORDS, extra_tokens)
    assert (texts_of(WORDS, kept_ids), found) == ([word.encode() for word in kept], pending)


def test_stops_at_a_marker():
    prefix_ids = [*WORDS.encode("return "), MARKERS.fim_prefix, *WORDS.encode("re")]
    kept, pending = heal(prefix_ids, TokenIndex(WORDS), WORDS)
    assert (kept, pending) == (prefix_ids[:-1], b"re")


@given(MIXED_TEXT, st.integers(0, 3))
def test_what_is_fed_and_what_is_pending_are_the_text(text, extra_tokens):
    token_ids = MIXED.encode(text)
    kept, pending = heal(token_ids, MIXED_INDEX, MIXED, extra_tokens)
    assert kept == token_ids[: len(kept)]
    assert b"".join(texts_of(MIXED, kept)) + pending == text.encode()
    assert text.endswith(pending.decode()), "never cut inside a character"


def test_goes_back_to_the_start_of_a_character():
    token_ids = MIXED.encode("\nb€")
    assert texts_of(MIXED, token_ids) == [b"\n", b"b\xe2", b"\x82\xac"]
    assert heal(token_ids, MIXED_INDEX, MIXED, extra_tokens=1) == (token_ids[:1], "b€".encode())


def test_a_window_that_starts_inside_a_character_is_fed_up_to_its_end():
    broken = [MIXED.id_of(b"\x82\xac"), *MIXED.encode("a")]
    assert heal(broken, MIXED_INDEX, MIXED) == ([broken[0]], b"a")


@given(MIXED_TEXT)
def test_every_route_spells_the_pending_text(text):
    kept, pending = heal(MIXED.encode(text), MIXED_INDEX, MIXED)
    found = routes(kept, pending, MIXED_INDEX, MIXED)
    assert [b"".join(texts_of(MIXED, route.token_ids)) + route.rest for route in found] == [pending] * len(found)
    assert all(MIXED_INDEX.extends(route.rest) for route in found)
    assert [route.rest for route in found if not route.rest] == [found[-1].rest]


def test_routes_run_along_the_pending_tokens_and_beside_them():
    tokenizer = FakeTokenizer(["a", "b", "c", "d", "x", "ab", "bcd", "cx"])
    assert routes(tokenizer.encode("d"), b"abc", TokenIndex(tokenizer), tokenizer) == [
        Route(tokenizer.ids_of("a"), b"bc"),  # then "bcd"
        Route(tokenizer.ids_of("ab"), b"c"),  # then "cx"
        Route(tokenizer.ids_of("ab", "c"), b""),  # then anything
    ]


@pytest.mark.parametrize("number", range(len(TOKENIZER_TEXT)))
def test_the_canonical_way_is_among_the_routes_at_every_cursor(learned, number):
    text = TOKENIZER_TEXT[number]
    index = TokenIndex(learned)
    canonical = learned.encode(text)
    for cursor in range(len(text)):
        kept, pending = heal(learned.encode(text[:cursor]), index, learned)
        assert kept == canonical[: len(kept)], f"off the canonical tokens before {text[:cursor]!r}"
        way, rest = [], pending
        for token_id in canonical[len(kept) :]:
            token = learned.token_bytes(token_id)
            if not rest or (token != rest and token.startswith(rest)):
                break
            assert rest.startswith(token)
            way.append(token_id)
            rest = rest[len(token) :]
        assert Route(tuple(way), rest) in routes(kept, pending, index, learned), f"no way on after {text[:cursor]!r}"


def test_pending_text_is_cut_as_it_is_behind_what_was_fed(learned):
    canonical = learned.encode("\n     names")
    indentation = learned.encode("\n    ")
    assert canonical[: len(indentation)] == indentation
    way = canonical[len(indentation) :]
    assert way != learned.encode(" names"), "inside a line the space belongs to the word"
    assert routes(indentation, b" names", TokenIndex(learned), learned)[-1].token_ids == tuple(way)
