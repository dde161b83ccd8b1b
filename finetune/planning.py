"""What one adaptation does: steps, lengths and sizes, chosen for the data and the time there is. A plan can be kept."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from server.lm.errors import UserError

RANK, SMALL_RANK = 16, 4
FEW_TOKENS = 50_000  # of the repository that are seen at all: for these the small rank is as good
LEARNING_RATE = 5e-4
MAX_EPOCHS = 10.0
N_LOOKS, MIN_LOOKS = 12, 4  # at the validation rows
LOOKS_SHARE = 0.1  # of the budget, for them
VALIDATION_ROWS, MIN_VALIDATION_ROWS = 24, 4
MAX_LOOKS_SHARE = 0.2  # of the budget, that the fewest looks may take: where it is short, they are at fewer rows
MIN_GENERAL, MAX_GENERAL = 2.0, 4.0  # weight of general code
MAY_BE_NOUGHT = ("seed", "weight_decay", "general_rows", "general_weight", "stop_after")
RESERVE = 0.05  # of the budget, for steps that take longer than those that were timed
ROW_LENGTH, SHORT_ROW_LENGTH = 512, 256
FEW_STEPS = 60  # that the time allows: then twice as many on short rows learn as much or more
BATCH_ROWS = 3
MAX_GENERAL_ROWS = 256  # of general code, that the steps draw from


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the adapter, beside the base model and the text."""

    steps: int  # over which the rate falls
    stop_after: int = 0  # steps at which a run ended before, because its time was over; 0: none
    length: int = ROW_LENGTH  # tokens a row
    batch_rows: int = BATCH_ROWS  # of the repository
    general_rows: int = 1  # beside them, of general code, on which the base itself is what is wanted
    general_weight: float = MAX_GENERAL  # of these, beside 1 for the repository's
    rank: int = RANK
    alpha: int = 2 * RANK
    learning_rate: float = LEARNING_RATE
    warmup_steps: int = 20
    weight_decay: float = 0.01
    validate_every: int = 25  # steps
    validation_rows: int = VALIDATION_ROWS
    threads: int = 1
    seed: int = 0
    tokens: bool = True  # whether the embeddings of the tokens that occur are trained as well
    bf16: bool = False  # whether matrix products are made in bfloat16: fast on some processors, the same elsewhere


def write_plan(plan: Plan, path: Path) -> None:
    """Keeps a plan. UserError when it cannot be written."""
    try:
        path.write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the plan {path} ({error.strerror}); name another file") from error


def read_plan(path: Path) -> Plan:
    """A plan from a report (`--report`), an adapter's manifest, or a file of its own. UserError names what is wrong."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the plan {path}: {error}; a report of `--report` holds one") from error
    for holder in ("manifest", "plan"):
        if isinstance(values, dict) and isinstance(values.get(holder), dict):
            values = values[holder]
    kinds = {each.name: type(getattr(Plan(1), each.name)) for each in fields(Plan)}
    if not isinstance(values, dict) or "steps" not in values:
        raise UserError(f"the plan {path} is no JSON object with `steps`; known are {', '.join(kinds)}")
    for name, value in values.items():
        kind = kinds.get(name)
        if kind is None:
            raise UserError(f"the plan {path} has {name}, which is not known; known are {', '.join(kinds)}")
        if kind is bool and isinstance(value, bool):
            continue
        is_number = isinstance(value, int) or (kind is float and isinstance(value, float))
        if isinstance(value, bool) or not is_number or value < (0 if name in MAY_BE_NOUGHT else 1e-9):
            raise UserError(f"the plan {path} has {name} = {value!r}; a {kind.__name__} above 0 is needed")
    return Plan(**values)


def n_steps_of(plan: Plan) -> int:
    """The steps that are taken."""
    return min(plan.steps, plan.stop_after or plan.steps)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take here, in seconds."""

    step: float
    look: float = 0.0  # at all validation rows
    general: float = 0.0  # to read the general code of one step for the first time


def plan_for(n_rows: int, pace: Pace, budget_s: float, threads: int, seed: int, **chosen: Any) -> Plan:
    """The plan that fits `n_rows` of an epoch into a budget; `chosen` fields are kept as they are.

    Rank, rate, batch, length and weight were compared on the tuning packages (ARCHITECTURE.md, decision 29). The more
    often the same rows come, the more general code weighs: within the first epoch next to nothing is forgotten.
    """
    batch = int(chosen.get("batch_rows", BATCH_ROWS))
    n_looks = n_looks_for(pace, budget_s)
    whole = MAX_EPOCHS * n_rows / batch
    left_s = (1 - RESERVE) * budget_s - (n_looks + 2) * pace.look
    # Each step draws general code anew, until all of it has been read.
    affordable = max(left_s / max(pace.step + pace.general, 1e-9), (left_s - general_s(pace)) / max(pace.step, 1e-9))
    steps = max(int(min(whole, affordable)), 1)
    epochs = steps * batch / max(n_rows, 1)
    n_tokens = min(n_rows, steps * batch) * int(chosen.get("length", ROW_LENGTH))
    rank = int(chosen.get("rank", RANK if n_tokens >= FEW_TOKENS else SMALL_RANK))
    values = {
        "steps": steps,
        "rank": rank,
        "alpha": 2 * rank,
        "general_weight": round(min(max(epochs, MIN_GENERAL), MAX_GENERAL), 1),
        "warmup_steps": max(min(steps // 10, 20), 1),
        "validate_every": max(math.ceil(steps / n_looks), 5),
        "threads": threads,
        "seed": seed,
    }
    return Plan(**{**values, **chosen})


def general_s(pace: Pace, n_steps: int = MAX_GENERAL_ROWS) -> float:
    """How long the general code of so many steps is read at most."""
    return min(n_steps, MAX_GENERAL_ROWS) * pace.general


def expected_s(plan: Plan, pace: Pace, budget_s: float) -> float:
    """How long a training by this plan takes."""
    return plan.steps * pace.step + general_s(pace, plan.steps) + (n_looks_for(pace, budget_s) + 2) * pace.look


def is_hurried(plan: Plan, n_rows: int) -> bool:
    """Whether it is time, not data, that leaves so few steps that shorter rows are better."""
    return plan.length > SHORT_ROW_LENGTH and plan.steps < min(FEW_STEPS, int(MAX_EPOCHS * n_rows / plan.batch_rows))


def n_validation_rows_for(n_rows: int, look_s: float, budget_s: float) -> int:
    """How many of `n_rows`, which take `look_s` together, are looked at."""
    affordable = n_rows * MAX_LOOKS_SHARE * budget_s / max((MIN_LOOKS + 2) * look_s, 1e-9)
    return min(max(int(affordable), MIN_VALIDATION_ROWS), n_rows)


def n_looks_for(pace: Pace, budget_s: float) -> int:
    """How often the validation rows are looked at between the first and the last time."""
    return max(min(N_LOOKS, int(LOOKS_SHARE * budget_s / max(pace.look, 1e-9)) - 2), MIN_LOOKS)
