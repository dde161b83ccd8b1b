"""What one adaptation does: steps, lengths and sizes, chosen for the data and the time there is. A plan can be kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from server.lm.errors import UserError

MAX_EPOCHS = 6.0
ROW_LENGTH = 512
BATCH_ROWS = 8
TARGETS = ("c_attn", "c_proj", "c_fc")


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the adapter, beside the base model and the text."""

    steps: int
    length: int = ROW_LENGTH  # tokens a row
    batch_rows: int = BATCH_ROWS
    rank: int = 32
    alpha: int = 64
    learning_rate: float = 5e-4
    warmup_steps: int = 20
    weight_decay: float = 0.01
    validate_every: int = 25  # steps
    threads: int = 1
    seed: int = 0
    bf16: bool = False  # whether matrix products are made in bfloat16: fast on some processors, the same elsewhere


def write_plan(plan: Plan, path: Path) -> None:
    """Keeps a plan. UserError when it cannot be written."""
    try:
        path.write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the plan {path} ({error.strerror}); name another file") from error


def read_plan(path: Path) -> Plan:
    """A plan that was kept, or written by hand. UserError names what is wrong."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the plan {path}: {error}; `--report` writes one") from error
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
        if isinstance(value, bool) or not is_number or value < (0 if name in ("seed", "weight_decay") else 1e-9):
            raise UserError(f"the plan {path} has {name} = {value!r}; a {kind.__name__} above 0 is needed")
    return Plan(**values)


def plan_for(n_rows: int, seconds_per_step: float, budget_s: float, threads: int, seed: int, **chosen: Any) -> Plan:
    """The plan that fits `n_rows` of an epoch into a budget; `chosen` fields are kept as they are."""
    batch = int(chosen.get("batch_rows", BATCH_ROWS))
    whole = MAX_EPOCHS * n_rows / batch
    steps = max(int(min(whole, budget_s / max(seconds_per_step, 1e-9))), 1)
    rank = 16 if n_rows < 200 else 32
    values = {
        "steps": steps,
        "rank": rank,
        "alpha": 2 * int(chosen.get("rank", rank)),
        "warmup_steps": max(min(steps // 10, 20), 1),
        "validate_every": max(steps // 12, 5),
        "threads": threads,
        "seed": seed,
    }
    return Plan(**{**values, **chosen})
