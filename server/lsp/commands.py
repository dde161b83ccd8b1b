"""The commands of `workspace/executeCommand`. Arguments and answers are plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cattrs
from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams

from server.account import account_of
from server.figures import memory_mb
from server.lm.adapter_manifest import AdapterError, read_manifest
from server.lm.adapter_store import AdapterStore
from server.lm.errors import UserError
from server.lsp.inline_completion import ACCEPTED
from server.repository.barred import is_barred_path
from server.trust import trust
from server.version import version_of

if TYPE_CHECKING:
    from server.adapter_age import AdapterAge
    from server.lsp.documents import OpenDocument
    from server.lsp.server import Server
    from server.session import Session
    from server.settings import CompletionSettings

GOES_ON = "a run goes on already"


async def explain(ls: Server, target: dict[str, Any]) -> dict[str, Any]:
    """Answers `{uri, position | range}` with `{markdown, sentence, confidence}`; `sentence` is null when withheld."""
    uri, first, last = _target(ls, target)
    document = ls.documents.find(uri) or _read(ls, uri)
    start = document.offset_at(first) if document is not None else None
    end = document.offset_at(last) if document is not None else None
    explanation = None
    if document is not None and start is not None:
        snapshot = ls.documents.snapshot(document)
        session = ls.session
        settings = session.settings.for_language(snapshot.language.id)
        end = len(snapshot.text) if end is None else end
        explanation = await session.explaining.explain(
            snapshot, start, end, session.model, settings.hover, settings.exclude
        )
    if explanation is None:
        return {"markdown": "", "sentence": None, "confidence": 0.0}
    return {
        "markdown": explanation.markdown,
        "sentence": explanation.sentence,
        "confidence": round(explanation.confidence, 4),
    }


async def status(ls: Server) -> dict[str, Any]:
    """What serves, how fast, how often, and what is wrong."""
    session, figures = ls.session, ls.session.figures
    adapter = await _adapter(session)
    model = session.model
    p50, p95 = figures.percentile_ms(50), figures.percentile_ms(95)
    memory = memory_mb()
    return {
        "version": version_of(),
        "model": model.name if model is not None else None,
        "modelFolder": str(model.folder) if model is not None else None,
        "modelProblem": session.model_problem,
        "engine": type(model.engine).__name__.removesuffix("Engine").lower() if model is not None else None,
        "precision": model.precision if model is not None else None,
        "busy": session.is_busy,
        "index": session.indexing.status(),
        "adapter": adapter,
        "p50Ms": None if p50 is None else round(p50, 1),
        "p95Ms": None if p95 is None else round(p95, 1),
        "requests": figures.n_requests,
        "shown": figures.n_shown,
        "accepted": figures.n_accepted,
        "superseded": figures.n_superseded,
        "cancelled": figures.n_cancelled,
        "typedThrough": figures.n_typed_through,
        "modelAnswers": figures.n_model_answers,
        "promptTokens": figures.n_prompt_tokens,
        "cachedTokens": figures.n_cached_tokens,
        "memoryMb": None if memory is None else round(memory, 1),
        "settingsProblems": list(session.settings_problems),
        "advice": _advice(p95, session.settings.completion),
    }


async def finetune(ls: Server, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Teaches the model the first workspace folder; answers at once.

    `{timeBudget: "10m", resume: true}` are optional; the second goes on with a run that was stopped.
    `started` is false with a `problem` where there is no folder, a run goes on already, or none can be started.
    """
    if not ls.session.roots:
        return {"started": False, "problem": "no workspace folder is open; open the folder of the repository"}
    given: Mapping[str, Any] = options if isinstance(options, Mapping) else {}
    budget = given.get("timeBudget")
    arguments = ["--base", ls.session.settings.model, *(["--time-budget", str(budget)] if budget else [])]
    arguments += ["--resume"] if given.get("resume") is True else []
    for glob in ls.session.settings.exclude:  # a run that learns from what is excluded by now does not go on
        arguments += ["--exclude", glob]
    root = ls.session.roots[0]
    try:
        is_started = await ls.finetuning.start(root, arguments)
    except UserError as error:
        return {"started": False, "problem": str(error)}
    return {"started": True, "folder": str(root)} if is_started else {"started": False, "problem": GOES_ON}


async def reload_adapter(ls: Server) -> dict[str, Any] | None:
    """Looks for another adapter at once; answers the one that serves, as `loracle.status` does."""
    await ls.adapters.look()
    return await _adapter(ls.session)


