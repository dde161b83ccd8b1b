"""A busy neighbour: a process that keeps one core at work, as a type checker or a browser does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Ends by itself when whoever measures is gone.
_SPIN = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Keeps one core busy, at the priority of this process, until left."""
    with subprocess.Popen([sys.executable, "-P", "-c", _SPIN], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()  # it spins from here on
        try:
            yield
        finally:
            process.kill()
