"""The end of the server when the editor that started it is gone without a word."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

logger = logging.getLogger(__name__)

INTERVAL_S = 2.0


async def watch_process(process_id: int, interval_s: float = INTERVAL_S) -> None:
    """Ends this process once another one is gone. Over TCP and WebSocket nothing else would notice."""
    while is_alive(process_id):
        await asyncio.sleep(interval_s)
    logger.warning("the process %d that started the server is gone", process_id)
    logging.shutdown()
    os._exit(1)  # other threads may wait for input that never comes


def is_alive(process_id: int) -> bool:
    """Whether there is a process of that number."""
    if sys.platform == "win32":
        return _is_alive_on_windows(process_id)
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_alive_on_windows(process_id: int) -> bool:
    # os.kill would end the process there.
    import ctypes

    synchronize, still_running = 0x00100000, 0x00000102
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  # absent elsewhere
    handle = kernel.OpenProcess(synchronize, False, process_id)
    if not handle:
        return False
    try:
        return bool(kernel.WaitForSingleObject(handle, 0) == still_running)
    finally:
        kernel.CloseHandle(handle)
