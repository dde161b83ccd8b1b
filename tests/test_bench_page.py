"""The page of a measurement: complete in itself, the same for the same findings, and with all of them as Markdown."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tests.bench.page import Plot, Section, Table, markdown, markdown_table, page, table_of
from tests.bench.plots import Estimate, bars, curves, distribution
from tests.bench.table import Row

TABLE = Table(("engine", "ms"), [("a <b>", "1.0"), ("c | d", "20")], notes=("said of <it>",))


def some_plots() -> list[Plot]:
    return [
        bars(
            ["next", "API & more"],
            {"x": [Estimate(1, 0, 2), None], "y": [Estimate(3), Estimate(4)]},
            axis="%",
            caption="1",
        ),
        curves({"shown": [(0, 100), (1, 0)]}, x_axis="x", y_axis="y", caption="2", marks={"default": 0.3}),
        distribution({"model": [3.0, 1.0, 2.0], "nothing": []}, x_axis="ms", caption="3"),
    ]


def some_page() -> str:
    return page("A <title>", "2 cores", [Section("One", [TABLE, *some_plots()], "text & more")])


class Tags(HTMLParser):
    """Whether each tag is closed where it should be, and what is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        values = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.loaded += [values[name] or "" for name in ("src", "href", "xlink:href") if name in values]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_whole_and_loads_nothing() -> None:
    tags = Tags()
    tags.feed(some_page())
    assert tags.open == []
    assert all(link.startswith("#") for link in tags.loaded)
    assert len(tags.ids) == len(set(tags.ids))
    assert {link[1:] for link in tags.loaded} <= set(tags.ids)
    assert "<script" not in some_page() and "@import" not in some_page()


def test_text_is_escaped() -> None:
    html = some_page()
    assert (
        "A &lt;title&gt;" in html
        and "a &lt;b&gt;" in html
        and "text &amp; more" in html
        and "said of &lt;it&gt;" in html
    )


def test_the_same_findings_are_the_same_bytes() -> None:
    assert some_page() == some_page()


def test_plots_are_whole_and_take_the_colour_of_the_text() -> None:
    for plot in some_plots():
        root = ElementTree.fromstring(plot.svg)
        assert root.tag.endswith("svg")
        assert "currentColor" in plot.svg and "#010203" not in plot.svg and "#000000" not in plot.svg


def test_plots_name_what_they_show() -> None:
    bar, curve, ecdf = (re.sub(r"<[^>]+>", "", plot.svg) for plot in some_plots())
    assert "API &amp; more" in bar
    assert "default" in curve
    assert "model (3)" in ecdf and "nothing (0)" in ecdf


def test_a_bar_is_as_long_as_its_value() -> None:
    plot = bars(["g"], {"x": [Estimate(10)], "y": [Estimate(30)]}, axis="", caption="")
    # Only what lies in the plot is clipped, so that the legend's patches are not among these.
    paths = re.findall(r'<path d="([^"]+)" clip-path="[^"]+" style="fill: #', plot.svg)
    ends = [[float(x) for x in re.findall(r"[ML] ([\d.]+) ", path)] for path in paths]
    short, long = (max(xs) - min(xs) for xs in ends)
    assert long == pytest.approx(3 * short, rel=1e-3)


def test_markdown_has_every_cell_in_columns() -> None:
    assert markdown_table(TABLE) == ("| engine |  ms |\n| ------ | --: |\n| a <b>  | 1.0 |\n| c \\| d |  20 |\n")
    remarked = Table(("engine", "ms", "note"), [("a", "1", "x")], n_remarks=1)
    assert "| ------ | --: | ---- |" in markdown_table(remarked)
    text = markdown("Title", "2 cores", [Section("One", [TABLE, *some_plots()])])
    assert text.startswith("## Title\n\n2 cores\n\n### One\n\n| engine")
    assert text.endswith("said of <it>\n")


def test_a_row_that_breaks_its_bound_is_marked() -> None:
    kept, missed = table_of([Row("a", "b", 3, "ms", at_most=4), Row("a", "c", None, at_least=1)]).rows
    assert tuple(kept) == ("b", "3 ms", "≤ 4", "")
    assert tuple(missed) == ("c", "-", "≥ 1 ✗", "")
