"""The server's threads share few pools of free memory, where the C library has any."""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import pytest

from server import __main__, free_memory
from server.free_memory import limit_pools
from server.lsp import server


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_glibc_takes_it() -> None:
    assert limit_pools()


def test_another_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def mallopt(self, *arguments: int) -> int:
            pytest.fail("asked")

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Other())
    assert not limit_pools()
    monkeypatch.setattr(free_memory.sys, "platform", "darwin")
    assert not limit_pools()


def test_the_server_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr(free_memory, "limit_pools", lambda: done.append("pools"))
    monkeypatch.setattr(server, "serve", lambda options: done.append("served") or 0)
    assert __main__.main([]) == 0 and done == ["pools", "served"]
