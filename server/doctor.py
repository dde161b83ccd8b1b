"""`loracle doctor`: what this installation can do on this machine, and for each problem its remedy.

Looks at everything in the order in which serving needs it, and goes on after a problem, so that one run names them all.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.lm.errors import UserError
from server.version import version_of

if TYPE_CHECKING:
    from server.lm.context import Document
    from server.lm.model import LoadedModel
    from server.settings import Settings

logger = logging.getLogger(__name__)

N_COMPLETIONS = 20
EXAMPLE = Path(__file__).with_name("completion.py")  # real Python that lies wherever the package does
REINSTALL = "install loracle again: `pip install --force-reinstall loracle`"
# What serving imports, with the distribution that brings it.
LIBRARIES = {
    "pygls": "pygls",
    "lsprotocol": "lsprotocol",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "safetensors": "safetensors",
    "tokenizers": "tokenizers",
    "tree_sitter": "tree-sitter",
    "tree_sitter_python": "tree-sitter-python",
    "tree_sitter_javascript": "tree-sitter-javascript",
    "tree_sitter_typescript": "tree-sitter-typescript",
    "jedi": "jedi",
    "platformdirs": "platformdirs",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found."""

    name: str
    is_fine: bool
    says: str
    remedy: str = ""  # of a problem; for what is fine, at most advice


def examine(command_line: Mapping[str, Any], *, as_json: bool) -> bool:
    """Prints what it finds, each finding as soon as it is there; True when nothing is wrong."""
    findings = []
    for finding in look(command_line):
        findings.append(finding)
        if not as_json:
            print(f"{'ok     ' if finding.is_fine else 'PROBLEM'} {finding.name}: {finding.says}", flush=True)
            if finding.remedy:
                print(f"        -> {finding.remedy}", flush=True)
    is_fine = all(finding.is_fine for finding in findings)
    if as_json:
        package = str(Path(__file__).parent)
        report = {"ok": is_fine, "package": package, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(report, indent=2))
    else:
        print("all is well" if is_fine else "there are problems; see above")
    return is_fine


def look(command_line: Mapping[str, Any]) -> Iterator[Finding]:
    """The findings, one after the other."""
    yield look_at_installation()
    yield attempted("cache", look_at_cache)
    yield attempted("index", look_at_indexes)
    settings: list[Settings] = []
    yield attempted("settings", lambda: look_at_settings(command_line, settings))
    yield attempted("syntax", look_at_syntax)
    model: list[LoadedModel] = []
    if settings:
        yield attempted("model", lambda: look_at_model(settings[0], model))
    if model:
        yield attempted("adapter", lambda: look_at_adapter(model[0], settings[0]))
        yield attempted("completions", lambda: look_at_completions(model[0], settings[0]))


def attempted(name: str, find: Callable[[], Finding]) -> Finding:
    """What `find` finds; a problem when it fails, whatever the reason: a damaged library raises what it likes."""
    try:
        return find()
    except UserError as error:
        says, _, remedy = str(error).partition("; ")
        return Finding(name, False, says, remedy)
    except Exception as error:
        logger.debug("looking at %s", name, exc_info=True)
        return Finding(name, False, f"{type(error).__name__}: {error}", f"{REINSTALL}; `--log-level debug` says more")


def look_at_installation() -> Finding:
    """Versions, and libraries that are missing."""
    missing = [distribution for module, distribution in LIBRARIES.items() if find_spec(module) is None]
    if missing:
        return Finding("installation", False, f"missing: {', '.join(missing)}", REINSTALL)
    versions = ", ".join(f"{name} {version_of(name)}" for name in ("pygls", "onnxruntime", "tokenizers"))
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("installation", True, f"loracle {version_of()}, {system}, {versions}")


