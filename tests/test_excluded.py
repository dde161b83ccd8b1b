"""What the settings exclude is not learned, whichever file says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.__main__ import main
from finetune.excluded import excluded
from finetune.options import EXIT_ERROR, EXIT_PUBLISHED
from server.lm.errors import UserError
from server.settings_files import user_settings_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(6):
        for folder in ("shop", "private"):
            path = tmp_path / "repository" / folder / f"file_{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"def {folder}_{number}_{at}(first):\n    return first + {at * number}\n\n\n" for at in range(20)]
            path.write_text("".join(lines))
    return tmp_path / "repository"


def in_user_file(text: str) -> None:
    user_settings_file().parent.mkdir(parents=True, exist_ok=True)
    user_settings_file().write_text(text)


def test_the_files_of_user_and_repository_count_together(root: Path) -> None:
    assert excluded(root) == ()
    in_user_file('exclude = ["private/**"]\n')
    (root / "pyproject.toml").write_text('[tool.loracle]\nexclude = ["generated/**"]\nmodel = "./theirs"\n')
    assert excluded(root) == ("private/**", "generated/**")


def test_what_they_exclude_is_not_collected(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_user_file('exclude = ["private/**"]\n')
    assert main([str(root), "--dry-run"]) == EXIT_PUBLISHED
    said = capsys.readouterr().err
    assert "6 files with" in said and "left out: private/file_0.py: excluded" in said


@pytest.mark.parametrize("text", ["exclude = [", 'exclude = "private"\n', "exclude = [1]\n"])
def test_a_file_that_may_exclude_something_and_cannot_be_read_stops_the_run(
    root: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    in_user_file(text)
    with pytest.raises(UserError, match="must not be learned"):
        excluded(root)
    assert main([str(root), "--dry-run"]) == EXIT_ERROR
    assert "mend it" in capsys.readouterr().err
