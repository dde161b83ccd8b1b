"""What a setting's declared type and range let it be: checked, said in words, and as a JSON schema.

Knows no setting by name, nor where a value comes from.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal, get_args, get_origin


def checked(value: object, kind: Any, low: float | None, high: float | None) -> tuple[bool, Any]:
    """Whether `value` is of the declared kind and within its range, and the value in that kind."""
    if get_origin(kind) is Literal:
        return value in get_args(kind), value
    if kind is bool:
        return isinstance(value, bool), value
    if kind is str:
        return isinstance(value, str) and value != "", value
    if kind == tuple[str, ...]:
        valid = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        return valid, tuple(value) if isinstance(value, (list, tuple)) else ()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False, value
    if isinstance(value, float) and not math.isfinite(value):
        return False, value
    whole = kind is not float
    # Some editors know only one kind of number and send 30.0.
    number = int(value) if whole and value == int(value) else value
    in_range = (low is None or number >= low) and (high is None or number <= high)
    return in_range and (not whole or isinstance(number, int)), number


def expected(kind: Any, low: float | None, high: float | None) -> str:
    """The valid values of a declaration in words."""
    if get_origin(kind) is Literal:
        *most, last = (f'"{choice}"' for choice in get_args(kind))
        return f"{', '.join(most)} or {last}"
    if kind in (bool, str) or kind == tuple[str, ...]:
        return {bool: "true or false", str: "a text"}.get(kind, "a list of texts")
    number = "a number" if kind is float else "a whole number"
    return number if low is None or high is None else f"{number} from {low:g} to {high:g}"


def shown(value: object) -> str:
    """A value as JSON for a message, cut where it is long."""
    try:
        text = json.dumps(value, default=str)
    except ValueError:  # Python writes no whole number of more than a few thousand digits
        return "a value that is too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


def type_schema(kind: Any, low: float | None, high: float | None) -> dict[str, Any]:
    """The valid values of a declaration as a JSON schema."""
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    if kind == tuple[str, ...]:
        return {"type": "array", "items": {"type": "string"}}
    names: dict[Any, Any] = {bool: "boolean", str: "string", int: "integer", float: "number"}
    names[int | None] = ["integer", "null"]
    limits = {name: limit for name, limit in (("minimum", low), ("maximum", high)) if limit is not None}
    return {"type": names.get(kind, "object"), **limits}
