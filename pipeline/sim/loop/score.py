"""The table: every scenario under every policy, the best of each column, and where ours is not.

Rule: values are compared as they are shown (meter.COLUMNS). None (no relief while it was watched)
is worse than any number. Ours is beyond one per cent where it is worse than the best by more than
1 % of the best; it is the worst where no other is worse and it is beyond one per cent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.sim.loop.meter import COLUMNS, Column

OURS = "edgesteer"
_NEAR = 0.01
#: scenario -> policy -> column -> value
Scores = Mapping[str, Mapping[str, Mapping[str, float | None]]]


@dataclass(frozen=True, slots=True)
class Loss:
    """A (scenario, column) in which ours is more than 1 % behind the best."""

    scenario: str
    column: str
    ours: float | None
    best: float | None
    by: str
    worst: bool


def badness(column: Column, value: float | None) -> float:
    """The smaller, the better."""
    if value is None:
        return float("inf")
    return -value if column.larger else value


def best_of(column: Column, values: Mapping[str, float | None]) -> list[str]:
    """The policies with the best value; none where all are equal."""
    bad = {name: badness(column, value) for name, value in values.items()}
    least = min(bad.values())
    found = [name for name, value in bad.items() if value == least]
    return found if len(found) < len(bad) else []


def losses(scores: Scores) -> list[Loss]:
    """Where ours is beyond one per cent, in the order of the table."""
    found = []
    for scenario, policies in scores.items():
        if OURS not in policies or len(policies) < 2:
            continue
        for column in COLUMNS:
            values = {name: columns[column.name] for name, columns in policies.items()}
            bad = {name: badness(column, value) for name, value in values.items()}
            best = min(bad, key=lambda name: (bad[name], name != OURS))
            if bad[OURS] == bad[best]:
                continue
            if bad[OURS] - bad[best] <= _NEAR * abs(bad[best]):
                continue
            worst = bad[OURS] == max(bad.values())
            found.append(Loss(scenario, column.name, values[OURS], values[best], best, worst))
    return found


def as_json(scores: Scores, seed: int, size: str) -> dict[str, Any]:
    """The one object that `--json` ends with."""
    lost = losses(scores)
    return {
        "seed": seed,
        "size": size,
        "scenarios": scores,
        "worst_in": sum(one.worst for one in lost),
        "beyond_one_percent": len(lost),
    }


def shown(column: Column, value: float | None) -> str:
    """As the table shows it."""
    return "never" if value is None else f"{value:,.{column.decimals}f}"
