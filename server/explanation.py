"""Explanations: what is known of a piece of code, and one sentence of the model's about it.

`facts` finds out what is known; the sentence comes from the model and is marked as its own. `Explainer` keeps what a
server needs from one question to the next. Knows nothing of the protocol.
"""

from __future__ import annotations

import ast
import logging
import re
import textwrap
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from server.facts import Facts, Subject, facts_around, facts_at
from server.lm.context import Document
from server.markdown import code, hover_markdown
from server.sentence import Sentence, one_sentence, sentence_end
from server.settings import HoverSettings
from server.source_file import root_of
from server.static_analysis import StaticAnalysis

if TYPE_CHECKING:
    from server.lm.model import LoadedModel

logger = logging.getLogger(__name__)

# A sentence below is withheld, unless hover.generate is "always". Of 237 functions of the packages that settings are
# fitted on 28 % are above: chrF 29.8 there, 22.6 below. Down to 0.3 another 14 % would be shown, many of them false.
MIN_CONFIDENCE = 0.34
_STUB = re.compile(r"pass|\.\.\.|raise NotImplementedError(?:\(.*\))?", re.DOTALL)
EXPLAINED_LANGUAGES = frozenset({"python", "javascript", "javascriptreact", "typescript", "typescriptreact"})
MAX_NEW_TOKENS = 48
GENERATION_LIMIT_S = 10.0  # for one sentence, also after whoever asked has stopped waiting
MAX_KEPT_SENTENCES = 256

