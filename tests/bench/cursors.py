"""Held-out cursors through the protocol: whether what is offered there is sound, and how often it is right.

Default settings but for two, so that the answers do not depend on the machine: no debounce, and a deadline that is
never reached. What the checker finds is printed with its cursor drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.checker import Judgement, judge
from tests.bench.options import Options
from tests.bench.places import KIND_SHARES, Place, draw
from tests.bench.positions import position_at
from tests.bench.suggestion import Item, items_of
from tests.bench.table import BenchError, Row, share

PART = "cursors"
N_PLACES, N_QUICK_PLACES = 2000, 100
AT_EASE = {"debounceMs": 0, "deadlineMs": 20_000}
N_LINES_ABOVE, N_LINES_BELOW = 4, 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What came at a place, None for nothing, and the judgement on it."""

    place: Place
    item: Item | None
    judgement: Judgement

    @property
    def is_exact(self) -> bool:
        """Whether the first line of the item is what stood there."""
        if self.item is None:
            return False
        typed = self.place.before[self.item.start :]  # what of the item stands there already
        first = self.item.text[len(typed) :].split("\n")[0]
        return first.strip() == self.place.target.strip()


def run(options: Options) -> list[Row]:
    """Asks at all places and judges every answer."""
    if not options.files:
        raise BenchError("no held-out file was fetched")
    answers = []
    with options.client() as client:
        client.initialize({**options.settings, "completion": AT_EASE | dict(options.completion)})
        client.wait_for_model()
        for place in draw(options.files, options.n(N_PLACES, N_QUICK_PLACES), PART):
            client.open(place.file.uri, place.file.language_id, place.document)
            pending = client.ask(place.file.uri, position_at(place.document, len(place.before)))
            found = items_of(pending.result(), place.document)
            answer = judged(place, found[0] if found else None)
            if not answer.judgement.is_sound:
                print(drawn(answer), end="\n\n", flush=True)
            answers.append(answer)
    return rows(answers)


def judged(place: Place, item: Item | None) -> Answer:
    """The answer with the checker's judgement."""
    if item is None:
        return Answer(place, None, Judgement())
    document = place.document
    judgement = judge(document[: item.start], item.text, document[item.end :], place.file.language_id)
    return Answer(place, item, judgement)


def drawn(answer: Answer) -> str:
    """The place with the item in it, between ⟦ and ⟧, and what is wrong."""
    place, item, judgement = answer.place, answer.item, answer.judgement
    assert item is not None
    above = place.document[: item.start].split("\n")
    below = place.document[item.end :].split("\n")
    number = len(above)
    lines = [*above[-1 - N_LINES_ABOVE : -1], f"{above[-1]}⟦{item.text}⟧{below[0]}", *below[1 : 1 + N_LINES_BELOW]]
    wrong = "; ".join(filter(None, (judgement.repeats, judgement.breaks)))
    return f"{place.file.path}:{number} ({place.kind}): {wrong}\n" + "\n".join(
        f"  | {line}" for line in "\n".join(lines).split("\n")
    )


def rows(answers: Sequence[Answer]) -> list[Row]:
    """The figures over all answers."""
    shown = [answer for answer in answers if answer.item is not None]
    n_shown = len(shown)

    def found(what: str, n: int, at_most: float | None = None) -> Row:
        return Row(PART, what, n, "items", at_most=at_most, note=f"of {n_shown} at {len(answers)} cursors")

    result = [
        found("repeat what follows", sum(bool(answer.judgement.repeats) for answer in shown), 0),
        found("add a syntax error", sum(bool(answer.judgement.breaks) for answer in shown), 0),
        found("lack only their end", sum(answer.judgement.is_unfinished for answer in shown)),
        Row(PART, "cursors with an item", share(n_shown, len(answers)), "%"),
    ]
    n_of_kind = Counter(answer.place.kind for answer in answers)
    for kind in KIND_SHARES:
        of_kind = [answer for answer in shown if answer.place.kind == kind]
        result.append(Row(PART, f"  {kind}", share(len(of_kind), n_of_kind[kind]), "%", note=f"of {n_of_kind[kind]}"))
    with_target = [answer for answer in answers if answer.place.target]
    n_exact = sum(answer.is_exact for answer in with_target)
    n_offered = sum(answer.item is not None for answer in with_target)
    n_characters = sum(len(answer.item.text) for answer in shown if answer.item)
    n_several = sum("\n" in answer.item.text for answer in shown if answer.item)
    result += [
        Row(PART, "first line exactly as it was", share(n_exact, len(with_target)), "%", note=f"of {len(with_target)}"),
        Row(PART, "  of those offered", share(n_exact, n_offered), "%", note=f"of {n_offered}"),
        Row(PART, "characters an item", n_characters / n_shown if n_shown else None),
        Row(PART, "items of several lines", n_several, "items"),
    ]
    return result
