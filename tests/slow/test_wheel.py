"""The wheel in a fresh environment works in a folder that has a `server/` and a `finetune/` of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import live_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
WRONG_PACKAGE = "raise SystemExit('the package of the folder was run instead of the installed one')\n"


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # The backend is called directly: pip would fetch it anew.
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("loracle-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a new environment with the wheel; a .pth file lends it the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    installed = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "dependencies.pth").write_text("\n".join(installed) + "\n")
    return scripts


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose own packages have our names."""
    folder: Path = tmp_path_factory.mktemp("project")
    for package in ("server", "finetune"):
        (folder / package).mkdir()
        for module in ("__init__.py", "__main__.py"):
            (folder / package / module).write_text(WRONG_PACKAGE)
    return folder


@pytest.fixture(scope="module")
def examined(environment: Path, project: Path, homes: Iterator[Path]) -> subprocess.CompletedProcess[str]:
    """What the doctor says there."""
    with pytest.MonkeyPatch.context() as patch:
        live_in(next(homes), patch)
        return run(environment / "loracle", "doctor", "--json", cwd=project)


def test_the_wheel_holds_the_packages_and_the_model_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"server", "finetune"}
    assert {f"server/base_model/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")} <= set(
        names
    )
    assert not [name for name in names if "__pycache__" in name]


def test_doctor_is_content(examined: subprocess.CompletedProcess[str]) -> None:
    assert examined.returncode == 0, examined.stdout + examined.stderr


def test_the_installed_package_is_the_one_that_runs(
    examined: subprocess.CompletedProcess[str], environment: Path
) -> None:
    report = json.loads(examined.stdout)
    assert Path(report["package"]).is_relative_to(environment.parent.resolve())


def test_python_minus_p_finds_the_installed_package_too(environment: Path, project: Path) -> None:
    # Child processes are started like this.
    done = run(environment / "python", "-P", "-m", "server", "--version", cwd=project)
    assert done.stdout.startswith("loracle "), done.stderr
    assert run(environment / "python", "-m", "server", "--version", cwd=project).returncode != 0
