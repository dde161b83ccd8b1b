"""Prompts for the language model: which token ids it sees, for serving and for training alike.

Completion, suffix before prefix, and the prefix running straight into what is to be written, so that typing extends
the prompt at its end and the KV cache survives:

    [<|snippet|> path \\n text]*  <|file|> path \\n  [<|fim_suffix|> suffix]  <|fim_prefix|> prefix ... <|endoftext|>

Explanation:  <|file|> path \\n  <|fim_prefix|> source  <|doc|> sentence <|endoftext|>

Knows the layout and the token budgets. Knows nothing of editors, files on disk or torch.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from server.lm.context import EDGE_STEP, Context, Snippet, unix_lines
from server.lm.errors import UserError
from server.lm.healing import TokenIndex, heal
from server.lm.tokenizer import SpecialTokens, Tokenizer

PROMPT_VERSION = 1
N_PATH_COMPONENTS = 3
SUFFIX_TOKENS = 128
SNIPPET_TOKENS = 256
EXPLAINED_TOKENS = 384
PATH_TOKENS = 40
PREFIX_TOKENS = 640  # a longer window costs more at each move of its edge than it gained; see ARCHITECTURE.md
LINE_TOKENS = 32  # of the prefix budget are kept for the line that is being typed
MIN_PREFIX_TOKENS = 16
CHARACTERS_PER_TOKEN = 8  # more than this a token never covers on average, so longer text need not be looked at


class PromptError(UserError):
    """The model cannot be given the prompt that was asked for."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is fed, and the text before the cursor that is matched instead of fed (token healing)."""

    token_ids: tuple[int, ...]  # at least one
    pending: bytes


