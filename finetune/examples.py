"""Training rows of a repository: the samples of pretraining, with a share of general code against forgetting.

Every layout comes from `server.lm.prompt`. Where less than one epoch fits into the budget, the files that the base
model finds hardest come first. Beside the repository's rows stand some of general code, on which the base itself is
what is to be learned.
"""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetune.collect import SourceText
from finetune.planning import MAX_GENERAL_ROWS, VALIDATION_ROWS
from finetune.pretrain.samples import MIN_SAMPLE_TOKENS, RowBuilder, SourceFile
from finetune.split import Split
from server.lm.errors import UserError
from server.lm.prompt import file_header
from server.lm.tokenizer import BytePairTokenizer

MAX_GENERAL_BYTES = 60_000  # a file of Python's own library
NOT_GENERAL = frozenset(("test", "tests", "site-packages", "dist-packages"))  # folders of the library

Rows = NDArray[np.uint16]  # (rows, length + 1) token ids, padded at the end


@dataclass(frozen=True, slots=True)
class Examples:
    """What is trained on, and what chooses the best state."""

    train: Rows  # in the order in which they are taken, for one epoch
    validation: Rows
    general: Rows  # against forgetting
    share_seen: float  # of the repository's training text, 1 when all of it is in `train`


def make_examples(
    split: Split,
    tokenizer: BytePairTokenizer,
    length: int,
    seed: int,
    *,
    max_rows: int | None = None,
    novelty: Mapping[str, float] | None = None,
    knows_markers: bool = True,
) -> Examples:
    """Rows of `length` + 1 ids. With `max_rows` the most novel files are taken until so many rows are made.

    A base that does not know the prompt's markers has no opinion behind them: its general code goes without.

    UserError when the repository gives no row.
    """
    files = list(split.train)
    if novelty is not None and max_rows is not None:
        files.sort(key=lambda file: -novelty.get(file.path, 0.0))
    own = _rows(files, tokenizer, length, seed)
    if not own:
        raise too_little(split)
    kept = own if max_rows is None else _first(own, max_rows, tokenizer)
    random.Random(seed).shuffle(kept)
    n_general = min(len(kept), MAX_GENERAL_ROWS)
    library = general_files(seed, n_general * length * 4)
    if knows_markers:
        general = _table(_rows(library, tokenizer, length, seed)[:n_general], length)
    else:
        general = left_to_right([(file.path, file.text) for file in library], tokenizer, length, False)[:n_general]
    validation = _rows(split.validation, tokenizer, length, seed)[:VALIDATION_ROWS]
    return Examples(
        train=_table(kept, length),
        validation=_table(validation, length),
        general=general,
        share_seen=len(kept) / len(own),
    )


def too_little(split: Split) -> UserError:
    """What is said where a part gives no row."""
    counts = [f"{len(part)} with {sum(len(file.text.encode()) for file in part):,} bytes" for part in split.parts]
    return UserError(
        f"too little to learn from: of the files {counts[0]} are left to learn from, {counts[1]} to choose the best "
        f"state and {counts[2]} to judge; each part needs at least {MIN_SAMPLE_TOKENS} tokens, some 200 bytes; "
        f"`--dry-run` lists what was left out"
    )


def left_to_right(
    texts: Sequence[tuple[str, str]], tokenizer: BytePairTokenizer, length: int, with_header: bool
) -> Rows:
    """All of the texts as rows of `length` + 1 ids, padded at the end: behind their path, or with no markers at all."""
    special = tokenizer.special
    assert special is not None  # what pads is one of them
    found = []
    for path, text in texts:
        header = [*file_header(path, tokenizer, special), special.fim_prefix][-(length // 2) :] if with_header else []
        ids, n_shown = tokenizer.encode(text), length + 1 - len(header)
        for start in range(0, len(ids), n_shown):
            row = [*header, *ids[start : start + n_shown]]
            found.append(row + [special.pad] * (length + 1 - len(row)))
    return _table(found, length)


def general_files(seed: int, n_bytes: int) -> list[SourceText | SourceFile]:
    """Files of the installed Python's own library, drawn by the seed, until they have `n_bytes`."""
    folder = Path(sysconfig.get_path("stdlib"))
    paths = sorted(path for path in folder.rglob("*.py") if not NOT_GENERAL & set(path.relative_to(folder).parts))
    random.Random(seed).shuffle(paths)
    found: list[SourceText | SourceFile] = []
    for path in paths:
        if n_bytes <= 0:
            break
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if 1_000 < len(content) < MAX_GENERAL_BYTES:
            found.append(SourceFile("general", path.relative_to(folder).as_posix(), content))
            n_bytes -= len(content)
    return found


def _first(rows: Sequence[list[int]], n_rows: int, tokenizer: BytePairTokenizer) -> list[list[int]]:
    """The first `n_rows`, among them as large a share of explanations, which stand at the end, as in all rows."""
    mark = None if tokenizer.special is None else tokenizer.special.doc
    explaining = [row for row in rows if mark in row]
    others = [row for row in rows if mark not in row]
    n_explaining = min(round(n_rows * len(explaining) / len(rows)), len(explaining))
    return [*others[: n_rows - n_explaining], *explaining[:n_explaining]]


def _rows(
    files: Sequence[SourceText | SourceFile], tokenizer: BytePairTokenizer, length: int, seed: int
) -> list[list[int]]:
    sources = [SourceFile("repository", file.path, file.text) for file in files]
    return list(RowBuilder(tokenizer, length, seed).rows(sources))


def _table(rows: Sequence[Sequence[int]], length: int) -> Rows:
    return np.array(rows, dtype=np.uint16).reshape(-1, length + 1)
