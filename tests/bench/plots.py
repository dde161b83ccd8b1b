"""Plots as SVG text for `page`: bars with intervals, curves, and how values are distributed.

Drawn with matplotlib's objects, without its global state. The same values give the same text, which takes its ink from
the text colour of the page it stands on. Knows nothing of what was measured.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.page import Plot

# A colour that no series has; it stands for the ink until the drawing is text.
_INK = "#010203"
# Told apart by everybody (Okabe and Ito 2008), and seen on white and on black.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_WIDTH_IN = 8.2
_BAR_IN, _GAP_BARS = 0.2, 0.8  # height of a bar; room between two groups, in bars


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and the interval in which it lies."""

    value: float
    low: float | None = None
    high: float | None = None


def bars(groups: Sequence[str], series: Mapping[str, Sequence[Estimate | None]], *, axis: str, caption: str) -> Plot:
    """For each group one horizontal bar of each series, None leaving its place empty; whiskers where intervals are."""
    n_rows = len(groups) * (len(series) + _GAP_BARS)
    with _axes(n_rows * _BAR_IN + 0.8) as (figure, axes):
        step = len(series) + _GAP_BARS
        for at, (name, estimates) in enumerate(series.items()):
            drawn = [(number * step + at, each) for number, each in enumerate(estimates) if each is not None]
            places, values = [place for place, _ in drawn], [each.value for _, each in drawn]
            axes.barh(places, values, height=0.86, color=_COLOURS[at % len(_COLOURS)], label=name)
            for place, each in drawn:
                if each.low is not None and each.high is not None:
                    axes.plot([each.low, each.high], [place, place], color=_INK, linewidth=1.2)
        axes.set_yticks([number * step + (len(series) - 1) / 2 for number in range(len(groups))], groups)
        axes.set_ylim(len(groups) * step - 0.5 - _GAP_BARS / 2, -0.5 - _GAP_BARS / 2)  # the first group on top
        axes.set_xlabel(axis)
        axes.grid(axis="x")
        _legend(axes, len(series))
        return Plot(_as_svg(figure, caption), caption)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_axis: str,
    y_axis: str,
    caption: str,
    marks: Mapping[str, float] | None = None,
) -> Plot:
    """A line through the (x, y) points of each series; `marks` are named places on the x axis."""
    with _axes(3.4) as (figure, axes):
        for at, (name, points) in enumerate(series.items()):
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=_COLOURS[at % len(_COLOURS)],
                label=name,
                marker=".",
            )
        _mark(axes, marks or {})
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        axes.grid()
        _legend(axes, len(series))
        return Plot(_as_svg(figure, caption), caption)


def distribution(
    series: Mapping[str, Sequence[float]], *, x_axis: str, caption: str, marks: Mapping[str, float] | None = None
) -> Plot:
    """The share of each series' values that do not exceed x, in percent; `marks` are named places on the x axis."""
    with _axes(3.4) as (figure, axes):
        for at, (name, values) in enumerate(series.items()):
            ordered = sorted(values)
            shares = [100 * n / len(ordered) for n in range(len(ordered) + 1)] if ordered else []
            xs = [min(ordered[0], 0.0), *ordered] if ordered else []
            label = f"{name} ({len(ordered)})"
            axes.step(xs, shares, where="post", color=_COLOURS[at % len(_COLOURS)], label=label)
        _mark(axes, marks or {})
        axes.set_xlabel(x_axis)
        axes.set_ylabel("% of all")
        axes.set_ylim(0, 101)
        axes.set_xlim(left=0)
        axes.grid()
        _legend(axes, len(series))
        return Plot(_as_svg(figure, caption), caption)


@contextmanager
def _axes(height_in: float) -> Iterator[tuple[Any, Any]]:
    """An empty drawing, and matplotlib's settings for it while it is drawn."""
    import matplotlib
    from matplotlib.figure import Figure

    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    settings = dict.fromkeys(ink, _INK) | {
        "svg.fonttype": "none",  # text stays text: it can be searched, and stands in the page's font
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.alpha": 0.2,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        yield figure, figure.add_subplot()


def _legend(axes: Any, n_series: int) -> None:
    """Names above the plot, where they cover nothing; one series needs none."""
    if n_series > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(n_series, 4), borderaxespad=0)


def _mark(axes: Any, marks: Mapping[str, float]) -> None:
    for name, x in marks.items():
        axes.axvline(x, color=_INK, linestyle=":", linewidth=1)
        axes.annotate(name, (x, 0.02), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points")


def _as_svg(figure: Any, caption: str) -> str:
    """The drawing as an element of a page. The caption makes its ids differ from those of other plots there."""
    import matplotlib

    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": caption}):
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg ") :].strip().replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)[\")]", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda found: found.group() if found.group(1) in used else "", svg)
    svg = re.sub(r"font-family: [^;]*; ", "", svg)  # the page's own
    return svg.replace("<svg ", '<svg role="img" ', 1)