async def trust_workspace(ls: Server) -> list[str]:
    """Lets the workspace's own files choose the model and bring an adapter along; answers the folders."""
    for root in ls.session.roots:
        trust(root)
    await ls.configuration.refresh()
    await ls.adapters.look()
    return [str(root) for root in ls.session.roots]


async def accepted(ls: Server, offer_id: str) -> bool:
    """Counts an inline completion as accepted; editors send this by themselves."""
    return ls.session.accept(str(offer_id))


async def why(ls: Server) -> dict[str, Any]:
    """How the last request for a completion came to its end: in words, and what the model and each filter did.

    The keys are those of `account_of`. For a request that the model did not answer, `ended` says why, and the rest is
    empty.
    """
    outcome = ls.session.last_outcome
    return {**account_of(outcome), "ended": ls.session.last_end}


COMMANDS = {
    "loracle.explain": explain,
    "loracle.status": status,
    ACCEPTED: accepted,
    "loracle.why": why,
    "loracle.finetune": finetune,
    "loracle.reloadAdapter": reload_adapter,
    "loracle.trust": trust_workspace,
}


async def _adapter(session: Session) -> dict[str, Any] | None:
    """The adapter that serves, as plain JSON; None for none. `problem` says why the one that was wanted does not.

    `age` is null as long as it is being found out, and where no folder is open.
    """
    model = session.model
    if model is None or (model.adapter is None and model.adapter_problem is None):
        return None
    if model.adapter is None:
        return {"folder": None, "problem": model.adapter_problem}
    age = await session.adapter_age()
    shown = {"folder": str(model.adapter), "problem": model.adapter_problem, **_made(session, model.adapter)}
    return shown | {"age": None if age is None else _aged(age)}


def _made(session: Session, folder: Path) -> dict[str, Any]:
    """Which version an adapter is, and when, for what and from which commit it was made."""
    version = AdapterStore(session.roots[0]).version_of(folder) if session.roots else None
    try:
        manifest = read_manifest(folder)
    except AdapterError:  # it is gone meanwhile
        return {"version": version}
    made = {"createdAt": manifest.created_at, "repository": manifest.repository, "commit": manifest.commit}
    return {"version": version, **made}


def _aged(age: AdapterAge) -> dict[str, Any]:
    return {
        "commits": age.n_commits,
        "learnedFiles": age.n_learned,
        "changedFiles": age.n_changed,
        "newFiles": age.n_new,
        "isWhole": age.is_whole,
        "runAdvised": age.is_run_advised,
        "advice": age.advice,
    }


def _read(ls: Server, uri: str) -> OpenDocument | None:
    """A file of the workspace that is not open; None for one that is barred, by its name or by what a link names."""
    path, real_path = ls.documents.path_of(uri), ls.documents.real_path(uri)
    if real_path is None:
        return None
    real_uri = Path(real_path).as_uri()
    if any(is_barred_path(each, ls.session.settings.exclude) for each in (path, ls.documents.path_of(real_uri))):
        return None
    return ls.documents.read(uri)


def _target(ls: Server, target: object) -> tuple[str, types.Position, types.Position]:
    """uri, start and end of what is to be explained; -32602 with the reason for anything else."""
    wanted = 'expected {"uri": ..., "position": {"line": ..., "character": ...}} or a "range" in place of the position'
    if not isinstance(target, Mapping) or not isinstance(uri := target.get("uri"), str):
        raise JsonRpcInvalidParams(f"Invalid Params: loracle.explain: {wanted}")
    structure = ls.protocol._converter.structure
    try:
        if target.get("range") is not None:
            span = structure(target["range"], types.Range)
            return uri, span.start, span.end
        position = structure(target.get("position"), types.Position)
    except (cattrs.BaseValidationError, TypeError, ValueError, KeyError, AttributeError):
        raise JsonRpcInvalidParams(f"Invalid Params: loracle.explain: {wanted}") from None
    return uri, position, position


def _advice(p95_ms: float | None, completion: CompletionSettings) -> str | None:
    """What to change when the model is too slow for this machine."""
    allowed_ms = completion.debounce_ms + completion.deadline_ms
    if p95_ms is None or p95_ms < allowed_ms:
        return None
    return (
        f"one answer in twenty takes {p95_ms:.0f} ms or more, {allowed_ms} ms are allowed: lower "
        "completion.maxNewTokens, set completion.multiline to never, or raise completion.deadlineMs"
    )
