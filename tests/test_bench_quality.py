"""The quality table end to end, with scripted servers behind the real client: right answers score 100, those of other
cases next to nothing, and a server that fails is named, scored as empty and told by the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as bench
from tests.bench import machine
from tests.bench.client import Client
from tests.bench.heldout import SourceFile
from tests.bench.machine import Machine
from tests.bench.options import Options
from tests.bench.page import Report
from tests.bench.positions import position_at
from tests.bench.quality import asking, explaining, part, report
from tests.bench.quality.cases import Case, draw
from tests.bench.quality.part import Found, measure, settings_of
from tests.bench.quality.repository import Repository
from tests.bench.quality.results import by_kind, figures
from tests.bench.quality.serving import MAX_STARTS
from tests.bench.repositories import PYMODBUS, QUALITY, RXJS, TUNING, TYPESCRIPT, Package

# Knows by document and cursor what to answer, and on which number of request to do something else. What it has done is
# remembered in a file, so that it is not done again after the next start.
SERVER = r"""
import json, os, pathlib, sys, time
script = json.loads(pathlib.Path(sys.argv[1]).read_text())
counter, seen = pathlib.Path(sys.argv[1] + ".n"), pathlib.Path(sys.argv[1] + ".seen")
def tell(what, value):
    with seen.open("a") as lines:
        lines.write(json.dumps([what, value]) + "\n")
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
texts, confidence = {}, None
def send(number, result=None, **other):
    body = json.dumps({"jsonrpc": "2.0", "id": number, **(other or {"result": result})}).encode()
    stdout.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body)); stdout.flush()
while header := stdin.readline():
    stdin.readline()
    message = json.loads(stdin.read(int(header.split(b":")[1])))
    method, number, params = message.get("method"), message.get("id"), message.get("params")
    if method == "textDocument/didOpen":
        texts[params["textDocument"]["uri"]] = params["textDocument"]["text"]
    elif method == "textDocument/didChange":
        texts[params["textDocument"]["uri"]] = params["contentChanges"][0]["text"]
    elif method == "textDocument/didClose":
        del texts[params["textDocument"]["uri"]]
        if script["stops"] and not seen.with_suffix(".stopped").exists():
            seen.with_suffix(".stopped").touch()
            time.sleep(1000)
    elif method == "initialize":
        tell("settings", params["initializationOptions"])
        tell("environment", dict(os.environ))
        send(number, {})
    elif method == "textDocument/inlineCompletion":
        tell("open", sorted(texts))
        n = int(counter.read_text()) if counter.exists() else 0
        counter.write_text(str(n + 1))
        what = script["faults"].get(str(n), script["always"])
        if what == "die":
            sys.exit("out of order")
        if what == "fail":
            send(number, error={"code": -32603, "message": "no luck"})
        if what == "nonsense":
            send(number, {"items": script["nonsense"]})
        if what:
            continue
        text, at = texts[params["textDocument"]["uri"]], params["position"]
        answer = script["answers"][f"{at['line']}:{at['character']}:{text}"]
        items = [{"insertText": answer, "range": {"start": at, "end": at}}] if answer else []
        confidence = 0.5 if answer else None
        send(number, {"items": items})
    elif method == "workspace/executeCommand" and params["command"] == "loracle.why":
        tokens = [{"sources": [{"path": path} for path in script["sources"]]}]
        send(number, {"ended": "offered", "confidence": confidence, "tokens": tokens})
    elif method == "workspace/executeCommand" and params["command"] == "loracle.explain":
        target = params["arguments"][0]
        tell("open", sorted(texts))
        sentence = script["sentences"][str(target["position"]["line"])]
        send(number, {"sentence": sentence} if sentence != "fail" else "no object")
    elif method == "workspace/executeCommand":
        index = [{"isBuilt": script["indexProblem"] is None, "problem": script["indexProblem"]}]
        status = {"model": "a model", "modelProblem": script["modelProblem"], "index": index}
        send(number, {**status, "adapter": script["adapter"]})
    elif number is not None:
        send(number, {})
