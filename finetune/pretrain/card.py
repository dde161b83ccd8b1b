"""The model card: what a base model was made of, how, how good it is, and what it cannot do.

Pure text out of the run's own records, so that no figure is typed by hand. Names no folder of the machine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.pretrain.card_figures import explanation_verdict, figures_section, trials_section
from finetune.pretrain.card_layout import bullet, folded, paragraph, table
from finetune.pretrain.choice import HELDOUT_SHARE
from finetune.pretrain.loss_curve import LOSS_FILE
from finetune.pretrain.manifest import Manifest, read_manifest
from finetune.pretrain.npm_archives import NAME_PREFIX
from finetune.pretrain.provenance import SHARES, check_corpus
from finetune.pretrain.run_folder import Progress, read_log, read_progress, read_recipe
from server.lm.checkpoint import read_config, tensor_shapes
from server.lm.prompt import PROMPT_VERSION

MANIFEST_PATH = "finetune/pretrain/corpus_manifest.json"
N_LOG_ROWS = 12


@dataclass(frozen=True, slots=True)
class Records:
    """What is known of a finished run."""

    recipe: Mapping[str, Any]  # as `run_folder.read_recipe` gives it
    progress: Progress
    log: Sequence[Mapping[str, float]]
    manifest: Manifest
    n_parameters: int

    @property
    def trained_tokens(self) -> int:
        """Tokens seen in all, those of the weights that the run started from included."""
        return self.progress.tokens + int((self.recipe.get("from") or {}).get("trained_tokens", 0))


def read_records(folder: Path, corpus: Path) -> Records:
    """The records of the run in `folder`, which was trained on `corpus`. Raises `UserError`, for another corpus too."""
    recipe, manifest = read_recipe(folder), read_manifest(corpus / "manifest.json")
    check_corpus(recipe, manifest.identity, corpus)
    shapes = tensor_shapes(read_config(folder))
    return Records(
        recipe=recipe,
        progress=read_progress(folder),
        log=read_log(folder),
        manifest=manifest,
        n_parameters=sum(math.prod(shape) for shape in shapes.values()),
    )


def model_card(records: Records, figures: Mapping[str, Any]) -> str:
    """MODEL_CARD.md of a run whose evaluation gave `figures`."""
    parts = (
        *_summary(records, figures),
        *_data(records.manifest),
        *_recipe(records),
        *_loss(records.log),
        *figures_section(figures),
        *_limits(records, figures),
        *trials_section(figures),
        *_licence(),
    )
    return "\n\n".join(parts) + "\n"


def _summary(records: Records, figures: Mapping[str, Any]) -> Iterable[str]:
    shape, bits = records.recipe["shape"], figures["bits_per_byte"]
    size = f"{shape['n_layer']} layers, width {shape['n_embd']}, {shape['n_head']} heads, tied embeddings"
    return (
        "# The base model of Loracle",
        paragraph(
            f"""A GPT-2 that completes {_languages(records.manifest)} and says in one sentence what a function does. It
            was trained from nothing, on permissively licensed packages only, and is meant to be adapted to a repository
            by LoRA (`python -m finetune REPO`). It loads with `GPT2LMHeadModel.from_pretrained`."""
        ),
        table(
            ("", ""),
            ("architecture", f"GPT-2, {size}"),
            ("parameters", f"{records.n_parameters / 1e6:.1f} million, stored as fp16"),
            ("context", f"{shape['n_positions']} tokens"),
            ("vocabulary", f"{shape['vocab_size']:,} entries, byte-level BPE"),
            ("prompt version", f"{PROMPT_VERSION}"),
            ("trained on", f"{records.trained_tokens / 1e6:.2f} million tokens"),
            ("bits per byte, unseen packages", f"{bits['model']:.3f} (xz {bits['xz']:.3f})"),
            ("weights, sha256", f"`{figures['weights_sha256']}`"),
        ),
    )


def _languages(manifest: Manifest) -> str:
    has_npm = any(package.name.startswith(NAME_PREFIX) for package in manifest.packages)
    return "Python, JavaScript and TypeScript" if has_npm else "Python"


def _data(manifest: Manifest) -> Iterable[str]:
    packages: Counter[str] = Counter()
    n_bytes: Counter[str] = Counter()
    for package in manifest.packages:
        packages[package.licence] += 1
        n_bytes[package.licence] += package.n_bytes
    totals = manifest.totals()
    n_npm = sum(package.name.startswith(NAME_PREFIX) for package in manifest.packages)
    parts = (("training", totals["train"]), ("held out", totals["heldout"]))
    dropped_packages = "; ".join(f"{reason} {len(names)}" for reason, names in manifest.dropped_packages.items())
    dropped_files = "; ".join(f"{reason} {count}" for reason, count in manifest.dropped_files.items())
    return (
        "## Data",
        paragraph(
            f"""The sources of {len(manifest.packages)} packages, {n_npm} of them from npm, the standard library of
            Python {manifest.python} among them. `{MANIFEST_PATH}` names each with version, archive, sha256 and licence,
            and `python -m finetune.pretrain corpus --from-manifest` builds the same corpus again. Its sha256 is
            `{manifest.identity}`."""
        ),
        table(
            ("part", "packages", "files", "MB"),
            *(
                (name, f"{total['packages']}", f"{total['files']:,}", f"{total['bytes'] / 1e6:.1f}")
                for name, total in parts
            ),
        ),
        paragraph(
            f"""Held out are whole packages, {100 * HELDOUT_SHARE:.0f} % of them, drawn by a hash of the package's
            name. Of two files that are alike, one in each part, the held-out one stays and training never sees it. The
            training rows draw on this corpus with a cap for each package."""
        ),
        paragraph(f"Packages left out: {dropped_packages or 'none'}."),
        paragraph(
            f"""Files left out: {dropped_files or "none"}. {manifest.n_secrets_cut} strings that looked
            like secrets were cut out."""
        ),
        folded(
            f"{len(packages)} licences",
            table(
                ("licence, as the package states it", "packages", "MB"),
                *((name, f"{count}", f"{n_bytes[name] / 1e6:.1f}") for name, count in packages.most_common()),
            ),
        ),
    )


def _recipe(records: Records) -> Iterable[str]:
    recipe, progress = records.recipe, records.progress
    rows, long_rows = recipe["rows"], recipe["long_rows"]
    n_passes = progress.tokens / max(rows["rows"] * rows["length"], 1)
    later = f", gone over {n_passes:.1f} times"
    if long_rows:
        share = 100 * recipe["long_share"]
        later = f", in the last {share:.0f} % of the run from {long_rows['rows']:,} rows of {long_rows['length']}"
    rate = progress.tokens / max(progress.seconds, 1e-9)
    shares_of_peak = [entry["flop_utilisation"] for entry in records.log if "flop_utilisation" in entry]
    used = f", {100 * sum(shares_of_peak) / len(shares_of_peak):.0f} % of the device's peak" if shares_of_peak else ""
    shares = {**SHARES, **(rows.get("shares") or {})}
    explained, infilling = shares["explanation"], shares["infilling"]
    in_line, of_block = shares["end_in_line"], shares["end_of_block"]
    return (
        "## Recipe",
        *_start(records),
        bullet(
            f"""{progress.seconds / 60:.1f} minutes, {progress.step:,} steps, {progress.tokens / 1e6:.2f} million
            tokens, {rate:,.0f} tokens/s{used}. Batches of {recipe["batch_tokens"]:,} tokens from {rows["rows"]:,} rows
            of {rows["length"]} tokens{later}. A row starts at position 0, as every prompt does."""
        ),
        bullet(
            f"""Samples: {100 * explained:.0f} % of the rows are explanations: a function, class, module or block
            without its docstring or comment, then the first sentence of it. Of the other samples
            {100 * infilling:.0f} % ({100 * (1 - explained) * infilling:.0f} % of all) are
            infilling, suffix before prefix; the rest runs left to right. {100 * shares["snippets"]:.0f} % get
            definitions of sibling files in front, where the text uses some. The path stands in front of every sample.
            The layout is that of the server (`server/lm/prompt.py`)."""
        ),
        bullet(
            f"""Where an infilling sample is split: inside a line {100 * in_line:.0f} %, at the end of a block
            {100 * of_block:.0f} %, at the end of any other line {100 * (1 - in_line - of_block):.0f} %."""
        ),
        bullet(
            """Vocabulary: merges cross blanks but never line breaks; a line break with its indentation is a piece of
            its own. It was learned from the training packages."""
        ),
        bullet(
            f"""Optimiser: Muon for the matrices of the blocks (peak rate {recipe["muon_rate"]:g}), AdamW for the rest
            (peak rate {recipe["adam_rate"]:g}), weight decay {recipe["weight_decay"]:g}, gradients clipped at norm 1,
            no dropout. The rate rises over {recipe["warmup_steps"]} steps, stays, and falls as 1 - sqrt over the last
            {100 * recipe["decay_share"]:.0f} % of the run. Seed {recipe["seed"]}."""
        ),
    )


def _start(records: Records) -> Iterable[str]:
    former = records.recipe.get("from")
    if not former:
        return
    yield bullet(
        f"""Started from former weights (sha256 `{former["weights_sha256"]}`) that had seen
        {former["trained_tokens"] / 1e6:.2f} million tokens, and went on for {records.progress.tokens / 1e6:.2f}
        million: {records.trained_tokens / 1e6:.2f} million in all. Only the later part is described here."""
    )


def _loss(log: Sequence[Mapping[str, float]]) -> Iterable[str]:
    places = sorted({round(place * (len(log) - 1) / (N_LOG_ROWS - 1)) for place in range(N_LOG_ROWS)} if log else ())
    rows = (
        (
            f"{log[place]['step']:,.0f}",
            f"{log[place]['tokens'] / 1e6:.2f}",
            f"{log[place]['seconds'] / 60:.1f}",
            f"{log[place]['loss']:.3f}",
        )
        for place in places
    )
    return (
        "Loss on the training rows, in nats a token, each a mean over some fifteen seconds:",
        f"![loss over tokens]({LOSS_FILE})",
        folded("the same in numbers", table(("step", "million tokens", "minutes", "loss"), *rows)),
    )


def _limits(records: Records, figures: Mapping[str, Any]) -> Iterable[str]:
    whole, ends = (100 * figures[kind]["exact_match"] for kind in ("next_line", "mid_line"))
    return (
        "## What it cannot do",
        bullet(
            f"""It has {records.n_parameters / 1e6:.0f} million parameters and has seen
            {records.trained_tokens / 1e6:.0f} million tokens. It knows idiom, layout and what is common; a call that it
            writes need not exist."""
        ),
        bullet(
            f"""As it stands it writes {whole:.1f} % of whole lines and {ends:.1f} % of the ends of lines right. The
            server therefore shows only what it is confident of, and adaptation to a repository is the point."""
        ),
        bullet(
            f"""Its sentences are guesses in the tone of a docstring: by chrF the model
            {explanation_verdict(figures["explanation"])}. The server marks them as generated and keeps the unsure
            ones back; they do not replace reading the code."""
        ),
        bullet(f"It learned from {_languages(records.manifest)} and English alone. Other languages are text to it."),
        bullet(
            """It may repeat what it learned from, mistakes and names of authors included, and is no judge of
            security."""
        ),
    )


def _licence() -> Iterable[str]:
    return (
        "## Licence",
        paragraph(
            f"""Apache-2.0, as the rest of the project. The packages that the model learned from are listed with their
            licences in `{MANIFEST_PATH}`: all are permissive, or offer a permissive one to choose."""
        ),
    )
