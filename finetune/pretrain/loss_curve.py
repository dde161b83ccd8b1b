"""The loss of a run as a picture, the same bytes for the same log."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from server.lm.errors import UserError

LOSS_FILE = "loss.svg"
MAX_POINTS = 400


def write_loss_curve(folder: Path, log: Sequence[Mapping[str, float]]) -> None:
    """Puts the picture of a run's log into its folder. Raises UserError."""
    path = folder / LOSS_FILE
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(loss_svg(log))
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); free some space or name another folder") from error


def loss_svg(log: Sequence[Mapping[str, float]]) -> bytes:
    """An SVG of the loss in nats a token over the tokens seen, in millions.

    Drawn with matplotlib's objects, since its pyplot keeps figures for the whole process.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shown = [log[round(place)] for place in _places(len(log))]
    # Ids are drawn from the salt, letters stay letters, and no date is written.
    with matplotlib.rc_context({"svg.hashsalt": "loss", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.plot([entry["tokens"] / 1e6 for entry in shown], [entry["loss"] for entry in shown], linewidth=1.2)
        axes.set_xlabel("million tokens")
        axes.set_ylabel("loss, nats a token")
        axes.grid(visible=True, alpha=0.3)
        picture = io.BytesIO()
        figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return picture.getvalue()


def _places(n_entries: int) -> list[float]:
    """At most `MAX_POINTS` places, evenly from all, the first and the last among them."""
    n_shown = min(n_entries, MAX_POINTS)
    return [place * (n_entries - 1) / max(n_shown - 1, 1) for place in range(n_shown)]