def look_at_cache() -> Finding:
    """Whether the converted model and the indexes can be kept."""
    import platformdirs

    folder = platformdirs.user_cache_path("loracle", appauthor=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("cache", True, str(folder))
    except OSError as error:
        remedy = (
            "make it writable, or set XDG_CACHE_HOME; until then every start converts the model again, and only open "
            "files are indexed"
        )
        return Finding("cache", False, f"cannot write to {folder}: {error.strerror}", remedy)


def look_at_indexes() -> Finding:
    """Whether what is kept of the index of the current folder's workspace can be read."""
    from server.index.store import current_name, index_folder, read_current
    from server.index.texts import load_segments
    from server.places import workspace_of

    root = workspace_of(Path.cwd() / "file")
    folder = index_folder(root)
    generation = read_current(folder)
    if generation is not None and load_segments(generation) is not None:
        n_files, limit = generation.manifest.n_files, generation.manifest.limit_reached
        return Finding("index", True, f"{root}: {n_files:,} files, in {generation.folder}", limit or "")
    if current_name(folder) is not None:
        remedy = f"remove {folder}; the next start of the server builds it again"
        return Finding("index", False, f"what is kept of {root} cannot be read", remedy)
    return Finding("index", True, f"nothing is kept of {root} yet; the server builds it when an editor opens it there")


def look_at_settings(command_line: Mapping[str, Any], found: list[Settings]) -> Finding:
    """What is wrong in the user's own file; the settings go to `found`."""
    from server.settings import Layer, read_settings
    from server.settings_files import file_layers, user_settings_file

    layers, unreadable = file_layers([])
    settings, wrong = read_settings([*layers, Layer("command line", command_line)])
    found.append(settings)
    if problems := [*unreadable, *wrong]:
        return Finding("settings", False, "; ".join(problems), f"correct {user_settings_file()}")
    exists = user_settings_file().exists()
    return Finding("settings", True, f"{user_settings_file()}{'' if exists else ' (there is none, which is fine)'}")


def look_at_syntax() -> Finding:
    """Whether each grammar reads a line of its language."""
    from server.lm.languages import LANGUAGES
    from server.lm.syntax import n_errors

    with_grammar = [language for language in LANGUAGES if language.grammar]
    broken = [language.id for language in with_grammar if n_errors("f(x)\n", language) != 0]
    if broken:
        return Finding("syntax", False, f"no grammar for {', '.join(broken)}", REINSTALL)
    return Finding("syntax", True, ", ".join(language.id for language in with_grammar))


def look_at_model(settings: Settings, found: list[LoadedModel]) -> Finding:
    """Whether the model loads; it goes to `found`."""
    from server.adapter_choice import chosen_adapter
    from server.lm.engine import default_threads
    from server.loading import ModelChoice, load_chosen
    from server.places import workspace_of

    started = time.monotonic()
    adapter = chosen_adapter(settings.adapter, [workspace_of(Path.cwd() / "file")])
    model = load_chosen(ModelChoice(settings.model, settings.engine, settings.threads, adapter))
    found.append(model)
    config, engine = model.engine.config, type(model.engine).__name__.removesuffix("Engine").lower()
    shape = f"{config.n_layer} layers x {config.n_embd}, context {config.n_positions}, {config.vocab_size} tokens"
    n_threads = settings.threads or default_threads()
    return Finding(
        "model",
        True,
        f"{model.name} in {model.folder} ({shape}; fingerprint {model.fingerprint[:12]}), engine {engine}, "
        f"{model.precision}, {n_threads} of {os.cpu_count()} cores, loaded in {time.monotonic() - started:.1f} s",
        "" if model.supports_infilling else "a plain GPT-2: it sees only what stands before the cursor",
    )


def look_at_adapter(model: LoadedModel, settings: Settings) -> Finding:
    """Whether the adapter of the workspace at hand serves, and how old it is."""
    from server.adapter_age import age_of
    from server.lm.adapter_manifest import read_manifest
    from server.places import workspace_of

    if model.adapter_problem is not None:
        says, _, remedy = model.adapter_problem.partition("; ")
        return Finding("adapter", False, says, remedy)
    if model.adapter is None:
        return Finding("adapter", True, "none for this workspace; `loracle-finetune .` makes one")
    manifest = read_manifest(model.adapter)
    says = f"{model.adapter}, made {manifest.created_at} for {manifest.repository}"
    age = age_of(workspace_of(Path.cwd() / "file"), model.adapter, settings.exclude)
    if age is None or age.is_run_advised:
        return Finding("adapter", True, says, "" if age is None else age.advice)
    return Finding("adapter", True, f"{says}; {age.advice}")


def look_at_completions(model: LoadedModel, settings: Settings) -> Finding:
    """How long completions take here."""
    from server.completion import CompletionRequest, complete, prefill_ahead
    from server.figures import percentile
    from server.lm.context import Document
    from server.lm.languages import language_for

    text = EXAMPLE.read_text(encoding="utf-8")
    document = Document(EXAMPLE.as_uri(), f"server/{EXAMPLE.name}", language_for("python"), text)
    offsets = list(example_offsets(document))
    prefill_ahead(document, offsets[0], model, settings)
    reading_ms, spent_ms, n_offered = [], [], 0
    for offset in offsets:
        started = time.perf_counter()
        outcome = complete(CompletionRequest(document, offset), model, settings)
        reading_ms.append(outcome.milliseconds.get("prefill", 0.0))
        spent_ms.append(1000 * (time.perf_counter() - started) - reading_ms[-1])
        n_offered += bool(outcome.suggestions)
    p50, p95, reading = percentile(spent_ms, 50) or 0.0, percentile(spent_ms, 95) or 0.0, percentile(reading_ms, 50)
    deadline_ms = settings.completion.deadline_ms
    slow = f"slower than completion.deadlineMs ({deadline_ms}): lower completion.maxNewTokens, or raise the deadline"
    says = (
        f"{len(offsets)} on {EXAMPLE.name}, {n_offered} offered: p50 {p50:.0f} ms, p95 {p95:.0f} ms, "
        f"and {reading or 0.0:.0f} ms to read a new place, once"
    )
    return Finding("completions", True, says, slow if p50 > deadline_ms else "")


def example_offsets(document: Document) -> Iterator[int]:
    """Cursors behind the first word of successive lines, as if somebody typed on from a third of the file."""
    lines = document.text.splitlines(keepends=True)
    n_found, offset = 0, 0
    for number, line in enumerate(lines):
        words = line.split()
        if number >= len(lines) // 3 and n_found < N_COMPLETIONS and len(words) > 2 and line.startswith("    "):
            n_found += 1
            yield offset + line.index(words[0]) + len(words[0])
        offset += len(line)
