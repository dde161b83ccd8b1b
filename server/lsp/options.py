"""What the command line decides about a server. Imports nothing, so that reading arguments stays fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Arguments of `python -m server`. None leaves the choice to the settings."""

    transport: Literal["stdio", "tcp", "ws"] = "stdio"
    host: str = "127.0.0.1"
    port: int = 2087
    model: str | None = None
    adapter: str | None = None
    engine: str | None = None
    threads: int | None = None
    log_file: Path | None = None
    log_level: str = "warning"
    check_parent_process: bool = False
    client_process_id: int | None = None  # the process to watch where `initialize` does not name one
