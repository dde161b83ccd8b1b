"""Once installed, the demo and the command line need no network: every address but loopback is out of reach here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "cases" / "demo" / "inventory.py"
REACH_OUT = "import socket; socket.create_connection(('192.0.2.1', 443), 3)"  # an address kept for documentation
LOOK_UP = "import socket; socket.getaddrinfo('example.org', 443)"
LOOPBACK = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname(), 3).close()
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def network_log(tmp_path: Path) -> Path:
    """Where the barrier writes what was tried."""
    log = tmp_path / "network.log"
    log.touch()
    return log


@pytest.fixture(params=["barrier in python", "network namespace"])
def run_offline(request: pytest.FixtureRequest, network_log: Path, tmp_path: Path) -> Run:
    """Runs Python with no network: `run_offline("-m", "server", ...)`."""
    prefix = []
    environment = {**os.environ, "PYTHONPATH": str(HERE / "no_network"), "LORACLE_TEST_NETWORK_LOG": str(network_log)}
    if request.param == "network namespace":
        prefix = namespace_command()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-P", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=240)

    return run


def namespace_command() -> list[str]:
    """The start of a command line that leaves a process nothing but loopback; skips where the kernel refuses it."""
    unshare = shutil.which("unshare")
    if not unshare:
        pytest.skip("no network namespace: there is no `unshare` on this system")
    command = [unshare, "--map-root-user", "--net", "--", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no network namespace: {tried.stderr.strip()}")
    return command


def test_nothing_of_others_is_left_in_the_home_folder(
    scripted_model: Path, user_directory: Path, tmp_path: Path
) -> None:
    """Libraries with telemetry keep a device id there; their sockets are native, so no barrier in Python sees them."""
    command = [sys.executable, "-P", "-m", "server", "complete", f"{EXAMPLE}:34:16", "--model", str(scripted_model)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    written = [path.relative_to(user_directory) for path in user_directory.rglob("*") if path.is_file()]
    assert {path.parts[:2] for path in written} == {(".cache", "loracle")}, written


def test_the_demo_works_offline(run_offline: Run, network_log: Path) -> None:
    done = run_offline(str(HERE / "demo.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "completion at line" in done.stdout
    assert "the model says:" in done.stdout
    assert network_log.read_text() == "", "nothing may even try to leave this machine"


def test_the_command_line_completes_offline(run_offline: Run, network_log: Path) -> None:
    done = run_offline("-m", "server", "complete", f"{EXAMPLE}:34:16", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(json.loads(done.stdout)) >= {"text", "range", "confidence", "milliseconds", "filters"}
    assert network_log.read_text() == ""


def test_an_unknown_model_name_is_not_looked_for_online(run_offline: Run, network_log: Path) -> None:
    done = run_offline("-m", "server", "complete", f"{EXAMPLE}:34:16", "--model", "nobody/has-this-model")
    assert done.returncode == 1
    assert "nobody/has-this-model" in done.stderr
    assert "Traceback" not in done.stderr
    assert network_log.read_text() == ""


@pytest.mark.parametrize("code", [REACH_OUT, LOOK_UP])
def test_the_barrier_holds(run_offline: Run, code: str) -> None:
    assert run_offline("-c", code).returncode != 0


@pytest.mark.parametrize("code", [REACH_OUT, LOOK_UP])
@pytest.mark.parametrize("run_offline", ["barrier in python"], indirect=True)
def test_the_barrier_writes_down_what_was_tried(run_offline: Run, network_log: Path, code: str) -> None:
    run_offline("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])")
    assert network_log.read_text().startswith("socket.")


@pytest.mark.parametrize("run_offline", ["barrier in python"], indirect=True)
def test_the_barrier_lets_loopback_through(run_offline: Run) -> None:
    done = run_offline("-c", LOOPBACK)
    assert done.returncode == 0, done.stderr
