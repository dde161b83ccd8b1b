"""Whether an adapter may be published, with the reasons in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from finetune.scoring import Interval

MIN_POINTS = 40  # that must have been asked about, where there are so many
MAX_GENERAL_RISE = 0.02  # of the base's bits per byte of general code


class Judged(Protocol):
    """What the gate looks at of an evaluation."""

    @property
    def bits_change(self) -> Interval | None:
        """Adapter less base, bits per byte of held-out files."""

    @property
    def exact_interval(self) -> Interval | None:
        """Adapter + index less base + index, share of exact matches."""

    @property
    def n_points(self) -> int:
        """Points at which suggestions were compared."""

    @property
    def n_drawn(self) -> int:
        """Points that there were to compare at."""

    @property
    def general_before(self) -> float:
        """Bits per byte of general code under the base."""

    @property
    def general_after(self) -> float:
        """The same under the adapter."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to publish; the reasons against it, none when it is published."""

    publish: bool
    reasons: tuple[str, ...]


def decide(evaluation: Judged, memorised: Sequence[object], n_unprompted: int = 0) -> Decision:
    """Publishes what makes the repository surely easier to predict, is not behind, forgets little and keeps secrets.

    Behind is who, with the index, has fewer lines right, be it one. `memorised` came back; for `n_unprompted` there
    was no time.
    """
    reasons = []
    bits, exact = evaluation.bits_change, evaluation.exact_interval
    if bits is None:
        reasons.append("No held-out text was measured, so nothing shows that the adapter helps.")
    elif not math.isfinite(bits.low) and not math.isnan(bits.mean):
        reasons.append(
            f"Held-out bits per byte changed by {bits.mean:+.3f} in a single file, which tells nothing of others; "
            f"at least 2 held-out files are needed."
        )
    elif not bits.high < 0:
        reasons.append(
            f"Held-out files are not surely easier to predict: bits per byte changed by {bits.mean:+.3f} "
            f"(95 % interval {bits.low:+.3f} to {bits.high:+.3f}), and the whole interval must be below 0."
        )
    if exact is None:
        reasons.append("No suggestion was compared, so nothing shows that the adapter does no harm.")
    elif evaluation.n_points < min(MIN_POINTS, evaluation.n_drawn):
        reasons.append(
            f"There was time to compare {evaluation.n_points} suggestions of {evaluation.n_drawn}, and at least "
            f"{min(MIN_POINTS, evaluation.n_drawn)} are needed to tell whether the adapter does harm; `--resume` "
            f"compares again without training, when the machine is less busy."
        )
    elif not exact.mean >= 0:
        reasons.append(
            f"With the index, the adapter has {_n_fewer(exact, evaluation)} than the base ({100 * exact.mean:+.1f} "
            f"percentage points, 95 % interval {100 * exact.low:+.1f} to {100 * exact.high:+.1f}), and none may be "
            f"fewer, even if that is chance; a report (`--report`) shows which. A run when more code has been written, "
            f"or with more time, may gain more."
        )
    rise = evaluation.general_after / evaluation.general_before - 1 if evaluation.general_before > 0 else float("nan")
    allowed = (1 + MAX_GENERAL_RISE) * evaluation.general_before
    if math.isnan(rise) or not evaluation.general_after <= allowed:
        reasons.append(
            f"General code has become harder to predict by {100 * rise:.1f} %; "
            f"at most {100 * MAX_GENERAL_RISE:.0f} % is allowed."
        )
    if memorised:
        reasons.append(f"The adapter gives back {len(memorised)} secret(s) or canaries that it must not know.")
    if n_unprompted:
        reasons.append(
            f"There was no time to ask whether the adapter gives back {n_unprompted} of the secrets; `--resume` asks "
            f"again without training, when the machine is less busy."
        )
    return Decision(not reasons, tuple(reasons))


def _n_fewer(exact: Interval, evaluation: Judged) -> str:
    """How many lines less are right, and of how many."""
    if math.isnan(exact.mean):
        return "an unknown number of exact matches fewer"
    n = round(-exact.mean * evaluation.n_points)
    return f"{n} exact match{'es' * (n != 1)} fewer of {evaluation.n_points} lines"
