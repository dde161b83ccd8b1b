"""A server process in a repository that is started again when it dies or hangs, a few times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.bench.client import Client, NoAnswer, ServerFailure

MAX_STARTS = 4
# What reading an answer of another form than was asked for ends with.
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)

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
        """What `ask` gets from the server; a Failure when it dies, hangs, or answers an error or nonsense."""
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
        except _UNREADABLE as error:
            why = f"an answer that cannot be read: {type(error).__name__}: {error}"
            self.problems[why] += 1
            return Failure(why)

    def _ready(self) -> Client | Failure:
        """A client whose server serves a model. What else it lacks is a problem; it is asked nevertheless."""
        while self._client is None:
            if self._n_starts == MAX_STARTS:
                return Failure(f"not asked, as the server had to be started {MAX_STARTS} times already")
            self._n_starts += 1
            client = self._start()
            try:
                client.initialize(self._settings, self._root)
                client.wait_for_model()
                self.problems.update(self._lacking(client))
            except ServerFailure as error:
                self.problems[str(error)] += 1
                client.__exit__(None, None, None)
            else:
                self._client = client
        return self._client

    def _lacking(self, client: Client) -> Iterator[str]:
        """What the settings ask for and the server does without."""
        if self._settings.get("index", {}).get("enabled", True) and (problem := client.wait_for_index()):
            yield f"answers without a whole index: {problem}"
        wanted = self._settings.get("adapter", "auto")
        if wanted in ("auto", "off"):
            return
        serves = client.status().get("adapter") or {}
        if serves.get("problem") or serves.get("folder") is None:
            yield f"answers without the adapter {wanted}: {serves.get('problem') or 'it is not served'}"

    def _stop(self) -> None:
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None
