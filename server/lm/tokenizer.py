"""Byte-level BPE: text to token ids and back, and the bytes behind each id.

Our own vocabulary merges across spaces but never across line breaks; a line break with the indentation after it is a
piece of its own, so that typing never changes the tokens of earlier lines (design 6). Plain GPT-2 vocabularies are read
as they are. Knows nothing of prompts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from server.lm.errors import UserError

if TYPE_CHECKING:
    import tokenizers

SPECIAL_TOKEN_NAMES = (
    "<|endoftext|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|file|>",
    "<|doc|>",
    "<|pad|>",
    "<|snippet|>",
)
PIECE_PATTERN = r"\n[ \t]*"

# At each key nearly all lines are those of the key before. A few files' worth, some megabytes at most.
N_CACHED_LINES = 8_192
MAX_CACHED_LINE_CHARACTERS = 512


class TokenizerError(UserError):
    """A tokenizer file is missing, damaged or of a kind that is not supported."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the markers of the prompt layout (design 5)."""

    end_of_text: int
    fim_prefix: int
    fim_suffix: int
    fim_middle: int
    file: int
    doc: int
    pad: int
    snippet: int


class Tokenizer(Protocol):
    """What prompts, healing and decoding need of a vocabulary."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, markers included."""

    @property
    def special(self) -> SpecialTokens | None:
        """The prompt markers, or None for a vocabulary without them (a plain GPT-2)."""

    @property
    def end_of_text(self) -> int | None:
        """The id that ends a text, where the vocabulary has one."""

    @property
    def fingerprint(self) -> str:
        """sha256 over all that decides how text is cut."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; never a marker, even where the text spells one. A lone surrogate becomes U+FFFD."""

    def encode_once(self, text: str) -> list[int]:
        """The same for a short text that will hardly be asked for again: nothing is remembered of it."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of the ids; markers give nothing, broken UTF-8 gives U+FFFD."""

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes of one id; empty for a marker."""


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in character for each byte, reversed.

    Printable Latin-1 stands for itself; the other bytes are numbered upward from U+0100 (Radford et al. 2019).
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + rank): byte for rank, byte in enumerate(others)})
    return table


class BytePairTokenizer:
    """A `Tokenizer` over a `tokenizers.Tokenizer` with byte-level pieces.

    Where no token crosses a line break, the ids of whole lines are remembered.
    """

    def __init__(self, backend: tokenizers.Tokenizer, fingerprint: str) -> None:
        self._json = backend.to_str()
        self._lines = _LineCache() if _cuts_at_line_breaks(backend) else None
        self._backend = backend
        self._backend.encode_special_tokens = True  # markers that stand in source text are text
        self.fingerprint = fingerprint
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        vocab: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
        alphabet = _byte_alphabet()
        self._bytes: list[bytes] = [b""] * self.vocab_size
        for token, token_id in vocab.items():
            if token_id in added or token_id >= self.vocab_size:
                continue
            try:
                self._bytes[token_id] = bytes(alphabet[character] for character in token)
            except KeyError as error:
                raise TokenizerError(
                    f"tokenizer entry {token!r} is not byte-level; only GPT-2 style vocabularies are supported"
                ) from error
        ids = [vocab.get(name) for name in SPECIAL_TOKEN_NAMES]
        self.special = None if None in ids else SpecialTokens(*[token_id for token_id in ids if token_id is not None])
        self.end_of_text = vocab.get("<|endoftext|>")

    def encode(self, text: str) -> list[int]:
        if self._lines is None:
            return self._encode(text)
        head, *rest = text.split("\n")
        lines = [head, *("\n" + line for line in rest)]
        known = [self._lines.get(line) for line in lines]
        fresh = [line for line, ids in zip(lines, known, strict=True) if ids is None]
        learned = iter(self._encode_lines(fresh))
        token_ids: list[int] = []
        for line, ids in zip(lines, known, strict=True):
            if ids is None:
                ids = next(learned)
                self._lines.put(line, ids)
            token_ids += ids
        return token_ids

    def encode_once(self, text: str) -> list[int]:
        return self._encode(text)

    def _encode_lines(self, lines: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each line, all cut in one call; each but the first starts with its line break."""
        if not lines:
            return []
        token_ids = self._encode("".join(lines))
        starts = [at for at, token_id in enumerate(token_ids) if self._bytes[token_id].startswith(b"\n")]
        if not lines[0].startswith("\n"):
            starts.insert(0, 0)
        return [tuple(token_ids[start:end]) for start, end in zip(starts, [*starts[1:], None], strict=True)]

    def _encode(self, text: str) -> list[int]:
        try:
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        except (TypeError, UnicodeEncodeError):
            clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            return list(self._backend.encode(clean, add_special_tokens=False).ids)

    def with_markers(self) -> BytePairTokenizer:
        """This tokenizer with the prompt markers that it lacks behind its last entry; text is cut as before."""
        import tokenizers

        if self.special is not None:
            return self
        backend = tokenizers.Tokenizer.from_str(self._json)
        backend.add_special_tokens(list(SPECIAL_TOKEN_NAMES))
        return BytePairTokenizer(backend, self.fingerprint)

    def to_json(self) -> str:
        """The content of a `tokenizer.json` that gives this tokenizer back."""
        return self._json

    def decode(self, token_ids: Sequence[int]) -> str:
        return b"".join(self._bytes[token_id] for token_id in token_ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]


