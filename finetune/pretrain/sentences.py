"""What sentences on code are worth beside answers that need no model: the name, or another function's docstring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from finetune.pretrain.bleu import bleu
from finetune.pretrain.chrf import chrf
from finetune.pretrain.paired import difference
from finetune.pretrain.similar import PART_OF_NAME
from finetune.pretrain.trials import SentenceTrial

SCORES = {"chrf": chrf, "bleu": bleu}


def spelled_out(name: str) -> str:
    """The words of a name as a sentence: `read_csvFile` gives "Read csv file."."""
    words = " ".join(PART_OF_NAME.findall(name)).lower()
    return f"{words[:1].upper()}{words[1:]}."


def sentence_figures(trials: Sequence[SentenceTrial], similar: Sequence[str]) -> dict[str, Any]:
    """Mean chrF and BLEU-4 (0..1) of the model and of both floors, and by how much the model is above each floor.

    `similar` holds the docstring's sentence of the most similar function for each trial.
    """
    wanted = [trial.expected for trial in trials]
    answers = {
        "model": [trial.written for trial in trials],
        "name": [spelled_out(trial.name) for trial in trials],
        "similar": list(similar),
    }
    figures: dict[str, Any] = {"functions": len(trials)}
    for score, compute in SCORES.items():
        values = {
            who: [compute(answer, reference) for answer, reference in zip(given, wanted, strict=True)]
            for who, given in answers.items()
        }
        figures[score] = {
            **{who: sum(each) / max(len(each), 1) for who, each in values.items()},
            "over_name": asdict(difference(values["model"], values["name"])),
            "over_similar": asdict(difference(values["model"], values["similar"])),
        }
    return figures
