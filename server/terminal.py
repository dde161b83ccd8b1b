"""`loracle complete` and `loracle explain`: what an editor would get at a place, printed.

The same settings, gate, index, pipeline and explanation as behind the editor. Nobody is typing, so there is neither a
debounce nor a deadline. Knows nothing of the protocol.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.account import account_of
from server.lm.errors import UserError
from server.places import Place, offset_of, open_document, place_of
from server.repository.barred import is_barred_path
from server.settings import Layer, Settings, read_settings
from server.settings_files import file_layers

if TYPE_CHECKING:
    from server.completion import Outcome
    from server.index.live import LiveIndex
    from server.lm.model import LoadedModel

EXPLANATION_LIMIT_S = 30.0
INDEX_LIMIT_S = 10.0


def print_completion(place: Place, command_line: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints the text that would be offered at `place`; on stderr, why there is none."""
    from server import completion

    document, root = open_document(place.file)
    request = completion.CompletionRequest(document, offset_of(document.text, place))
    settings = chosen_settings([root], command_line).for_language(document.language.id)
    if is_barred_path(document.path, settings.exclude):
        outcome = completion.Outcome((), "the file is excluded, or one that holds secrets by its name")
    else:
        outcome = completion.complete(request, chosen_model(settings, root), settings, index=index_of(root, settings))
    if as_json:
        print(json.dumps(completion_as_json(document.text, outcome), indent=2))
    elif outcome.suggestions:
        print(outcome.suggestions[0].text)
    else:
        print(f"loracle: nothing is offered there: {outcome.ended}", file=sys.stderr)


def index_of(root: Path, settings: Settings, limit_s: float = INDEX_LIMIT_S) -> LiveIndex | None:
    """The stored index of a workspace; where there is none, or one of its files has changed, one is built.

    That may take `limit_s`. Where it takes longer or fails, stderr says so, and what is stored of the other files is
    taken. None when there is nothing, or the index is switched off.
    """
    from server.index.builder import ChildBuilder, wanted
    from server.index.live import LiveIndex
    from server.lm.languages import CODE_SUFFIXES
    from server.repository.files import Rule

    if not settings.index.enabled:
        return None
    builder = ChildBuilder()
    built = builder.stored(root, settings.exclude)
    outdated = frozenset[str]()
    if built is not None:
        outdated = built.outdated(root, Rule(CODE_SUFFIXES, settings.exclude), built.paths)
    if built is None or outdated:
        timer = threading.Timer(limit_s, builder.stop)
        timer.daemon = True
        timer.start()
        try:
            built, outdated = builder.build(root, settings.exclude, lambda percent: None), frozenset()
        except UserError as error:
            late = f"indexing {root} takes more than {limit_s:.0f} s; open it in an editor once to have it indexed"
            print(f"loracle: {late if builder.is_stopped else error}", file=sys.stderr)
        finally:
            timer.cancel()
    if built is None:
        return None
    index = LiveIndex()
    index.use(wanted(built.segments, with_dependencies=settings.index.dependencies), outdated)
    return index


def completion_as_json(text: str, outcome: Outcome) -> dict[str, Any]:
    """The best suggestion and how it came about; places count from 1 as on the command line."""
    best = outcome.suggestions[0] if outcome.suggestions else None
    return {
        "text": best.text if best else None,
        "range": {"start": place_of(text, best.start), "end": place_of(text, best.end)} if best else None,
        **account_of(outcome),
    }


def print_explanation(place: Place, command_line: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints what is known about the code at `place`, and the model's sentence on it.

    Without a model the facts are printed all the same, before the UserError that says why.
    """
    from server.explanation import Explainer, explain, in_force

    document, root = open_document(place.file)
    offset = offset_of(document.text, place)
    settings = chosen_settings([root], command_line).for_language(document.language.id)
    explainer = Explainer(root)
    model, problem = None, None
    try:
        facts = explainer.facts_at(document, offset, EXPLANATION_LIMIT_S)
        paths = [document.path, *([facts.subject.path] if facts is not None and facts.subject is not None else [])]
        if settings.hover.generate != "never" and not any(is_barred_path(path, settings.exclude) for path in paths):
            try:
                model = chosen_model(settings, root)
            except UserError as error:
                problem = error
        hover = in_force(settings.hover, model)
        explanation = explain(
            document,
            offset,
            model,
            hover,
            cancelled=lambda: False,
            deadline=time.monotonic() + EXPLANATION_LIMIT_S,
            always=hover.generate == "always",
            explainer=explainer,
            facts=facts,
        )
    finally:
        explainer.close()
    if as_json:
        confidence = round(explanation.confidence, 4)
        answer = {"markdown": explanation.markdown, "sentence": explanation.sentence, "confidence": confidence}
        print(json.dumps(answer, indent=2))
    else:
        print(explanation.markdown)
    if problem is not None:
        raise problem


def chosen_settings(roots: list[Path], command_line: Mapping[str, Any]) -> Settings:
    """The settings of the user's file, of the workspaces and of the command line; what is wrong goes to stderr."""
    layers, unreadable = file_layers(roots)
    settings, wrong = read_settings([*layers, Layer("command line", command_line)])
    for problem in (*unreadable, *wrong):
        print(f"loracle: {problem}", file=sys.stderr)
    return settings


def chosen_model(settings: Settings, root: Path) -> LoadedModel:
    """The model that the settings name, with the workspace's adapter. UserError says why it cannot serve.

    Why an adapter cannot, stderr says; the base model serves alone then.
    """
    from server.adapter_choice import chosen_adapter
    from server.loading import ModelChoice, load_chosen

    adapter = chosen_adapter(settings.adapter, [root])
    model = load_chosen(ModelChoice(settings.model, settings.engine, settings.threads, adapter))
    if model is not None and model.adapter_problem is not None:
        print(f"loracle: {model.adapter_problem}", file=sys.stderr)
    return model
