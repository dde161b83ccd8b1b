"""A trained adapter that is to be judged, with all that it came of."""

from __future__ import annotations

from dataclasses import dataclass

from finetune.collect import Collection
from finetune.kept_run import KeptRun
from finetune.split import Split
from finetune.training import Trained
from server.lm.adapter_manifest import Manifest


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one run has made. Its adapter lies in `trained.adapter`, and is in force nowhere."""

    run: KeptRun
    collection: Collection
    parts: Split
    trained: Trained
    manifest: Manifest
