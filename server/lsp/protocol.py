"""pygls with its traps mended: what is answered when, cancellation of commands, exit status, and no pop-ups.

Each override says what plain pygls 2.1.1 does instead. Knows nothing of completions or hovers.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import cattrs
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInternalError, JsonRpcInvalidParams, JsonRpcInvalidRequest
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, default_converter
from pygls.protocol.language_server import lsp_method

from server.lm.errors import UserError
from server.lsp.documents import Documents

if TYPE_CHECKING:
    from pygls.protocol.json_rpc import MsgId

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Handler = Callable[P, Coroutine[Any, Any, T]]


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that is JSON but not what the protocol says it is."""

    id: MsgId | None  # None: nobody waits for an answer
    problem: str


class Protocol(LanguageServerProtocol):
    """The message handling of one connection."""

    @property
    def is_shut_down(self) -> bool:
        """Whether the client has asked for the end; leaving before that is a failure."""
        return self._shutdown

    def structure_message(self, data: dict[str, Any]) -> Any:
        """As in pygls, but a message that does not parse becomes a `Malformed` (pygls: no answer, and a pop-up)."""
        if "jsonrpc" not in data:
            return data
        if "method" in data and data.get("params") is None:
            # JSON-RPC lets parameters be left out, and `initialized` has none to speak of.
            data = data | {"params": {} if data["method"] == types.INITIALIZED else None}
        try:
            return super().structure_message(data)
        except JsonRpcException as error:
            is_request = "id" in data and "method" in data
            return Malformed(data["id"] if is_request else None, f"{data.get('method')}: {_places(error.__cause__)}")

    def handle_message(self, message: Any) -> None:
        """As in pygls, with the protocol's answers to what comes malformed, too early or too late."""
        if isinstance(message, Malformed):
            logger.warning("malformed message: %s", message.problem)
            if message.id is not None:
                self._refuse(message.id, JsonRpcInvalidParams(f"Invalid Params: {message.problem}"))
            return
        method, message_id = getattr(message, "method", None), getattr(message, "id", None)
        if not hasattr(message, "jsonrpc"):
            logger.warning("ignored a message that is no JSON-RPC")
        elif method is None or method == types.EXIT:
            super().handle_message(message)
        elif self._workspace is None and method != types.INITIALIZE:
            if message_id is not None:
                code = types.ErrorCodes.ServerNotInitialized
                self._refuse(message_id, JsonRpcException("the first request must be initialize", code=code.value))
        elif self._shutdown or (self._workspace is not None and method == types.INITIALIZE):
            if message_id is not None:
                state = "shut down" if self._shutdown else "initialized already"
                self._refuse(message_id, JsonRpcInvalidRequest(f"the server is {state}"))
        else:
            super().handle_message(message)

    @lsp_method(types.WORKSPACE_EXECUTE_COMMAND)
    async def lsp_workspace__execute_command(self, params: types.ExecuteCommandParams) -> Any:  # type: ignore[override]
        """Runs an async command. In pygls cancelling the request does not reach the command's task."""
        handler = self.fm.commands.get(params.command)
        if handler is None:
            raise JsonRpcInvalidParams(f"Invalid Params: there is no command {params.command}")
        arguments = params.arguments or ()
        try:
            inspect.signature(handler.func).bind(self._server, *arguments)
        except TypeError as error:
            raise JsonRpcInvalidParams(f"Invalid Params: {params.command}: {error}") from None
        try:
            return await handler(*arguments)
        except UserError as error:
            raise JsonRpcException(str(error), code=types.LSPErrorCodes.RequestFailed.value) from None
        except JsonRpcException:
            raise
        except Exception as error:
            logger.exception("%s failed", params.command)
            raise JsonRpcInternalError(f"{params.command} failed; the log of the server says why") from error

    def _refuse(self, message_id: MsgId, error: JsonRpcException) -> None:
        self._send_response(message_id, error=error.to_response_error())


class ProtocolServer(LanguageServer):
    """A pygls server with the protocol above and our documents."""

    protocol: Protocol

    def __init__(self, name: str, version: str) -> None:
        super().__init__(
            name,
            version,
            text_document_sync_kind=types.TextDocumentSyncKind.Incremental,
            protocol_cls=Protocol,
            converter_factory=converter,
            max_workers=1,  # reads stdin; nothing of ours runs in the library's pool
        )

    @property
    def documents(self) -> Documents:
        """The open documents; from `initialize` on."""
        workspace = self.protocol.workspace
        assert isinstance(workspace, Documents)
        return workspace

    def use_documents(self) -> None:
        """Puts our documents in the place of the library's, which are still empty during `initialize`."""
        self.protocol._workspace = Documents(self.protocol.workspace)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Logs; pygls would open a message box in the editor."""
        if isinstance(error, json.JSONDecodeError):
            parse_error = types.ResponseError(code=types.ErrorCodes.ParseError.value, message="not JSON")
            self.protocol._send_data(types.ResponseErrorMessage(id=None, error=parse_error))
        elif not isinstance(error, JsonRpcException):
            logger.error("%s: %s", getattr(source, "__name__", source), type(error).__name__)


def converter() -> cattrs.Converter:
    """The library's converter, taking what well-known clients send."""
    result: cattrs.Converter = default_converter()  # type: ignore[no-untyped-call]
    # vscode-languageclient 9 still numbers the trigger kinds 0 (invoked) and 1 (automatic): 0 does not occur in the
    # specification, which counts from 1, and its automatic requests read as invoked: right, with more alternatives.
    kinds = types.InlineCompletionTriggerKind
    result.register_structure_hook(kinds, lambda value, _: kinds(value) if value in (1, 2) else kinds.Invoked)
    return result


def guarded(empty: Callable[[], Any]) -> Callable[[Handler[P, T]], Handler[P, T]]:
    """Makes a handler answer `empty()` where it fails, with the stack in the log: the editor never sees a traceback."""

    def decorate(handler: Handler[P, T]) -> Handler[P, T]:
        @wraps(handler)
        async def safe(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await handler(*args, **kwargs)
            except JsonRpcException:
                raise
            except Exception:
                logger.exception("%s failed", handler.__name__)
                nothing: T = empty()
                return nothing

        return safe

    return decorate


def _places(error: BaseException | None) -> str:
    """Where a message is wrong, as paths into it; never what stands there, which may be source text."""
    if not isinstance(error, cattrs.ClassValidationError):
        return "not a message of the protocol"
    places = (line.rpartition("@ ")[2] for line in cattrs.transform_error(error, path="$"))
    return "wrong or missing: " + ", ".join(dict.fromkeys(places))
