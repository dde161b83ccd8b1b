"""Cases through the protocol: what is offered at each, how sure the server is, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tests.bench.client import Client
from tests.bench.positions import position_at
from tests.bench.quality.cases import Case
from tests.bench.quality.serving import Failure, Serving
from tests.bench.suggestion import Item, items_of

# Answers must not depend on how fast the machine is, so there is no debounce and a deadline that is never reached.
# Everything is shown, to look at any threshold afterwards; one line is asked for, as one line is compared.
COMPLETION = {"debounceMs": 0, "deadlineMs": 20_000, "minConfidence": 0, "multiline": "never"}
ANSWER_S = 40.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a case."""

    text: str  # first line of what would be written behind the cursor; empty for nothing
    confidence: float | None  # 0..1; None where nothing was offered
    milliseconds: float | None  # from the request to its answer, the document read before; None when it failed
    ended: str  # in the server's words
    problem: str = ""  # a failure, where there was one
    sources: frozenset[str] = frozenset()  # paths of the files that the index says it is from


def answer(case: Case, uri: str, serving: Serving) -> Answer:
    """The answer at a case; an empty one, with the reason, when the server fails."""
    found = serving.do(partial(_asked, case, uri))
    return Answer("", None, None, "", found.why) if isinstance(found, Failure) else found


def _asked(case: Case, uri: str, client: Client) -> Answer:
    with client.opened(uri, case.language_id, case.document):  # no held-out file is to help with another
        # How far the server has read ahead decides how many tokens are computed together, and so the last digit of
        # their probabilities: of two alike, now the one and now the other would be offered.
        client.wait_until_idle(ANSWER_S)
        pending = client.ask(uri, position_at(case.document, len(case.before)))
        items = items_of(pending.result(ANSWER_S), case.document)
        milliseconds = 1000 * (pending.arrived_at - pending.sent_at)
        why = client.execute("loracle.why", timeout_s=ANSWER_S)
    text = written(items[0], case) if items else ""
    sources = frozenset(str(each["path"]) for token in why.get("tokens", ()) for each in token["sources"])
    confidence = float(why["confidence"]) if items else None
    return Answer(text, confidence, milliseconds, str(why["ended"]), sources=sources)


def written(item: Item, case: Case) -> str:
    """The first line of what an item puts behind the cursor."""
    typed = case.before[item.start :]  # what of the item stands there already
    return item.text.removeprefix(typed).split("\n")[0].rstrip()
