"""How well a server serves: counts, latencies and memory, for `loracle.status`. Nothing of it leaves the machine."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

N_KEPT_LATENCIES = 500


@dataclass(slots=True)
class Figures:
    """What has happened since the server started."""

    n_requests: int = 0
    n_shown: int = 0  # suggestions, each counted once however often it was answered while being typed along
    n_accepted: int = 0
    n_superseded: int = 0  # by a newer request or an edit
    n_cancelled: int = 0  # by the editor
    n_typed_through: int = 0  # answered without the model
    n_model_answers: int = 0  # that came of what the model wrote, empty ones included
    n_prompt_tokens: int = 0  # of these answers
    n_cached_tokens: int = 0  # of the prompt tokens, found in the KV cache
    latencies_ms: deque[float] = field(
        default_factory=lambda: deque(maxlen=N_KEPT_LATENCIES)
    )  # request to the model's answer

    def percentile_ms(self, percent: float) -> float | None:
        """The latency that `percent` of the model's latest answers kept within; None before the first."""
        return percentile(self.latencies_ms, percent)


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The smallest of `values` that at least `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1] if ordered else None


def memory_mb() -> float | None:
    """Resident memory of this process in megabytes; on systems without /proc the highest so far, or None."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            kilobytes = next((int(line.split()[1]) for line in status if line.startswith("VmRSS:")), None)
        return None if kilobytes is None else kilobytes / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024
