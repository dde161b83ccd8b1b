"""The part `quality`: how good the answers are in whole repositories, through the protocol.

Asks for lines and for explanations in held-out files, one at a time, of a server that is started in a folder with the
repository's other files; in two repositories at the same time, as answers do not depend on how fast they come.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.client import Client
from tests.bench.machine import cache_variables
from tests.bench.options import Options
from tests.bench.page import Report
from tests.bench.quality import cases, explaining, report
from tests.bench.quality.asking import COMPLETION, Answer, answer
from tests.bench.quality.cases import Case
from tests.bench.quality.comparison import compare, run_in
from tests.bench.quality.environments import environment_of
from tests.bench.quality.explaining import Explained, Function
from tests.bench.quality.floors import Corpus, copied, own_sources
from tests.bench.quality.reading import python_names, typescript_names
from tests.bench.quality.repository import Repository, prepare
from tests.bench.quality.results import Result, result
from tests.bench.quality.serving import Serving
from tests.bench.repositories import TYPESCRIPT, FetchError, Package, servers_folder
from tests.bench.table import BenchError

N_A_KIND, N_QUICK_A_KIND = 100, 10
N_FUNCTIONS, N_QUICK_FUNCTIONS = 40, 3
N_AT_ONCE = 2  # repositories


@dataclass(slots=True)
class Found:
    """What a run found so far."""

    results: list[Result] = field(default_factory=list)
    explained: list[Explained] = field(default_factory=list)
    problems: dict[str, Counter[str]] = field(default_factory=dict)  # by repository: what happened, how often
    adapters: dict[str, Path | None] = field(default_factory=dict)  # by repository, where adapters are measured

    @classmethod
    def of(cls, parts: Sequence[Found]) -> Found:
        """All that several runs found, in their order."""
        whole = cls()
        for part in parts:
            whole.results += part.results
            whole.explained += part.explained
            whole.problems |= part.problems
            whole.adapters |= part.adapters
        return whole


def run(options: Options) -> Report:
    """Asks in all repositories, and compares with another run where one is named."""
    packages = {package: sources for package, sources in options.repositories.items() if package != TYPESCRIPT}
    if not packages:
        raise BenchError("no package was fetched")
    other = run_in(options.against) if options.against is not None else None
    # Each server has one thread less than there are cores, on two of them one: two repositories at a time.
    with tempfile.TemporaryDirectory(prefix="loracle-quality-") as folder, ThreadPoolExecutor(N_AT_ONCE) as pool:
        parts = [pool.submit(_asked, package, sources, Path(folder), options) for package, sources in packages.items()]
        found = Found.of([part.result() for part in parts])
    comparison = None
    if other is not None:
        comparison = compare(
            [each.as_json() for each in found.results],
            other.cases,
            map(report.explanation, found.explained),
            other.explanations,
        )
    return report.report(
        found.results, found.explained, found.problems, comparison, tuning=options.tuning, adapters=found.adapters
    )


def _asked(package: Package, sources: Path, folder: Path, options: Options) -> Found:
    """Asks in one repository."""
    began, found = time.monotonic(), Found()
    own_names = _own_names(package, options.repositories)
    if own_names is None:
        found.problems[package.name] = Counter({f"not measured without {TYPESCRIPT}, which was not fetched": 1})
        return found
    repository = prepare(package, sources, folder)
    drawn = cases.draw(repository, options.n(N_A_KIND, N_QUICK_A_KIND), own_names)
    functions = explaining.draw(repository, options.n(N_FUNCTIONS, N_QUICK_FUNCTIONS))
    settings = settings_of(options)
    if options.adapters is not None:
        found.adapters[package.name] = adapter_of(package, options.adapters)
        settings["adapter"] = str(found.adapters[package.name] or "off")
    measure(repository, drawn, functions, partial(options.client, _variables(package, found)), settings, found)
    spent = f"{time.monotonic() - began:.0f} s"
    print(f"  {package}: {len(drawn)} lines, {len(functions)} explanations, {spent}", flush=True)
    return found


def measure(
    repository: Repository,
    drawn: Sequence[Case],
    functions: Sequence[Function],
    start: Callable[[], Client],
    settings: Mapping[str, Any],
    found: Found,
) -> None:
    """Asks at all cases of one repository and about all functions; what comes is added to `found`."""
    with Serving(start, settings, repository.root) as serving:
        answers = [answer(case, repository.uri(case.path), serving) for case in drawn]
        found.explained += explaining.explain_all(repository, functions, serving)
    problems = serving.problems + leaks(repository, drawn, answers)
    if problems:
        found.problems[repository.name] = problems
    corpus = Corpus(file.text for file in repository.on_disk)
    for case, given in zip(drawn, answers, strict=True):
        own = own_sources(case.before, case.after)
        copies = {"file": copied(case.before, own), "repository": copied(case.before, [*own, corpus])}
        found.results.append(result(case, given, copies))


def leaks(repository: Repository, drawn: Sequence[Case], answers: Sequence[Answer]) -> Counter[str]:
    """Answers that are from a held-out file other than the one that was asked in: it should have been closed."""
    held_out = {file.path for file in repository.held_out}
    others = [held_out & given.sources - {case.path} for case, given in zip(drawn, answers, strict=True)]
    return Counter(f"an answer from the held-out file {path}" for paths in others for path in paths)


def settings_of(options: Options) -> dict[str, Any]:
    """What the server is told: everything is shown, sentences are never withheld, and what the run was told to set."""
    hover = {"generate": "always", **options.settings.get("hover", {})}
    return {**options.settings, "completion": {**COMPLETION, **options.completion}, "hover": hover}


def adapter_of(package: Package, adapters: Path) -> Path | None:
    """The folder of the adapter for a package; None where there is none."""
    folder = adapters / package.name
    return folder.resolve() if folder.is_dir() else None


def _variables(package: Package, found: Found) -> dict[str, str]:
    """Where the server keeps its indexes and finds what the package needs; what is wrong with that goes to `found`.

    Of a package that needs nothing no environment is named: the client passes on none of the shell's.
    """
    variables = cache_variables(servers_folder())
    try:
        environment = environment_of(package)
    except FetchError as error:
        found.problems[f"{package.name}, dependencies"] = Counter({str(error): 1})
        return variables
    return variables if environment is None else {**variables, "VIRTUAL_ENV": str(environment)}


def _own_names(package: Package, sources: Mapping[Package, Path]) -> frozenset[str] | None:
    """The words of the own library of a package's language; None where they cannot be known."""
    if package.registry == "python":
        return python_names()
    return typescript_names(sources[TYPESCRIPT]) if TYPESCRIPT in sources else None
