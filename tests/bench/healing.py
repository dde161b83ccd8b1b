"""Token healing: at how many cursors the prompt leaves the way in which the tokenizer cuts the whole text.

The ids that the prompt feeds of the prefix must begin the ids of the same text with what follows the cursor: only such
sequences has the model been trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.heldout import SourceFile, draw_offsets
from tests.bench.options import Options
from tests.bench.table import BenchError, Row, percentile, share

if TYPE_CHECKING:
    from server.lm.healing import TokenIndex
    from server.lm.tokenizer import Tokenizer

PART = "healing"
N_CURSORS, N_QUICK_CURSORS = 10_000, 500
MAX_OFF_PERCENT = 0.5
_N_POSITIONS, _MAX_NEW_TOKENS = 1024, 48
_N_LINES_AFTER = 2  # tokens never cross a line break


@dataclass(frozen=True, slots=True)
class Healed:
    """What the prompt at one cursor feeds."""

    is_canonical: bool
    n_pending_bytes: int


def run(options: Options) -> list[Row]:
    """Looks at cursors anywhere in the files."""
    from server.lm.healing import TokenIndex
    from server.lm.model_folder import resolve_model
    from server.lm.tokenizer import load_tokenizer

    if not options.files:
        raise BenchError("no held-out file was fetched")
    tokenizer = load_tokenizer(resolve_model(options.model))
    index = TokenIndex(tokenizer)
    places = draw_offsets(options.files, options.n(N_CURSORS, N_QUICK_CURSORS), PART)
    return rows([healed(file, offset, tokenizer, index) for file, offset in places])


def healed(file: SourceFile, offset: int, tokenizer: Tokenizer, index: TokenIndex) -> Healed:
    """Compares the prompt at a cursor with the tokens of the whole text."""
    from server.lm.context import Document, context_at
    from server.lm.languages import language_for
    from server.lm.prompt import completion_prompt

    document = Document(file.uri, file.path, language_for(file.language_id), file.text)
    prompt = completion_prompt(context_at(document, offset), tokenizer, index, _N_POSITIONS, _MAX_NEW_TOKENS)
    fed = list(prompt.token_ids)
    markers = [at for at, token_id in enumerate(fed) if not tokenizer.token_bytes(token_id)]
    kept = fed[markers[-1] + 1 :] if markers else fed
    n_bytes = sum(len(tokenizer.token_bytes(token_id)) for token_id in kept) + len(prompt.pending)
    prefix = file.text[:offset].encode()
    window = prefix[len(prefix) - n_bytes :].decode()
    following = "\n".join(file.text[offset:].split("\n")[:_N_LINES_AFTER])
    whole = tokenizer.encode(window + following)
    return Healed(whole[: len(kept)] == kept, len(prompt.pending))


def rows(found: Sequence[Healed]) -> list[Row]:
    """The figures over all cursors."""
    n_off = sum(not each.is_canonical for each in found)
    note = f"{n_off} of {len(found)}"
    pending = [float(each.n_pending_bytes) for each in found]
    return [
        Row(PART, "cursors off the canonical tokens", share(n_off, len(found)), "%", MAX_OFF_PERCENT, note=note),
        Row(PART, "text matched instead of fed, mean", sum(pending) / len(pending) if pending else None, "bytes"),
        Row(PART, "text matched instead of fed, p95", percentile(pending, 95), "bytes"),
    ]
