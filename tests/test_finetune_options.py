"""The command line of an adaptation: what it takes, and one sentence for what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.__main__ import main
from finetune.options import DEFAULT_BUDGET_S, EXIT_USAGE, duration, read_options


@pytest.mark.parametrize(
    ("text", "seconds"), [("600", 600), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5m", 90), (" 2min ", 120)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


def test_the_defaults_are_those_of_the_help(tmp_path: Path) -> None:
    options = read_options([str(tmp_path)])
    assert (options.time_budget_s, options.seed, options.holdout, options.base) == (None, None, "hash", "default")
    assert DEFAULT_BUDGET_S == 600
    assert options.action == "train" and not options.dry_run and not options.resume


def test_what_is_given_is_kept(tmp_path: Path) -> None:
    given = ["--time-budget", "2m", "--include", "a*", "--include", "b*", "--seed", "7", "--rank", "8", "--list"]
    options = read_options([str(tmp_path), *given])
    assert (options.time_budget_s, options.include, options.seed, options.rank) == (120, ("a*", "b*"), 7, 8)
    assert options.action == "list"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--time-budget", "soon"], "no time such as"),
        (["--time-budget", "3d"], "a unit other than"),
        (["--time-budget", "1s"], "not between"),
        (["--rank", "0"], "from 1 to 256"),
        (["--learning-rate", "nan"], "a rate above 0"),
        (["--seed", "-1"], "not a whole number"),
        (["--seed", "x"], "not a whole number"),
        (["--list", "--rollback"], "two things"),
        (["--holdout", "oldest"], "invalid choice"),
        (["--resume", "--seed", "7"], "leave --seed out"),
        (["--resume", "--include", "a*"], "leave --include out"),
        (["--resume", "--holdout", "newest"], "leave --holdout out"),
        (["--report", "run.html"], "end it in .json"),
        (["--report", "."], "is a folder"),
        (["--export", "."], "is a folder"),
        (["--plan", "report.json", "--time-budget", "2m"], "leave --time-budget out"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path), *arguments])
    assert left.value.code == EXIT_USAGE
    assert said in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "missing")])
    assert f"no folder {tmp_path / 'missing'}" in capsys.readouterr().err


def test_an_empty_store_is_listed_and_has_nothing_to_go_back_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--list"]) == 0
    assert "no adapter of" in capsys.readouterr().out
    assert main([str(tmp_path), "--rollback"]) == 1
    assert "no earlier adapter" in capsys.readouterr().err
    assert main([str(tmp_path), "--export", str(tmp_path / "a.zip")]) == 1
    assert "train one first" in capsys.readouterr().err


def test_what_is_not_installed_is_named_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.__main__.find_spec", lambda name: None if name == "peft" else object())
    assert main([str(tmp_path)]) == 1
    assert "peft not installed; run `pip install 'loracle[finetune]'`" in capsys.readouterr().err


def test_a_run_that_goes_on_may_be_told_what_is_excluded_by_now(tmp_path):
    options = read_options([str(tmp_path), "--resume", "--exclude", "private/**"])
    assert options.resume and options.exclude == ("private/**",)
