"""The command of the measurements: one table, one file, and an exit status that tells when something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bench import __main__ as bench
from tests.bench import machine
from tests.bench.machine import Machine
from tests.bench.options import Options
from tests.bench.process import children_mb
from tests.bench.repositories import HELD_OUT, Package
from tests.bench.table import BenchError, Row


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine without a network."""
    monkeypatch.setattr(machine, "look", lambda: Machine("Linux", "a processor", 2, 3.0, 1.5))
    nothing: dict[Package, Path] = {}
    monkeypatch.setattr(bench, "fetch_all", lambda packages: (nothing, []))


def use(monkeypatch: pytest.MonkeyPatch, rows: list[Row]) -> list[Options]:
    """Makes every part find these rows; the options that the parts are given."""
    given: list[Options] = []

    def run(options: Options) -> list[Row]:
        given.append(options)
        return rows

    monkeypatch.setattr(bench, "import_module", lambda name: SimpleNamespace(run=run))
    return given


def test_all_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = use(monkeypatch, [Row("replay", "p50", 20.0, "ms", at_most=90, is_timing=True)])
    path = tmp_path / "results" / "result.json"
    assert bench.main(["replay", "--model", "folder", "--set", "minConfidence=0", "--json", str(path)]) == 0
    assert given == [Options(files=(), model="folder", completion={"minConfidence": 0})]
    printed = capsys.readouterr().out
    assert "\nmachine: 2 cores, a processor" in printed
    assert printed.count("times measured now are not valid") == 2
    result = json.loads(path.read_text())
    assert (result["is_calm"], result["rows"][0]["value"], result["problems"]) == (False, 20.0, [])
    written = path.with_suffix(".html").read_text(), path.with_suffix(".md").read_text()
    assert all("a processor" in text and "20 ms" in text and "not valid" in text for text in written)


def test_a_broken_bound_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    use(monkeypatch, [Row("cursors", "repeat", 1, "items", at_most=0)])
    assert bench.main(["cursors", "--quick"]) == 1
    assert "not kept: cursors, repeat ≤ 0 items" in capsys.readouterr().out


def test_all_parts_run_and_a_failed_one_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def module(name: str) -> SimpleNamespace:
        def run(options: Options) -> list[Row]:
            ran.append(name.rpartition(".")[2])
            if "replay" in name:
                raise BenchError("the server died")
            return []

        return SimpleNamespace(run=run)

    monkeypatch.setattr(bench, "import_module", module)
    monkeypatch.setenv("QUICK", "1")
    assert bench.main([]) == 1
    assert ran == list(bench.PARTS)
    assert "failed: replay: the server died" in capsys.readouterr().out


def test_a_part_with_a_mistake_of_ours_does_not_take_the_others_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def module(name: str) -> SimpleNamespace:
        def run(options: Options) -> list[Row]:
            if "replay" in name:
                raise ValueError("a range outside of the document")
            return [Row("index", "build", 1.0, "s")]

        return SimpleNamespace(run=run)

    monkeypatch.setattr(bench, "import_module", module)
    path = tmp_path / "result.json"
    assert bench.main(["index", "replay", "--json", str(path)]) == 1
    said = capsys.readouterr()
    assert "failed: replay: ValueError: a range outside of the document" in said.out
    assert "Traceback" in said.err
    assert json.loads(path.read_text())["rows"][0]["what"] == "build"


def test_the_time_of_each_part_and_of_all_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, [])
    path = tmp_path / "result.json"

    def told(*arguments: str) -> list[tuple[str, float | None]]:
        bench.main([*arguments, "--json", str(path)])
        return [(row["what"], row["at_most"]) for row in json.loads(path.read_text())["rows"] if row["part"] == "time"]

    bench_parts = ("process", "replay", "index", "engines")
    assert told(*bench_parts) == [
        *((part, None) for part in bench_parts),
        ("in all: process, replay, engines, index", 900),
    ]
    assert told("quality") == [("quality", None), ("in all: quality", 1_500)]
    assert told("quality", "--quick") == [("quality", None), ("in all: quality", 240)]
    assert told("quality", "--count", "7") == [("quality", None)]
    assert told("index", "--quick") == [("index", None)]


@pytest.mark.parametrize("seconds, is_missed", [(400.0, False), (700.0, True)])
def test_the_time_of_all_has_a_bound(seconds: float, is_missed: bool) -> None:
    rows = bench.time_rows({"engines": seconds, "replay": 300.0, "index": 0.0, "process": 0.0}, Options(files=()))
    assert (rows[-1].value, rows[-1].is_missed) == (seconds + 300, is_missed)
    assert not any(row.is_missed for row in rows[:-1])


def test_downloaded_models_are_found_beside_a_cache_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert machine.cache_variables(tmp_path / "own")["HF_HOME"] == str(tmp_path / "caches" / "huggingface")
    monkeypatch.setenv("HF_HOME", "/elsewhere")
    assert machine.cache_variables(tmp_path / "own")["HF_HOME"] == "/elsewhere"


def test_a_package_that_cannot_be_fetched_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, [])
    monkeypatch.setattr(bench, "fetch_all", lambda packages: ({}, [f"{HELD_OUT[0]}: not fetched: no network"]))
    assert bench.main(["healing"]) == 1
    assert "failed: tweepy 4.17.0: not fetched: no network" in capsys.readouterr().out


def test_without_held_out_files_every_part_says_so() -> None:
    for part in set(bench.PARTS) - {"engines", "index"}:  # which need none
        report, problems = bench.measured(part, bench.import_module(f"tests.bench.{part}").run, Options(files=()))
        assert report is None
        assert len(problems) == 1 and "fetched" in problems[0]


def test_a_name_without_a_section_is_a_setting_of_completion_unless_it_needs_none() -> None:
    given = [("minConfidence", 0), ("hover.generate", "never"), ("completion.multiline", "auto"), ("adapter", "off")]
    expected = {"completion": {"minConfidence": 0, "multiline": "auto"}, "hover": {"generate": "never"}}
    assert bench.sections(given) == {**expected, "adapter": "off"}


@pytest.mark.parametrize("text, expected", [
    ("minConfidence=0.5", ("minConfidence", 0.5)),
    ("multiline=never", ("multiline", "never")),
    ("enabled=true", ("enabled", True)),
])  # fmt: skip
def test_settings_are_read_as_json(text: str, expected: tuple[str, object]) -> None:
    assert bench.setting(text) == expected


def test_a_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    assert bench.model("checkpoint") == str(tmp_path.resolve() / "checkpoint")
    assert bench.model("default") == "default"


@pytest.mark.parametrize("arguments", [["other"], ["--set", "x"], ["--count", "many"]])
def test_wrong_usage_is_told(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(arguments)


def test_the_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(machine, "_LOOK_S", 0.01)
    seen = machine.look()
    assert seen.n_cores >= 1 and seen.cpu
    in_children = children_mb(os.getpid())  # another test's child may not have ended yet
    assert in_children is None or in_children >= 0.0