"""

METHOD = "def method{0}(self, first{0}):\n    {1}value{0} = first{0} + {0}\n    return other{0}\n\n"
TEXT = "".join(METHOD.format(at, "" if at % 2 else "self.") for at in range(12))
DOCUMENTED = 'def loud(self):\n    """Return how loud it is."""\n    return self.level\n'
ON_DISK = "".join(f"other{at} = {at}\n" for at in range(12)) + DOCUMENTED.replace("loud", "quiet")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "demo"
    root.mkdir()
    held_out = (SourceFile("demo/a.py", "python", TEXT), SourceFile("demo/b.py", "python", DOCUMENTED))
    return Repository("demo", root, (SourceFile("demo/other.py", "python", ON_DISK),), held_out)


def scripted(tmp_path: Path, answers: Mapping[str, str], **script: Any) -> Callable[[], Client]:
    """What starts a server with this script."""
    path = tmp_path / "script.json"
    usual = {"faults": {}, "always": "", "modelProblem": None, "sentences": {"0": "Return how loud it is."}}
    usual.update(indexProblem=None, adapter=None, nonsense=[], stops=False, sources=[])
    path.write_text(json.dumps({**usual, "answers": answers, **script}))
    return lambda: Client(command=[sys.executable, "-I", "-S", "-c", SERVER, str(path)])


def seen(tmp_path: Path, what: str) -> list[Any]:
    """What the scripted servers have told of one thing, in order."""
    lines = (tmp_path / "script.json.seen").read_text().splitlines()
    return [value for name, value in map(json.loads, lines) if name == what]


def place(case: Case) -> str:
    """A case as the scripted server knows it."""
    at = position_at(case.document, len(case.before))
    return f"{at['line']}:{at['character']}:{case.document}"


def targets(cases: list[Case]) -> dict[str, str]:
    return {place(case): case.target for case in cases}


def found_by(start: Callable[[], Client], repository: Repository, cases: list[Case]) -> Found:
    found = Found()
    measure(repository, cases, explaining.draw(repository, 5), start, settings_of(Options(files=())), found)
    return found


def test_an_oracle_scores_100(repository: Repository, tmp_path: Path) -> None:
    cases = draw(repository, 20, frozenset())
    found = found_by(scripted(tmp_path, targets(cases)), repository, cases)
    assert not found.problems
    for kind, results in by_kind(found.results).items():
        assert results, kind
        in_kind = figures(results)
        assert in_kind.exact["server"] is not None and in_kind.exact["server"].mean == 100
        assert in_kind.similarity is not None and in_kind.similarity.mean == 100
        assert in_kind.saved is not None and in_kind.saved.mean == 100
        assert in_kind.offered == 100
    (explained,) = found.explained
    assert explained.score("server", "chrf") == explained.score("server", "bleu") == 1
    assert explained.sentences["similar"] == "Return how quiet it is."
    assert explained.sentences["name"] == "Loud."


def test_a_shuffled_server_scores_next_to_nothing(repository: Repository, tmp_path: Path) -> None:
    cases = draw(repository, 20, frozenset())
    others = [*cases[7:], *cases[:7]]
    answers = {place(case): other.target for case, other in zip(cases, others, strict=True)}
    found = found_by(scripted(tmp_path, answers), repository, cases)
    in_all = figures(found.results)
    assert in_all.exact["server"] is not None and in_all.exact["server"].mean < 5
    assert in_all.offered == 100


def test_a_server_without_answers_scores_nothing(repository: Repository, tmp_path: Path) -> None:
    cases = draw(repository, 5, frozenset())
    in_all = figures(found_by(scripted(tmp_path, dict.fromkeys(targets(cases), "")), repository, cases).results)
    assert (in_all.exact["server"].mean, in_all.offered) == (0, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("fault, why", [
    ("die", "textDocument/inlineCompletion: the server ended with status 1: out of order"),
    ("hang", "the server did not answer textDocument/inlineCompletion within 0 s"),
    ("fail", "textDocument/inlineCompletion: no luck"),
])  # fmt: skip
def test_one_failure_costs_one_answer(
    fault: str, why: str, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "hang":
        monkeypatch.setattr(asking, "ANSWER_S", 0.3)
    cases = draw(repository, 3, frozenset())
    found = found_by(scripted(tmp_path, targets(cases), faults={"2": fault}), repository, cases)
    assert [each.answer.problem for each in found.results] == ["", "", why, *[""] * (len(cases) - 3)]
    assert [each.scores["server"].exact for each in found.results] == [1, 1, 0, *[1] * (len(cases) - 3)]
    assert found.problems == {"demo": {why: 1}}


@pytest.mark.timeout(30)
def test_a_server_that_stops_reading_costs_one_answer_however_long_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_S", 0.5)
    long = SourceFile("demo/a.py", "python", f"{TEXT}data = '{'x' * 400_000}'\n")  # more than a pipe holds
    repository = Repository("demo", tmp_path, (), (long,))
    cases = draw(repository, 2, frozenset())
    found = found_by(scripted(tmp_path, targets(cases), stops=True), repository, cases)
    why = "the server was at work or silent for more than 0 s"
    assert [each.answer.problem for each in found.results] == ["", why, *[""] * (len(cases) - 2)]
    assert [each.scores["server"].exact for each in found.results] == [1, 0, *[1] * (len(cases) - 2)]


@pytest.mark.parametrize("nonsense, why", [
    ([{"insertText": "x", "range": {"start": {"line": 999, "character": 0}, "end": {"line": 999, "character": 0}}}],
     "an answer that cannot be read: ValueError: line 999, character 0 is outside of the document"),
    ([{"insertText": "x"}], "an answer that cannot be read: KeyError: 'range'"),
    ([7], "an answer that cannot be read: TypeError: 'int' object is not subscriptable"),
])  # fmt: skip
def test_an_answer_that_cannot_be_read_costs_one_answer(
    nonsense: list[Any], why: str, repository: Repository, tmp_path: Path
) -> None:
    cases = draw(repository, 3, frozenset())
    start = scripted(tmp_path, targets(cases), faults={"2": "nonsense"}, nonsense=nonsense)
    found = found_by(start, repository, cases)
    assert [each.answer.problem for each in found.results] == ["", "", why, *[""] * (len(cases) - 3)]
    assert not found.results[2].answer.text
    assert found.problems == {"demo": {why: 1}}
    said = report.report(found.results, found.explained, found.problems, None, tuning=False)
    assert any(row.is_missed and row.note == why for row in said.rows)


def test_a_sentence_that_cannot_be_read_costs_one_sentence(repository: Repository, tmp_path: Path) -> None:
    found = found_by(scripted(tmp_path, {}, sentences={"0": ["a", "list"]}), repository, [])
    (explained,) = found.explained
    assert explained.sentences["server"] == "" and "a sentence is a text" in explained.problem
    assert list(found.problems) == ["demo"]


@pytest.mark.parametrize("fault", ["fail", "nonsense"])
def test_no_document_helps_with_another_after_a_failure(fault: str, repository: Repository, tmp_path: Path) -> None:
    cases = draw(repository, 3, frozenset())
    last = max(at for at, case in enumerate(cases) if case.path == "demo/a.py")
    found_by(scripted(tmp_path, targets(cases), faults={str(last): fault}, nonsense=[7]), repository, cases)
    files = [*(case.path for case in cases), "demo/b.py"]  # the last one is the explanation's
    assert seen(tmp_path, "open") == [[repository.uri(path)] for path in files]


def test_an_answer_from_another_held_out_file_is_named(repository: Repository, tmp_path: Path) -> None:
    cases = [case for case in draw(repository, 2, frozenset()) if case.path == "demo/a.py"]
    start = scripted(tmp_path, targets(cases), sources=["demo/a.py", "demo/b.py", "demo/other.py"])
    found = found_by(start, repository, cases)
    assert found.problems == {"demo": {"an answer from the held-out file demo/b.py": len(cases)}}


def test_a_sentence_that_fails_leaves_no_document_open(repository: Repository, tmp_path: Path) -> None:
    both = Repository(
        "demo", repository.root, (), (repository.held_out[1], SourceFile("demo/c.py", "python", DOCUMENTED))
    )
    found_by(scripted(tmp_path, {}, sentences={"0": "fail"}), both, [])
    assert seen(tmp_path, "open") == [[both.uri("demo/b.py")], [both.uri("demo/c.py")]]


def test_an_index_that_is_not_there_is_named_and_the_cases_are_asked(repository: Repository, tmp_path: Path) -> None:
    cases = draw(repository, 2, frozenset())
    found = found_by(scripted(tmp_path, targets(cases), indexProblem="no space"), repository, cases)
    assert all(each.scores["server"].exact == 1 for each in found.results)
    assert found.problems == {"demo": {"answers without a whole index: no space": 1}}


def test_an_index_that_is_switched_off_is_not_missed(repository: Repository, tmp_path: Path) -> None:
    found = Found()
    start = scripted(tmp_path, {}, indexProblem="no space")
    measure(repository, [], explaining.draw(repository, 1), start, {"index": {"enabled": False}}, found)
    assert not found.problems


@pytest.mark.parametrize("serves, problem", [
    ({"folder": "/adapters/demo", "problem": None}, None),
    ({"folder": None, "problem": "it is for another base model"}, "it is for another base model"),
    (None, "it is not served"),
])  # fmt: skip
def test_an_adapter_that_does_not_serve_is_named(
    serves: dict[str, Any] | None, problem: str | None, repository: Repository, tmp_path: Path
) -> None:
    found = Found()
    start = scripted(tmp_path, {}, adapter=serves)
    measure(repository, [], explaining.draw(repository, 1), start, {"adapter": "/adapters/demo"}, found)
    named = f"answers without the adapter /adapters/demo: {problem}"
    assert found.problems == ({"demo": {named: 1}} if problem else {})


def test_a_server_that_always_dies_is_started_a_few_times_only(repository: Repository, tmp_path: Path) -> None:
    cases = draw(repository, 3, frozenset())
    found = found_by(scripted(tmp_path, {}, always="die"), repository, cases)
    assert all(each.answer.problem and not each.answer.text for each in found.results)
    assert (
        found.problems["demo"]["textDocument/inlineCompletion: the server ended with status 1: out of order"]
        == MAX_STARTS
    )
    assert len(found.results) == len(cases) > MAX_STARTS
    said = report.report(found.results, found.explained, found.problems, None, tuning=False)
    assert any(row.is_missed and "out of order" in row.note for row in said.rows)
    assert said.sections[0].title == "Failures"


def test_a_server_without_a_model_is_named(repository: Repository, tmp_path: Path) -> None:
    cases = draw(repository, 1, frozenset())
    found = found_by(scripted(tmp_path, {}, modelProblem="it is damaged"), repository, cases)
    assert found.problems["demo"]["no model: it is damaged"] == MAX_STARTS


def test_what_is_told_to_the_server_can_be_overridden() -> None:
    given = settings_of(Options(files=(), completion={"minConfidence": 0.5}, settings={"index": {"enabled": False}}))
    assert given["completion"]["minConfidence"] == 0.5 and given["completion"]["debounceMs"] == 0
    assert given["index"] == {"enabled": False}
    assert given["hover"] == {"generate": "always"}


# The command.


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Package]:
    """A calm machine on which one package can be fetched; the packages that were asked for."""
    asked: list[Package] = []
    sources = tmp_path / "sources" / "pymodbus"
    sources.mkdir(parents=True)
    for at in range(15):
        (sources / f"m{at}.py").write_text(TEXT.replace("method", f"method_{at}_"))

    def fetch_all(packages: list[Package]) -> tuple[dict[Package, Path], list[str]]:
        asked.extend(packages)
        return {PYMODBUS: sources}, [f"{RXJS}: not fetched: no network"] if RXJS in packages else []

    monkeypatch.setattr(machine, "look", lambda: Machine("Linux", "a processor", 2, 0.0, 0.0))
    monkeypatch.setattr(bench, "fetch_all", fetch_all)
    monkeypatch.setattr(part, "python_names", frozenset)  # reading the real ones takes a second
    return asked


def test_what_cannot_be_fetched_is_named_and_the_rest_is_measured(
    here: list[Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Options, "client", lambda self, environment: scripted(tmp_path, {}, always="fail")())
    path = tmp_path / "run.json"
    assert bench.main(["quality", "--count", "2", "--json", str(path)]) == 1
    printed = capsys.readouterr().out
    assert f"failed: {RXJS}: not fetched" in printed
    assert "not kept: quality, failures in pymodbus" in printed
    written = json.loads(path.read_text())["details"]["quality"]
    assert [case["answer"] for case in written["cases"]] == [""] * len(written["cases"]) != []
    assert written["cases"][0]["problem"] == "textDocument/inlineCompletion: no luck"
    assert "no luck" in path.with_suffix(".html").read_text() and "<svg" in path.with_suffix(".html").read_text()
    assert "no luck" in path.with_suffix(".md").read_text()
    assert set(here) == {*QUALITY, TYPESCRIPT}


def test_two_runs_agree_to_the_case(here: list[Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def client(self: Options, environment: object = None) -> Client:
        (repository,) = prepared
        return scripted(tmp_path, targets(draw(repository, 3, part.python_names())))()

    prepared: list[Repository] = []
    usual = part.prepare

    def prepare(*arguments: Any) -> Repository:
        prepared[:] = [usual(*arguments)]
        return prepared[0]

    monkeypatch.setattr(part, "prepare", prepare)
    monkeypatch.setattr(Options, "client", client)
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    command = ["quality", "--tuning", "--count", "3"]
    assert bench.main([*command, "--json", str(first)]) == 0
    assert bench.main([*command, "--json", str(second), "--against", str(first)]) == 0
    rows = {row["what"]: row for row in json.loads(second.read_text())["rows"]}
    assert rows["all: exact match"]["value"] == 100
    other = rows["other answers than in the other run"]
    assert (other["value"], other["note"]) == (0, "0 cases only here, 0 only there")
    assert rows["highest minConfidence that loses at most 5 % of the exact matches"]["value"] == 0.5
    assert set(here) == set(TUNING)


def test_packages_that_need_nothing_get_no_environment_and_all_a_cache_of_our_own(
    here: list[Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_directory: Path
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "the shell's"))
    scripted(tmp_path, {}, always="fail")

    def client(self: Options, environment: dict[str, str]) -> Client:
        path = tmp_path / "script.json"
        return Client(command=[sys.executable, "-I", "-S", "-c", SERVER, str(path)], environment=environment)

    monkeypatch.setattr(Options, "client", client)
    bench.main(["quality", "--only", "pymodbus", "--count", "1", "--json", str(tmp_path / "run.json")])
    given = seen(tmp_path, "environment")
    assert given and not any("VIRTUAL_ENV" in each for each in given)
    assert all(each["XDG_CACHE_HOME"] == str(user_directory / ".cache/loracle/bench/servers") for each in given)
    assert all(each["HF_HOME"] == str(user_directory / ".cache/huggingface") for each in given)


def test_some_repositories_can_be_measured_alone(
    here: list[Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Options, "client", lambda self, environment: scripted(tmp_path, {}, always="fail")())
    bench.main(["quality", "--only", "pymodbus,soco", "--count", "1", "--json", str(tmp_path / "run.json")])
    assert {package.name for package in here} == {"pymodbus", "soco"}
    here.clear()
    bench.main(["quality", "--only", "rxjs", "--count", "1", "--json", str(tmp_path / "run.json")])
    assert {package.name for package in here} == {"rxjs", "typescript"}
    with pytest.raises(SystemExit, match="2"):
        bench.main(["quality", "--only", "soco,flask"])
    assert "--only: flask is none of streamlink, beets, soco" in capsys.readouterr().err


@pytest.mark.parametrize("has_one", [True, False])
def test_each_repository_is_answered_with_its_own_adapter(
    has_one: bool, here: list[Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "adapters"
    (folder / ("pymodbus" if has_one else "soco")).mkdir(parents=True)
    serves = {"folder": "somewhere", "problem": None} if has_one else None
    start = scripted(tmp_path, {}, sentences={}, always="fail", adapter=serves)
    monkeypatch.setattr(Options, "client", lambda self, environment: start())
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.json"
    bench.main(["quality", "--only", "pymodbus", "--adapters", "adapters", "--count", "1", "--json", str(path)])
    expected = str(folder / "pymodbus") if has_one else "off"
    assert {settings["adapter"] for settings in seen(tmp_path, "settings")} == {expected}
    written = json.loads(path.read_text())
    assert written["details"]["quality"]["adapters"] == {"pymodbus": expected}
    assert not [each for each in written["details"]["quality"]["problems"]["pymodbus"] if "adapter" in each]
    rows = {row["what"]: row["value"] for row in written["rows"]}
    assert rows["repositories with an adapter"] == int(has_one)
    assert (expected if has_one else "the base model alone") in path.with_suffix(".md").read_text()


def test_adapters_are_in_a_folder(here: list[Package], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(["quality", "--adapters", str(tmp_path / "nowhere")])


def test_an_empty_run_can_be_reported() -> None:
    said = report.report([], [], {}, None, tuning=True)
    assert isinstance(said, Report)
    assert not [row for row in said.rows if row.value not in (None, 0)]


def test_packages_that_settings_are_fitted_on_are_never_reported_on() -> None:
    assert not set(TUNING) & set(QUALITY)
