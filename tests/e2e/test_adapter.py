"""A running server takes a published adapter up, says so, and lets no request fall."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from e2e.wire import Process

from server.lm.adapter_manifest import write_manifest
from server.lm.adapter_store import AdapterStore
from tests.adapters import random_adapter

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LIMIT_S = 5.0  # from the publication to the adapter that serves


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def publish(work: Path, checkpoint: Path, tmp_path: Path, seed: int, *, other_base: bool = False) -> None:
    candidate = tmp_path / f"candidate-{seed}"
    manifest = random_adapter(candidate, checkpoint, seed)
    if other_base:
        manifest = replace(manifest, base=replace(manifest.base, fingerprint="0" * 64))
    write_manifest(candidate, manifest)
    AdapterStore(work).publish(candidate, manifest)


def asked_until(server: Process, uri: str, is_so: Callable[[dict], bool]) -> float:
    """Asks for completions all the time until the status is so; how many seconds that took. Each gets its answer."""
    began, version = time.monotonic(), 1
    while not is_so(server.execute("loracle.status")):
        assert time.monotonic() - began < 60
        version += 1
        server.change(uri, version, "x", 0, 0)
        assert isinstance(server.complete(uri, 0, 1), list)
    return time.monotonic() - began


def said(server: Process, kind: int) -> list[str]:
    """The messages of a kind that have come in so far: 2 warnings, 3 informations."""
    messages = [each["params"] for each in server.seen if each.get("method") == "window/showMessage"]
    return [each["message"] for each in messages if each["type"] == kind]


def test_a_published_adapter_serves_within_seconds_and_goes_with_a_rollback(
    start: Callable[..., Process], scripted_model: Path, work: Path, tmp_path: Path
) -> None:
    server = start("--threads", "1")
    server.initialize(rootUri=work.as_uri())
    server.wait_for_model()
    assert server.execute("loracle.status")["adapter"] is None
    uri = server.open("\n")
    publish(work, scripted_model, tmp_path, 1)
    taken = asked_until(server, uri, lambda status: bool(status["adapter"]))
    assert taken < LIMIT_S
    first = server.execute("loracle.status")["adapter"]
    assert first["folder"] == str(AdapterStore(work).current()) and first["repository"] == "shop"
    assert first["version"] == AdapterStore(work).versions()[0].version and first["age"]["runAdvised"] is False
    publish(work, scripted_model, tmp_path, 2)
    assert server.execute("loracle.reloadAdapter")["folder"] != first["folder"]
    AdapterStore(work).rollback()
    asked_until(server, uri, lambda status: bool(status["adapter"]["folder"] == first["folder"]))
    assert said(server, 2) == []
    assert said(server, 3) == ["Loracle: the adapter of this workspace serves"] * 3


def test_an_adapter_for_another_base_is_refused_once_and_the_base_serves_on(
    start: Callable[..., Process], scripted_model: Path, work: Path, tmp_path: Path
) -> None:
    server = start("--threads", "1")
    server.initialize(rootUri=work.as_uri(), initializationOptions={"index.enabled": False})
    server.wait_for_model()
    publish(work, scripted_model, tmp_path, 1, other_base=True)
    server.execute("loracle.reloadAdapter")
    (warning,) = said(server, 2)
    assert (
        "fingerprint = 000000000000, this model has" in warning and "train it again with `loracle-finetune`" in warning
    )
    uri = server.open("def add(first, second):\n    return ")
    assert server.complete(uri, 1, 11)[0]["insertText"] == "first + second"
    server.execute("loracle.reloadAdapter")
    assert len(said(server, 2)) == 1


def test_what_a_repository_brings_waits_for_trust(
    start: Callable[..., Process], scripted_model: Path, work: Path
) -> None:
    brought = work / ".loracle" / "adapter"
    write_manifest(brought, random_adapter(brought, scripted_model))
    server = start("--threads", "1")
    server.initialize(rootUri=work.as_uri())
    server.wait_for_model()
    assert server.execute("loracle.status")["adapter"] is None
    assert "not trusted; `loracle.trust` allows it" in said(server, 2)[0]
    assert server.execute("loracle.trust") == [str(work)]
    assert server.execute("loracle.status")["adapter"]["folder"] == str(brought)
