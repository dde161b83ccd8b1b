"""The part of a model card that an evaluation fills: figures, and what the model wrote, word for word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from finetune.pretrain.card_layout import cell, folded, paragraph, table

MAX_SHOWN_CHARACTERS = 120
CURSOR = "¦"
SCORE_NAMES = {"chrf": "chrF", "bleu": "BLEU-4"}


def figures_section(figures: Mapping[str, Any]) -> Iterable[str]:
    """Bits per byte, lines and explanations, each beside what it has to beat."""
    bits = figures["bits_per_byte"]
    ngram = f"{bits['ngram_order']}-gram model of {bits['training_bytes'] / 1e6:.0f} MB of the training text"
    former = figures["former"]
    before = [("the same files by the model before", f"{former['bits_per_byte']:.3f}")] if former else []
    next_line, mid_line = figures["next_line"], figures["mid_line"]
    return (
        "## Figures",
        paragraph(
            f"""On held-out packages, drawn by hash and from all packages in turn. What is written is written greedily
            by the served model ({figures["precision"]}), and nothing is filtered; bits per byte are taken in fp32."""
        ),
        table(
            ("", ""),
            ("bits per byte", f"**{bits['model']:.3f}**"),
            *before,
            ("the same files in one stream of `xz -9e`", f"{bits['xz']:.3f}"),
            (f"the same tokens by a {ngram}", f"{bits['ngram']:.3f}"),
            ("next line, exact match", f"**{100 * next_line['exact_match']:.1f} %** of {next_line['lines']}"),
            ("end of a line, exact match", f"**{100 * mid_line['exact_match']:.1f} %** of {mid_line['lines']}"),
        ),
        paragraph(
            f"""Bits per byte: {bits["bytes"]:,} bytes in {bits["files"]} files of {bits["packages"]} packages, each
            file behind its path alone, in windows of 512 tokens that overlap by half. Next line: a line of code from
            behind its indentation, with the file before and after it. End of a line: another line from a place behind
            a full stop, an opening bracket, an equals sign or a blank."""
        ),
        *_kinds(bits),
        *_explanations(figures["explanation"]),
        "Again: `python -m finetune.pretrain evaluate --checkpoint RUN --corpus CORPUS`.",
    )


def trials_section(figures: Mapping[str, Any]) -> Iterable[str]:
    """The first completions and explanations of the figures, as they came."""
    next_lines, mid_lines = figures["next_lines_shown"], figures["mid_lines_shown"]
    sentences = figures["explanations_shown"]
    return (
        f"## {len(next_lines) + len(mid_lines)} completions and {len(sentences)} explanations, unselected",
        paragraph(
            f"""The first ones of the figures above, in the order that the hash drew them. `>>>` is what the model
            wrote behind the cursor `{CURSOR}`, `===` what stands in the file."""
        ),
        folded(f"{len(next_lines)} next lines", *map(_completion, next_lines)),
        folded(f"{len(mid_lines)} ends of lines", *map(_completion, mid_lines)),
        folded(
            f"{len(sentences)} explanations",
            table(
                ("function", "the model's sentence", "the docstring's"),
                *((f"`{trial['name']}`", cell(trial["written"]), cell(trial["expected"])) for trial in sentences),
            ),
        ),
    )


def explanation_verdict(explanation: Mapping[str, Any]) -> str:
    """Whether the sentences are better than the function's name alone, in words, by chrF and its interval."""
    over = explanation["chrf"]["over_name"]
    if over["low"] > 0:
        return "beats the function's name spelled out"
    if over["high"] < 0:
        return "does not reach the function's name spelled out"
    return "cannot be told from the function's name spelled out"


def _kinds(bits: Mapping[str, Any]) -> Iterable[str]:
    by_kind = bits["by_kind"]
    n_left_out = bits["files_without_kinds"]
    left_out = f" Left out: {n_left_out} files that Python cannot cut into tokens." if n_left_out else ""
    return (
        paragraph(
            f"""By kind of token; the bits of a token lie evenly on its bytes, and layout is line breaks, indentation
            and blanks between tokens.{left_out}"""
        ),
        table(
            ("kind", "share of bytes", "share of bits", "bits per byte"),
            *(
                (
                    kind,
                    f"{100 * of_kind['share_of_bytes']:.1f} %",
                    f"{100 * of_kind['share_of_bits']:.1f} %",
                    f"{of_kind['bits_per_byte']:.3f}",
                )
                for kind, of_kind in by_kind.items()
            ),
        ),
    )


def _explanations(explanation: Mapping[str, Any]) -> Iterable[str]:
    rows = []
    for who, words in (
        ("model", "**the model's sentence**"),
        ("name", "the function's name spelled out"),
        ("similar", "docstring of the most similar training function"),
    ):
        cells = []
        for score in SCORE_NAMES:
            over = explanation[score].get(f"over_{who}")
            above = f" ({_signed(over['mean'])}, {_signed(over['low'])} to {_signed(over['high'])})" if over else ""
            cells.append(f"{100 * explanation[score][who]:.1f}{above}")
        rows.append((words, *cells))
    return (
        paragraph(
            f"""Explanations of {explanation["functions"]} functions against the docstring's first sentence, 0 to 100;
            in brackets how far the model is above the floor, with the interval of 95 % (bootstrap over the functions).
            By chrF the model {explanation_verdict(explanation)}."""
        ),
        table(("", *SCORE_NAMES.values()), *rows),
        paragraph(
            f"""chrF: Popović 2015, n-grams up to 6, beta 2. BLEU-4: of each sentence, with one added to the counts
            above single words (Lin and Och 2004), averaged. Most similar: by BM25 over the names in the source, of
            {explanation["functions_searched"]:,} functions with a docstring in
            the training text of the n-gram model."""
        ),
    )


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"


def _completion(trial: Mapping[str, Any]) -> str:
    *above, typed = trial["above"].split("\n")
    shown = [f"    {line}" for line in above if line.strip()]
    shown += [f"{mark} {typed}{CURSOR}{trial[what]}" for mark, what in ((">>>", "written"), ("===", "expected"))]
    return f"`{trial['path']}`\n\n" + "\n".join(f"    {line}"[:MAX_SHOWN_CHARACTERS].rstrip() for line in shown)
