"""A server process in a repository that is started again when it dies or hangs, a few times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.bench.client import Client, NoAnswer, ServerFailure

MAX_STARTS = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """The server gave no answer."""

    why: str


class Serving:
    """The server of one repository. What went wrong is counted in `problems`."""

    def __init__(self, start: Callable[[], Client], settings: Mapping[str, Any], root: Path) -> None:
        self.problems: Counter[str] = Counter()
        self._start = start
        self._settings = settings
        self._root = root
        self._client: Client | None = None
        self._n_starts = 0

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def do(self, ask: Callable[[Client], T]) -> T | Failure:
        """What `ask` gets from the server; a Failure when the server dies, hangs or answers an error."""
        client = self._ready()
        if isinstance(client, Failure):
            self.problems[client.why] += 1
            return client
        try:
            return ask(client)
        except ServerFailure as error:
            self.problems[str(error)] += 1
            if client.is_dead or isinstance(error, NoAnswer):
                self._stop()
            return Failure(str(error))

    def _ready(self) -> Client | Failure:
        """A client whose server serves a model."""
        while self._client is None:
            if self._n_starts == MAX_STARTS:
                return Failure(f"not asked, as the server had to be started {MAX_STARTS} times already")
            self._n_starts += 1
            client = self._start()
            try:
                client.initialize(self._settings, self._root)
                client.wait_for_model()
                if self._settings.get("index", {}).get("enabled", True):
                    client.wait_for_index()
            except ServerFailure as error:
                self.problems[str(error)] += 1
                client.__exit__(None, None, None)
            else:
                self._client = client
        return self._client

    def _stop(self) -> None:
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None
