"""Training rows from source files: what the model practises, and in which shares.

Every layout comes from `server.lm.prompt`, so that training and serving cannot drift apart. A row holds one long
sample that starts at position 0, as every prompt does, or several short ones. All shares and rules stand here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetune.pretrain.passages import Explained, Library, explained_passages
from server.lm import prompt
from server.lm.context import significant_suffix
from server.lm.tokenizer import BytePairTokenizer, SpecialTokens

SHARE_EXPLANATION = 0.08  # of rows
SHARE_INFILLING = 0.5  # of the other samples; the rest is left to right
SHARE_SNIPPETS = 0.15  # of the samples that are no explanations, where a sibling file has something to show
# Where an infilling sample ends, that is, what stands right behind the text to be written.
SHARE_END_IN_LINE = 0.2  # inside a line, before an operator, a name or a bracket: the rest of the line is kept
SHARE_END_OF_BLOCK = 0.3  # before a line that is indented less; else at the end of any line
MIN_SAMPLE_TOKENS = 48  # a smaller rest of a row is left empty
MAX_EXPLANATION_SOURCE_TOKENS = 224


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the corpus."""

    package: str
    path: str
    text: str


class RowBuilder:
    """Turns the files of packages into rows of `length` + 1 token ids, padded at the end."""

    def __init__(self, tokenizer: BytePairTokenizer, length: int, seed: int) -> None:
        if tokenizer.special is None:
            raise ValueError("the tokenizer has no prompt markers")
        self._tokenizer = tokenizer
        self._special: SpecialTokens = tokenizer.special
        self._length = length
        self._random = random.Random(seed)
        self._is_break = [tokenizer.token_bytes(i).startswith(b"\n") for i in range(tokenizer.vocab_size)]

    def rows(self, package: Sequence[SourceFile]) -> Iterator[list[int]]:
        """Rows from the files of one package: completion rows, and explanation rows mixed in by their share."""
        library = Library.of(package)
        n_rows = 0
        for row in self._completion_rows(package, library):
            n_rows += 1
            yield row
        wanted = round(n_rows * SHARE_EXPLANATION / (1 - SHARE_EXPLANATION) + self._random.random() * 0.999 - 0.5)
        passages = [passage for file in package for passage in explained_passages(file.path, file.text)]
        self._random.shuffle(passages)
        for _, row in zip(range(wanted), self._explanation_rows(passages), strict=False):
            yield row

    def _completion_rows(self, package: Sequence[SourceFile], library: Library) -> Iterator[list[int]]:
        row: list[int] = []
        for file in package:
            token_ids = self._tokenizer.encode(file.text)
            start = 0
            while start < len(token_ids):
                room = self._length + 1 - len(row)
                if room < MIN_SAMPLE_TOKENS:
                    yield self._padded(row)
                    row, room = [], self._length + 1
                sample, start = self._sample(file, token_ids, start, room, library)
                row += sample
        if len(row) >= MIN_SAMPLE_TOKENS:
            yield self._padded(row)

    def _sample(
        self, file: SourceFile, token_ids: list[int], start: int, room: int, library: Library
    ) -> tuple[list[int], int]:
        """A sample of at most `room` ids from token `start` on, and the token at which the next one starts."""
        special = self._special
        before = prompt.file_header(file.path, self._tokenizer, special)
        if self._random.random() < SHARE_SNIPPETS and room >= self._length // 2:
            before = [*self._snippets(file, token_ids, start, room, library), *before]
        room -= len(before) + 2
        end = self._line_end(token_ids, start, start + room)
        n_left = len(token_ids) - start
        if self._random.random() < SHARE_INFILLING and n_left >= MIN_SAMPLE_TOKENS:
            suffix_budget = min(self._random.randint(8, prompt.SUFFIX_TOKENS), room // 3)
            limit = start + room - suffix_budget - 2
            if limit >= len(token_ids):  # a file that fits as a whole is split as well: small files have cursors too
                limit = start + self._random.randint(n_left // 3, n_left - 1)
            end, middle, suffix = self._split(token_ids, start, limit)
            suffix_ids = prompt.fit_suffix(significant_suffix(suffix), suffix_budget, self._tokenizer)
            if suffix_ids:
                before += [special.fim_suffix, *suffix_ids]
            return [*before, special.fim_prefix, *middle, special.end_of_text], end
        closing = [special.end_of_text] if end == len(token_ids) else []
        return [*before, special.fim_prefix, *token_ids[start:end], *closing], max(end, start + 1)

    def _split(self, token_ids: list[int], start: int, limit: int) -> tuple[int, list[int], str]:
        """Where an infilling sample ends: next start token, ids up to the split, text behind it.

        The split lies at a line end at or below `limit`: mostly the last one, else the end of a block or a place
        inside the line.
        """
        end = self._line_end(token_ids, start, limit)
        draw = self._random.random()
        text_after = self._tokenizer.decode(token_ids[end : end + 2 * prompt.SUFFIX_TOKENS])
        if draw < SHARE_END_IN_LINE:
            first = self._line_end(token_ids, start, end - 1) + 1
            line = self._tokenizer.decode(token_ids[first:end])
            places = [at for at in range(1, len(line)) if line[at - 1] in " .(,=[" or line[at] in " .(,)=]:"]
            if places and first > start:
                at = self._random.choice(places)
                head = self._tokenizer.encode(line[:at])
                if len(head) <= min(end - first + 4, limit + 1 - first):  # a cut word may need a few tokens more
                    return end, [*token_ids[start:first], *head], line[at:] + text_after
        elif draw < SHARE_END_IN_LINE + SHARE_END_OF_BLOCK:
            end = self._block_end(token_ids, start, end)
        while end - 1 > start and self._is_break[token_ids[end - 1]]:
            end -= 1  # at the end of a line with text: on a blank line the text is not to end, but to begin
        text_after = self._tokenizer.decode(token_ids[end : end + 2 * prompt.SUFFIX_TOKENS])
        return end, token_ids[start:end], text_after

    def _line_end(self, token_ids: list[int], start: int, limit: int) -> int:
        """The last line break after `start` and at or below `limit`; `limit` itself when there is none."""
        if limit >= len(token_ids):
            return len(token_ids)
        for at in range(limit, start, -1):
            if self._is_break[token_ids[at]]:
                return at
        return limit

    def _block_end(self, token_ids: list[int], start: int, limit: int) -> int:
        """A line end in the later half at which the indentation falls; `limit` when there is none."""
        ends = []
        previous: int | None = None
        for at in range((start + limit) // 2, limit):
            if self._is_break[token_ids[at]]:
                blank = at + 1 < len(token_ids) and self._is_break[token_ids[at + 1]]
                width = len(self._tokenizer.token_bytes(token_ids[at]))
                if previous is not None and not blank and width < previous:
                    ends.append(at)
                previous = previous if blank else width
        return self._random.choice(ends) if ends else limit

    def _snippets(self, file: SourceFile, token_ids: list[int], start: int, room: int, library: Library) -> list[int]:
        """Definitions of sibling files that the coming text really uses, at most a third of the room."""
        text = self._tokenizer.decode(token_ids[start : start + room])
        found = library.used_in(text, file.path)
        self._random.shuffle(found)
        ids: list[int] = []
        for snippet in found[: self._random.randint(1, 3)]:
            block = prompt.snippet_layout(snippet, prompt.SNIPPET_TOKENS // 2, self._tokenizer, self._special)
            if len(ids) + len(block) <= min(prompt.SNIPPET_TOKENS, room // 3):
                ids += block
        return ids

    def _explanation_rows(self, passages: Sequence[Explained]) -> Iterator[list[int]]:
        row: list[int] = []
        for passage in passages:
            sample = explanation_sample(passage, self._tokenizer, self._special)
            if len(sample) > self._length + 1:
                continue
            if len(row) + len(sample) > self._length + 1:
                yield self._padded(row)
                row = []
            row += sample
        if row:
            yield self._padded(row)

    def _padded(self, row: list[int]) -> list[int]:
        row = row[: self._length + 1]
        return row + [self._special.pad] * (self._length + 1 - len(row))


def explanation_sample(passage: Explained, tokenizer: BytePairTokenizer, special: SpecialTokens) -> list[int]:
    """The ids of one source with the sentence that explains it."""
    before = prompt.explanation_layout(passage.path, passage.source, MAX_EXPLANATION_SOURCE_TOKENS, tokenizer, special)
    return [*before, *tokenizer.encode(passage.sentence), special.end_of_text]
