"""Sentences on functions of held-out files, against the first sentence of the docstring that was taken out of them.

Beside the server's sentence stand two that need no model: the function's name spelled out, and the sentence of the most
similar function in the repository's files on disk.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from finetune.pretrain.bleu import bleu
from finetune.pretrain.chrf import chrf
from finetune.pretrain.first_sentence import first_sentence
from finetune.pretrain.passages import parse
from finetune.pretrain.samples import SourceFile as CorpusFile
from finetune.pretrain.sentences import spelled_out
from finetune.pretrain.similar import SimilarFunctions, training_functions
from tests.bench.client import Client
from tests.bench.heldout import SourceFile
from tests.bench.positions import position_at
from tests.bench.quality.repository import Repository, drawn
from tests.bench.quality.serving import Failure, Serving

EXPLAIN_S = 60.0
SCORES = {"chrf": chrf, "bleu": bleu}
WRITERS = ("server", "name", "similar")


@dataclass(frozen=True, slots=True)
class Function:
    """A function in a document that no longer holds its docstring."""

    repository: str
    path: str
    name: str
    line: int  # of the name, from 1
    document: str
    offset: int  # of the name
    source: str  # without its docstring
    expected: str  # the docstring's first sentence

    @property
    def id(self) -> str:
        return f"{self.repository}/explanation/{self.path}:{self.line}"

    @property
    def file(self) -> str:
        return f"{self.repository}/{self.path}"


@dataclass(frozen=True, slots=True)
class Explained:
    """What was said on a function."""

    function: Function
    sentences: dict[str, str]  # by writer; empty where there is none
    milliseconds: float | None
    problem: str = ""

    def score(self, writer: str, measure: str) -> float:
        """0..1"""
        return SCORES[measure](self.sentences[writer], self.function.expected)


def draw(repository: Repository, n: int) -> list[Function]:
    """`n` functions, fewer where there are not so many, ordered by file and line. Python only."""
    files = [file for file in repository.held_out if file.language_id == "python"]
    found = [function for file in files for function in functions(repository.name, file)]
    kept = sorted(found, key=lambda function: drawn(function.id))[:n]
    return sorted(kept, key=lambda function: (function.path, function.line))


def functions(repository: str, file: SourceFile) -> Iterator[Function]:
    """The functions with an English docstring that has lines of its own and is not their whole body."""
    tree = parse(file.text)
    lines = file.text.split("\n")
    for node in ast.walk(tree) if tree else ():
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
            continue
        docstring = ast.get_docstring(node)
        sentence = first_sentence(docstring) if docstring else None
        first, last = node.body[0].lineno - 1, node.body[0].end_lineno or node.body[0].lineno
        is_alone = not lines[first][: node.body[0].col_offset].strip() and node.body[1].lineno > last
        if sentence is None or not is_alone:
            continue
        document = "\n".join([*lines[:first], *lines[last:]])
        head = "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
        place = sum(len(line) + 1 for line in lines[: node.lineno - 1]) + node.col_offset
        offset = document.index(node.name, place + len(head))
        source = "\n".join([*lines[node.lineno - 1 : first], *lines[last : node.end_lineno]])
        yield Function(repository, file.path, node.name, node.lineno, document, offset, source, sentence)


def explain_all(repository: Repository, chosen: list[Function], serving: Serving) -> list[Explained]:
    """All sentences on the chosen functions."""
    on_disk = [CorpusFile(repository.name, file.path, file.text) for file in repository.on_disk]
    similar = SimilarFunctions(training_functions(on_disk))
    found = []
    for function in chosen:
        asked = serving.do(partial(_asked, function, repository.uri(function.path)))
        sentence, milliseconds = ("", None) if isinstance(asked, Failure) else asked
        like = similar.find(function.source)
        sentences = {"server": sentence, "name": spelled_out(function.name), "similar": like.sentence if like else ""}
        found.append(Explained(function, sentences, milliseconds, asked.why if isinstance(asked, Failure) else ""))
    return found


def _asked(function: Function, uri: str, client: Client) -> tuple[str, float]:
    """The server's sentence, and the milliseconds that it took."""
    target = {"uri": uri, "position": position_at(function.document, function.offset)}
    with client.opened(uri, "python", function.document):
        pending = client.send("workspace/executeCommand", {"command": "loracle.explain", "arguments": [target]})
        sentence = pending.result(EXPLAIN_S)["sentence"] or ""
    if not isinstance(sentence, str):
        raise TypeError(f"a sentence is a text, not {sentence!r}")
    return sentence, 1000 * (pending.arrived_at - pending.sent_at)
