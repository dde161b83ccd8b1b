"""Engines in processes of their own: each with its own threads and libraries, asked in turn, and free to crash.

What an engine writes is timed where it runs, so that the way to it costs nothing.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Protocol

from tests.bench.table import BenchError

_ANSWER_S = 300.0  # loading, the conversion of the weights included, or one answer


class Writer(Protocol):
    """A model that continues a sequence of token ids, over a KV cache of its own."""

    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> list[int]:
        """The `n_new` best tokens, one after the other, behind `token_ids`.

        The first `n_cached` of these were fed before and need not be fed again; those behind them must be.
        """


@dataclass(frozen=True, slots=True)
class Written:
    """What came of one request, and how long it took."""

    tokens: tuple[int, ...]
    seconds: float


class EngineFailure(BenchError):
    """An engine cannot be loaded, died, or did not answer."""


class EngineProcess:
    """One engine in its process."""

    def __init__(self, name: str, make: Callable[[], Writer]) -> None:
        """`make` is called in the process, so it must be something that can be sent there."""
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def wait_until_loaded(self) -> None:
        """EngineFailure when it cannot be loaded."""
        self._answer()

    def write(self, token_ids: Sequence[int], n_cached: int, n_new: int) -> Written:
        """See `Writer.write`. EngineFailure when no answer comes."""
        try:
            self._connection.send((list(token_ids), n_cached, n_new))
        except OSError as error:
            raise EngineFailure(f"{self.name} ended: {error}") from error
        answer = self._answer()
        assert isinstance(answer, Written)
        return answer

    def _answer(self) -> Written | None:
        try:
            if not self._connection.poll(_ANSWER_S):
                raise EngineFailure(f"{self.name} did not answer within {_ANSWER_S:.0f} s")
            answer: Written | str | None = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(1)
            raise EngineFailure(f"{self.name} ended with status {self._process.exitcode}") from error
        if isinstance(answer, str):
            raise EngineFailure(f"{self.name}: {answer}")
        return answer


def _serve(connection: Connection, make: Callable[[], Writer]) -> None:
    """Answers until the other end is closed."""
    try:
        writer = make()
        connection.send(None)
        while True:
            token_ids, n_cached, n_new = connection.recv()
            began = time.perf_counter()
            tokens = writer.write(token_ids, n_cached, n_new)
            connection.send(Written(tuple(tokens), time.perf_counter() - began))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass
    except Exception as error:  # whatever a library raises is told to who measures, and ends this process
        connection.send(f"{type(error).__name__}: {error}")