def completion_prompt(
    context: Context, tokenizer: Tokenizer, index: TokenIndex, n_positions: int, max_new_tokens: int
) -> Prompt:
    """The infilling prompt of `context`; prefix-only for a vocabulary without our markers.

    Leaves room for `max_new_tokens`, but no more than half of `n_positions`; `PromptError` for a model that is too
    small. The left edge of the prefix moves in big steps.
    """
    special = tokenizer.special
    if special is None:
        return _plain_prompt(context, tokenizer, index, n_positions, max_new_tokens)
    room = _room(n_positions, max_new_tokens, PATH_TOKENS + 2)
    n_suffix = min(SUFFIX_TOKENS, room // 3)
    n_snippets = min(SNIPPET_TOKENS, room // 3) if context.snippets else 0
    before = _snippets(context.snippets, n_snippets, tokenizer, special)
    before += file_header(context.path, tokenizer, special)
    suffix_ids = fit_suffix(context.suffix, n_suffix, tokenizer)
    if suffix_ids:
        before += [special.fim_suffix, *suffix_ids]
    before.append(special.fim_prefix)
    prefix_ids = fit_prefix(context.prefix, min(PREFIX_TOKENS, room - n_suffix - n_snippets), tokenizer)
    kept, pending = heal(prefix_ids, index, tokenizer)
    return Prompt((*before, *kept), pending)


def explanation_prompt(path: str, source: str, tokenizer: Tokenizer, n_positions: int, max_new_tokens: int) -> Prompt:
    """The prompt whose continuation is one sentence on `source`, which should hold no docstring of its own."""
    special = tokenizer.special
    if special is None:
        raise PromptError("this model has no <|doc|> token, so it cannot explain; use a model made by loracle")
    budget = min(EXPLAINED_TOKENS, _room(n_positions, max_new_tokens, PATH_TOKENS + 2))
    return Prompt(tuple(explanation_layout(path, source, budget, tokenizer, special)), b"")


def explanation_layout(
    path: str, source: str, budget_tokens: int, tokenizer: Tokenizer, special: SpecialTokens
) -> list[int]:
    """Ids up to and with <|doc|>: the head of the dedented source that fits the budget, cut at a line end."""
    text = textwrap.dedent(unix_lines(source[: CHARACTERS_PER_TOKEN * budget_tokens])).strip("\n")
    source_ids = _head_at_line_end(tokenizer.encode(text), budget_tokens, tokenizer)
    return [*file_header(path, tokenizer, special), special.fim_prefix, *source_ids, special.doc]


def file_header(path: str, tokenizer: Tokenizer, special: SpecialTokens) -> list[int]:
    """`<|file|> path \\n`, the path cut to its last three components."""
    return [special.file, *_path_ids(path, tokenizer)]


def snippet_layout(snippet: Snippet, budget_tokens: int, tokenizer: Tokenizer, special: SpecialTokens) -> list[int]:
    """`<|snippet|> path \\n text`, the text cut at a line end to fit the budget."""
    text = unix_lines(snippet.text[: CHARACTERS_PER_TOKEN * budget_tokens]).strip("\n") + "\n"
    ids = _head_at_line_end(tokenizer.encode(text), budget_tokens, tokenizer)
    return [special.snippet, *_path_ids(snippet.path, tokenizer), *ids]


def _room(n_positions: int, max_new_tokens: int, n_frame: int) -> int:
    """Positions for text, beside `n_frame` others and what is to be written, which gets half of all at most."""
    room = n_positions - min(max_new_tokens, n_positions // 2) - n_frame
    if room < MIN_PREFIX_TOKENS:
        raise PromptError(
            f"a model with {n_positions} positions is too small: the frame of a prompt takes {n_frame} of them; "
            f"use a model with at least {2 * (n_frame + MIN_PREFIX_TOKENS)}"
        )
    return room


def _snippets(
    snippets: Sequence[Snippet], budget_tokens: int, tokenizer: Tokenizer, special: SpecialTokens
) -> list[int]:
    """As many snippets as fit the budget, in their order, none longer than half of `SNIPPET_TOKENS`."""
    ids: list[int] = []
    for snippet in snippets:
        block = snippet_layout(snippet, SNIPPET_TOKENS // 2, tokenizer, special)
        if len(ids) + len(block) > budget_tokens:
            break
        ids += block
    return ids


def fit_prefix(prefix: str, budget_tokens: int, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a long tail of `prefix` that fits the budget and starts at a line start.

    The tail starts at the first line after a multiple of `EDGE_STEP` characters: positions are absolute, so each move
    of the edge costs a full prefill, and the edge must not move at every key. A line that is too long is cut inside.
    """
    step = min(EDGE_STEP, CHARACTERS_PER_TOKEN * budget_tokens // 2)
    first = max(len(prefix) - CHARACTERS_PER_TOKEN * budget_tokens, 0)
    line_start = prefix.rfind("\n") + 1
    n_reserved = min(LINE_TOKENS, budget_tokens // 4)
    ids: list[int] = []
    for edge in range(-(-first // step) * step, len(prefix) + 1, step):
        start = _line_start_after(prefix, edge)
        if start == len(prefix) and ids:
            break
        ids = tokenizer.encode(prefix[start:])
        # A word's tokens come and go while it is typed. Counted with a reserve, a line in the making moves no edge.
        n_above = len(tokenizer.encode(prefix[start:line_start]))
        if max(len(ids), n_above + n_reserved) <= budget_tokens:
            return ids
    half = max(budget_tokens // 2, 1)
    n_dropped = -(-max(len(ids) - budget_tokens, 0) // half) * half
    return ids[n_dropped:]


def _line_start_after(text: str, offset: int) -> int:
    """The first line start at or after `offset`; `offset` itself when its line does not end within a step."""
    if offset == 0 or text[offset - 1] == "\n":
        return offset
    end = text.find("\n", offset, offset + EDGE_STEP)
    return offset if end < 0 else end + 1


def fit_suffix(suffix: str, budget_tokens: int, tokenizer: Tokenizer) -> list[int]:
    """Token ids of the head of `suffix` that fits the budget, cut at a line end where there is one."""
    return _head_at_line_end(tokenizer.encode(suffix[: CHARACTERS_PER_TOKEN * budget_tokens]), budget_tokens, tokenizer)


def _head_at_line_end(token_ids: list[int], budget_tokens: int, tokenizer: Tokenizer) -> list[int]:
    if len(token_ids) <= budget_tokens:
        return token_ids
    for end in range(budget_tokens, 0, -1):
        if tokenizer.token_bytes(token_ids[end]).startswith(b"\n"):
            return token_ids[:end]
    return token_ids[:budget_tokens]


def shown_path(path: str) -> str:
    """The last three components of `path`, separated by "/"."""
    return "/".join([part for part in path.replace("\\", "/").split("/") if part][-N_PATH_COMPONENTS:])


def _path_ids(path: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of the shown path and a line break, never more than `PATH_TOKENS`; long paths lose their start."""
    shown = shown_path(path).replace("\n", " ")
    return [*tokenizer.encode(shown)[-(PATH_TOKENS - 2) :], *tokenizer.encode("\n")]


def _plain_prompt(
    context: Context, tokenizer: Tokenizer, index: TokenIndex, n_positions: int, max_new_tokens: int
) -> Prompt:
    """Prefix only, behind the end-of-text token that starts a text for GPT-2."""
    start = tokenizer.end_of_text
    budget = min(PREFIX_TOKENS, _room(n_positions, max_new_tokens, 1))
    prefix_ids = fit_prefix(context.prefix, budget, tokenizer)
    kept, pending = heal(prefix_ids, index, tokenizer)
    if start is not None:
        kept.insert(0, start)
    elif not kept:
        kept, pending = prefix_ids, b""  # nothing else to begin with
    if not kept:
        raise PromptError("the text before the cursor is empty and this model has no token that starts a text")
    return Prompt(tuple(kept), pending)
