"""Less memory that is free and kept: glibc has a pool of it for each thread, and two are enough for this server's.

Its threads take turns at the interpreter, so that they hardly ever wait for each other's pool: 5 MB less at the peak
(part `process` of the bench). Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import sys

N_POOLS = 2
_M_ARENA_MAX = -8  # the name and number in glibc's malloc.h


def limit_pools(n_pools: int = N_POOLS) -> bool:
    """Has all further threads share so many pools; whether the C library took it. Never raises."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # another library may give the number another meaning
        return bool(libc.mallopt(_M_ARENA_MAX, n_pools))
    except (OSError, AttributeError):
        return False