# The ids under which Markdown renderers know the languages of our fenced blocks, where they differ from the editor's.
FENCE_NAMES = {"typescriptreact": "tsx", "javascriptreact": "jsx", "plaintext": "text"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is shown about a place in a document."""

    markdown: str
    sentence: str | None  # the model's, also when the Markdown holds it; None when withheld
    confidence: float  # 0..1 in the sentence, also in a withheld one; 0.0 when there was none
    start: int  # offsets of what it is about: the name, or the explained code
    end: int


class Explainer:
    """The static analysis of one workspace, and the sentences written so far. Any thread may ask it."""

    def __init__(self, workspace_root: Path | None) -> None:
        self._root = workspace_root  # for what lies in no workspace folder
        self._analysis = StaticAnalysis(workspace_root)
        self._lock = threading.Lock()
        self._sentences: OrderedDict[Hashable, Sentence] = OrderedDict()

    def facts_at(self, document: Document, offset: int, timeout_s: float) -> Facts | None:
        """As `facts.facts_at`: blocks for at most `timeout_s` and the parsing of the document."""
        return facts_at(document, offset, root_of(document) or self._root, self._analysis, timeout_s)

    def warm_up(self) -> None:
        """Starts the static analysis in the background, so that the first hover need not."""
        self._analysis.warm_up()

    def kept(self, subject: Subject, model: LoadedModel) -> Sentence | None:
        """The sentence that `model` wrote on `subject` before."""
        with self._lock:
            return self._sentences.get((model.fingerprint, subject))

    def sentence_on(
        self, subject: Subject, model: LoadedModel, *, cancelled: Callable[[], bool], deadline: float | None = None
    ) -> Sentence | None:
        """A sentence written before, else a new one, which is kept; for the model's own thread.

        None when the model cannot explain, wrote no words, or was cancelled. `deadline` is in seconds of
        `time.monotonic`; without one, `GENERATION_LIMIT_S` from now.
        """
        sentence = self.kept(subject, model)
        if sentence is None:
            sentence, is_whole = write_sentence(subject, model, cancelled=cancelled, deadline=deadline)
            if sentence is not None and is_whole:
                self._keep((model.fingerprint, subject), sentence)
        return sentence

    def _keep(self, key: Hashable, sentence: Sentence) -> None:
        with self._lock:
            self._sentences[key] = sentence
            while len(self._sentences) > MAX_KEPT_SENTENCES:
                self._sentences.popitem(last=False)

    def close(self) -> None:
        """Ends the static analysis."""
        self._analysis.close()


def write_sentence(
    subject: Subject, model: LoadedModel, *, cancelled: Callable[[], bool], deadline: float | None
) -> tuple[Sentence | None, bool]:
    """One sentence of the model on `subject`, and whether it had the time to end it."""
    from server.lm.decode import generate
    from server.lm.prompt import explanation_prompt

    if not model.supports_explanations:
        return None, False
    n_positions = model.engine.config.n_positions
    source = subject.source.replace("\r\n", "\n").replace("\r", "\n")
    prompt = explanation_prompt(subject.path, source, model.tokenizer, n_positions, MAX_NEW_TOKENS)
    generation = generate(
        model.explanation_cache,
        prompt,
        model.tokenizer,
        model.token_index,
        stop=sentence_end,
        max_new_tokens=MAX_NEW_TOKENS,
        deadline=deadline if deadline is not None else time.monotonic() + GENERATION_LIMIT_S,
        cancelled=cancelled,
    )
    logger.info(
        "explain: %s, %d prompt tokens of which %d cached, %d new, %.0f + %.0f ms",
        generation.finish,
        generation.n_prompt_tokens,
        generation.n_cached_tokens,
        generation.n_new_tokens,
        generation.prefill_ms,
        generation.decode_ms,
    )
    if generation.finish == "cancelled":
        return None, False
    sentence = one_sentence(
        generation.text,
        mean_logprob=generation.mean_logprob,
        finished=generation.finish == "stop",
        name=subject.name,
        source=source,
    )
    return sentence, generation.finish != "deadline"


def in_force(hover: HoverSettings, model: LoadedModel | None) -> HoverSettings:
    """The settings, with `auto` meaning `never` for a model whose sentences are no better than a name spelled out."""
    if hover.generate == "auto" and model is not None and not model.explains_by_default:
        return replace(hover, generate="never")
    return hover


def wanted_subject(facts: Facts, hover: HoverSettings) -> Subject | None:
    """What a hover wants a sentence on; None when the facts are enough, or nothing is to be generated.

    By itself for the languages alone that the model that comes along has read.
    """
    if hover.generate == "never" or facts.documentation or facts.subject is None:
        return None
    is_known = facts.language.id in EXPLAINED_LANGUAGES and not _is_stub(facts.subject)
    return facts.subject if hover.generate == "always" or is_known else None


def _is_stub(subject: Subject) -> bool:
    """Whether a Python function does nothing that a sentence could be about."""
    try:
        (function,) = ast.parse(textwrap.dedent(subject.source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    body = function.body if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) else []
    return bool(body) and all(_STUB.fullmatch(ast.unparse(statement)) for statement in body)


def explanation_of(
    facts: Facts, sentence: Sentence | None, *, always: bool, subject: Subject | None = None
) -> Explanation:
    """What is shown of facts and a sentence, which is withheld when the model is unsure, unless `always`.

    `subject` is what the sentence is about, where that is not what the facts are about.
    """
    is_shown = sentence is not None and (always or sentence.confidence >= MIN_CONFIDENCE)
    text = sentence.text if sentence is not None and is_shown else None
    confidence = sentence.confidence if sentence is not None else 0.0
    about = ""
    if subject is not None and subject != facts.subject:
        about = f"the {subject.kind} {code(subject.name)}" if subject.name else f"the {subject.kind}"
    fence = FENCE_NAMES.get(facts.language.id, facts.language.id)
    markdown = hover_markdown(facts.signature, fence, _place(facts), facts.documentation, text, confidence, about)
    return Explanation(markdown, text, confidence, facts.start, facts.end)


def _place(facts: Facts) -> str:
    """Kind and place of what is shown, as Markdown: the path and line, or the module of what has no file."""
    kind = f"*{facts.kind}*"
    if facts.path:
        return f"{kind} · {code(f'{facts.path}:{facts.line}' if facts.line else facts.path)}"
    return f"{kind} · {code(facts.module)}" if facts.module else kind


def explain(
    document: Document,
    offset: int,
    model: LoadedModel | None,
    hover: HoverSettings,
    *,
    cancelled: Callable[[], bool],
    deadline: float | None,
    always: bool,
    end: int | None = None,
    explainer: Explainer | None = None,
    facts: Facts | None = None,
) -> Explanation:
    """What is to be said about a place because somebody asks: also where there is a docstring or no name.

    With `end`, about the selection from `offset` to there. `facts` are those of the name at `offset` when they are
    known; else this file alone is asked. For the model's own thread.
    """
    if facts is None and end in (None, offset):
        facts = facts_at(document, offset, None)
    facts, subject = asked_about(document, offset, offset if end is None else end, facts)
    sentence: Sentence | None = None
    if model is not None and subject is not None and (always or hover.generate != "never"):
        if explainer is not None:
            sentence = explainer.sentence_on(subject, model, cancelled=cancelled, deadline=deadline)
        else:
            sentence, _ = write_sentence(subject, model, cancelled=cancelled, deadline=deadline)
    return explanation_of(facts, sentence, always=always, subject=subject)


def asked_about(document: Document, start: int, end: int, facts: Facts | None) -> tuple[Facts, Subject | None]:
    """What is known of a place or a selection, and what a sentence is to be about. Parses the document.

    `facts` are those of the name at the place, if there are any: where no sentence can be about it, one is about the
    code around it.
    """
    around = facts_around(document, start, end)
    facts = facts or around
    return facts, facts.subject or around.subject
