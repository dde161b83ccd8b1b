"""The adapters of a repository, as lines for people. Needs none of the libraries for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.lm.adapter_store import StoredAdapter


def listed(adapters: Sequence[StoredAdapter]) -> list[str]:
    """The adapters of a repository, a line each, the newest first."""
    lines = []
    for each in adapters:
        mark = "*" if each.is_current else " "
        if each.manifest is None or each.problem:
            lines.append(f"{mark} {each.version}  damaged: {each.problem}")
            continue
        commit = f", commit {each.manifest.commit[:10]}" if each.manifest.commit else ""
        withdrawn = ", withdrawn: no rollback goes to it" if each.is_withdrawn else ""
        lines.append(
            f"{mark} {each.version}  made {each.manifest.created_at}{commit}{_bits(each.manifest.scores)}{withdrawn}"
        )
    return lines


def _bits(scores: Mapping[str, Any]) -> str:
    """Bits per byte of held-out files before and after; nothing where the manifest, wherever it is from, has none."""
    evaluation = scores.get("evaluation")
    values = [evaluation.get(f"bits_{when}") for when in ("before", "after")] if isinstance(evaluation, dict) else []
    if not values or not all(isinstance(value, int | float) for value in values):
        return ""
    return f", bits per byte {values[0]:.3f} -> {values[1]:.3f}"
