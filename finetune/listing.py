"""The adapters of a repository, as lines for people. Needs none of the libraries for training."""

from __future__ import annotations

from collections.abc import Sequence

from server.lm.adapter_store import StoredAdapter


def listed(adapters: Sequence[StoredAdapter]) -> list[str]:
    """The adapters of a repository, a line each, the newest first."""
    lines = []
    for each in adapters:
        mark = "*" if each.is_current else " "
        if each.manifest is None or each.problem:
            lines.append(f"{mark} {each.version}  damaged: {each.problem}")
            continue
        validation = each.manifest.scores.get("evaluation", {})
        bits = ""
        if "bits_before" in validation:
            bits = f", bits per byte {validation['bits_before']:.3f} -> {validation['bits_after']:.3f}"
        commit = f", commit {each.manifest.commit[:10]}" if each.manifest.commit else ""
        lines.append(f"{mark} {each.version}  made {each.manifest.created_at}{commit}{bits}")
    return lines