class _LineCache:
    """The ids of the `N_CACHED_LINES` lines or fewer that were asked for last.

    Two generations instead of a list of all uses: when the young one is full, the old one is forgotten. No step leaves
    it in pieces, so several threads may encode.
    """

    def __init__(self) -> None:
        self._young: dict[str, tuple[int, ...]] = {}
        self._old: dict[str, tuple[int, ...]] = {}

    def get(self, line: str) -> tuple[int, ...] | None:
        token_ids = self._young.get(line)
        if token_ids is None:
            token_ids = self._old.get(line)
            if token_ids is not None:
                self.put(line, token_ids)
        return token_ids

    def put(self, line: str, token_ids: tuple[int, ...]) -> None:
        if len(line) > MAX_CACHED_LINE_CHARACTERS:
            return
        if len(self._young) >= N_CACHED_LINES // 2:
            self._young, self._old = {}, self._young
        self._young[line] = token_ids


def load_tokenizer(folder: Path) -> BytePairTokenizer:
    """The tokenizer of a checkpoint folder: `tokenizer.json`, else `vocab.json` with `merges.txt`."""
    import tokenizers

    whole, vocab, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if whole.is_file():
            data = whole.read_bytes()
            backend = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        elif vocab.is_file() and merges.is_file():
            data = vocab.read_bytes() + b"\0" + merges.read_bytes()
            backend = _plain_gpt2(vocab, merges)
        else:
            raise TokenizerError(
                f"no tokenizer in {folder}: expected tokenizer.json, or vocab.json and merges.txt; "
                f"save one beside the model with `tokenizer.save_pretrained(folder)`"
            )
    except TokenizerError:
        raise
    except Exception as error:  # the tokenizers library raises plain Exception for damaged files
        raise TokenizerError(
            f"cannot read the tokenizer in {folder}: {error}; restore the file or the folder"
        ) from error
    return BytePairTokenizer(backend, hashlib.sha256(data).hexdigest())


def _plain_gpt2(vocab: Path, merges: Path) -> tokenizers.Tokenizer:
    """GPT-2's own byte-level BPE from its two files."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    backend = tokenizers.Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = json.loads(vocab.read_text(encoding="utf-8"))
    backend.add_special_tokens([name for name in SPECIAL_TOKEN_NAMES if name in names])
    return backend


def _cuts_at_line_breaks(backend: tokenizers.Tokenizer) -> bool:
    """Whether a tokenizer cuts text as `new_backend` does, and does nothing to it before."""
    own = new_backend()
    return (
        backend.pre_tokenizer is not None
        and backend.pre_tokenizer.__getstate__() == own.pre_tokenizer.__getstate__()
        and all(step is None for step in (backend.normalizer, backend.truncation, backend.padding))
        and not backend.model.dropout
        and all(token.special for token in backend.get_added_tokens_decoder().values())
    )


def new_backend() -> tokenizers.Tokenizer:
    """An untrained BPE with our pieces: lines without their break, and line breaks with their indentation."""
    import tokenizers
    from tokenizers import Regex, decoders, models, pre_tokenizers

    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend
