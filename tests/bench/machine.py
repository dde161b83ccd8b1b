"""The machine that was measured on, and whether it had anything else to do."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

# Half a core of somebody else's work already shows in the slower percentiles.
MAX_BUSY_CORES = 0.5
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What stands above a table of times."""

    system: str
    cpu: str
    n_cores: int  # that this process may use
    load_average: float | None  # of the last minute
    busy_cores: float | None  # in use while nothing of ours ran

    @property
    def is_calm(self) -> bool:
        """Whether times measured now mean anything."""
        busy = self.busy_cores if self.busy_cores is not None else self.load_average
        return busy is None or busy <= MAX_BUSY_CORES

    def __str__(self) -> str:
        load = "unknown" if self.load_average is None else f"{self.load_average:.2f}"
        busy = "" if self.busy_cores is None else f", {self.busy_cores:.1f} cores in use by others"
        return f"{self.n_cores} cores, {self.cpu}, {self.system}, load average {load}{busy}"

    @property
    def warning(self) -> str | None:
        """What to say when it is not calm."""
        return (
            None if self.is_calm else "The machine is busy: times measured now are not valid. Run this on an idle one."
        )


def look() -> Machine:
    """The machine as it is now; takes a second, in which nothing else of ours should run."""
    before = _busy_seconds()
    time.sleep(_LOOK_S)
    after = _busy_seconds()
    return Machine(
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cpu=_cpu_name(),
        n_cores=n_cores(),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        busy_cores=None if before is None or after is None else max(after - before, 0.0) / _LOOK_S,
    )


def n_cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cache_variables(folder: Path) -> dict[str, str]:
    """The environment of a process whose user cache folder lies in `folder`, which need not exist.

    Models that were downloaded from the hub are found where they are.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = {"HF_HOME": os.environ.get("HF_HOME") or str(Path(caches).expanduser() / "huggingface")}
    if platform.system() == "Linux":
        return {"XDG_CACHE_HOME": str(folder), **hub}
    return {"HOME": str(folder), "LOCALAPPDATA": str(folder), **hub}


def _busy_seconds() -> float | None:
    """Processor time spent on work since the machine started, over all cores; None where /proc does not tell."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
    except OSError:
        return platform.processor() or "unknown processor"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")
