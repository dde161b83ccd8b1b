"""What came of comparing the engines, as a table: ratios first, milliseconds second."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from server.lm.engine import ModelConfig
from tests.bench.engines_candidates import CANDIDATES, OWN, REFERENCE
from tests.bench.engines_weights import n_parameters
from tests.bench.page import Plot, Report, Section, Table
from tests.bench.plots import Estimate, bars
from tests.bench.table import Row, number

PART = "engines"
N_CACHED, N_TYPED, N_COMPLETION = 600, 2, 24
COLD, KEYSTROKE, COMPLETION = f"{N_CACHED} tokens cold", "one keystroke", f"{N_COMPLETION} tokens"
BUSY = f"{N_COMPLETION} tokens, busy neighbour"
CASES = (COLD, KEYSTROKE, COMPLETION, BUSY)


@dataclass(slots=True)
class Timed:
    """One engine with one number of threads."""

    seconds: dict[str, list[float]] = field(default_factory=dict)  # by case, one value a round
    problem: str = ""  # why there are no values, or why they are not to be trusted


@dataclass(frozen=True, slots=True)
class Block:
    """All engines with one shape and one number of threads."""

    config: ModelConfig
    threads: int
    timed: Mapping[str, Timed]  # by name of the engine
    agreement: Mapping[str, str]  # the same: how it compares with the reference

    @property
    def title(self) -> str:
        return f"{n_parameters(self.config) / 1e6:.1f} M parameters, {counted(self.threads, 'thread')}"

    def ratios(self, name: str, case: str) -> list[float]:
        """By round, what an engine took to what our 8-bit engine took; none where either has no values."""
        ours = self.timed[OWN.name].seconds.get(case, [])
        theirs = self.timed[name].seconds.get(case, [])
        return [their / our for their, our in zip(theirs, ours, strict=False)]


def report(blocks: Sequence[Block]) -> Report:
    """Tables with ratios first, milliseconds second."""
    rows = [_row(block, candidate.name) for block in blocks for candidate in CANDIDATES]
    wrong = sorted({name for block in blocks for name, text in block.agreement.items() if text.startswith("✗")})
    summary = Row(PART, "engines that compute something else", len(wrong), "engines", at_most=0, note=", ".join(wrong))
    details = {
        block.title: {
            name: {case: [round(1000 * value, 3) for value in values] for case, values in timed.seconds.items()}
            for name, timed in block.timed.items()
        }
        for block in blocks
    }
    return Report([*rows, summary], [_section(blocks)], details)


def _section(blocks: Sequence[Block]) -> Section:
    text = (
        "The same random weights in every engine, all in one run, taking turns. Times as multiples of our 8-bit "
        f"engine's (median over the rounds), milliseconds (median) in brackets. Cold: {N_CACHED} tokens of which none "
        f"is in the cache, and the best next token. Keystroke: {N_CACHED} cached, {N_TYPED} fed, and the best next "
        f"token. {N_COMPLETION} tokens: the same, and {N_COMPLETION} tokens written. Busy neighbour: while another "
        "process keeps one core at work."
    )
    contents: list[Table | Plot] = []
    for block in blocks:
        table = [
            (candidate.name, *(_cell(block, candidate.name, case) for case in CASES), _verdict(block, candidate.name))
            for candidate in CANDIDATES
        ]
        contents.append(Table((block.title, *CASES, "beside the reference"), table, n_remarks=1))
    contents[-1] = _with_notes(contents[-1])
    contents.append(_plot(blocks[0]))
    return Section("Engines", contents, text)


def _with_notes(table: Table | Plot) -> Table:
    assert isinstance(table, Table)
    notes = (
        f"Our engines and the reference are fed as the server feeds them: by chunks, so that a cancel is quick. "
        f"CTranslate2 keeps one fixed prompt, here the {N_CACHED} tokens; in an editor the prompt is never fixed.",
        "Beside the reference: fp32 engines must write the same tokens; of the others, best tokens that are those of "
        "fp32, after random tokens, where many are close to each other (`fidelity` compares ours on real text).",
    )
    return replace(table, notes=notes)


def _plot(block: Block) -> Plot:
    names = [candidate.name for candidate in CANDIDATES if block.timed[candidate.name].seconds]
    series = {
        case: [_estimate(block.timed[name].seconds.get(case, [])) for name in names] for case in (COMPLETION, BUSY)
    }
    return bars(names, series, axis="ms", caption=f"{block.title}: median, fastest and slowest round.")


def _estimate(seconds: Sequence[float]) -> Estimate | None:
    if not seconds:
        return None
    return Estimate(1000 * statistics.median(seconds), 1000 * min(seconds), 1000 * max(seconds))


def _row(block: Block, name: str) -> Row:
    """A completion of one engine; the other cases in the note."""
    ratios = block.ratios(name, COMPLETION)
    parts = [f"{case} {_cell(block, name, case)}" for case in CASES if block.timed[name].seconds.get(case)]
    note = "; ".join([*parts, _verdict(block, name)])
    value = statistics.median(ratios) if ratios else None
    return Row(PART, f"{block.title}: {name}", value, "× own 8-bit", note=note, is_timing=True)


def _cell(block: Block, name: str, case: str) -> str:
    """Ratio, then milliseconds: 1.25 × (31.0)."""
    seconds, ratios = block.timed[name].seconds.get(case, []), block.ratios(name, case)
    if not seconds:
        return "-"
    took = f"({number(1000 * statistics.median(seconds))})"
    return f"{statistics.median(ratios):.2f} × {took}" if ratios else took


def _verdict(block: Block, name: str) -> str:
    if block.timed[name].problem:
        return block.timed[name].problem
    return "is the reference" if name == REFERENCE.name else block.agreement.get(name, "-")


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
