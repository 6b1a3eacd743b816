"""The `fleet` benchmark: what a whole fleet costs, by measurement of cells and on paper.

The target world (DESIGN section 2): 20,000 appliances at 2,000 sites, 1.2 million prefixes, a
million plays a second, in ten cells. Measured: cells of which one thing is varied at a time over
three sizes: appliances (with a tenth as many sites), prefixes (with route changes in proportion),
plays a second. Of each, on one core, the processor time of a second of its life: decoding, and
`step`. What one more appliance, prefix or play costs is the slope of the line through its three
sizes (least squares); what is left of the middle one is what a cell costs at all.

    cores = cells x what a cell costs + appliances, prefixes and plays x what each costs

The value is the cores that the fleet needs. That is the work of the core; fetching and publishing
come on top (`ingest` measures a whole worker). The peer is decoding alone.

What breaks first is asked of one cell of the ten: how many times as many appliances, prefixes or
plays it takes until a second of life needs a second of processor time, if all else stays.

Memory is that of a real worker (workermemory.py), so this needs Apache Kafka.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import orjson

from pipeline.bench import workermemory
from pipeline.bench.alone import serve, stage
from pipeline.bench.common import Say, machine
from pipeline.bench.costs import Costs, warm_up
from pipeline.bench.livingcell import LivingCell
from pipeline.sim.size import SimSize

#: The middle of what is varied.
BASE = SimSize(regions=1, sites=100, appliances=1_000, prefixes=300_000, rate=10_000)
VARIED = {
    "appliances": (500, 1_000, 2_000),
    "prefixes": (100_000, 300_000, 900_000),
    "plays_per_s": (10_000, 30_000, 100_000),
}
APPLIANCES_A_SITE = 10
#: As in `step`: 30 route changes a second of 1.2 million prefixes.
CHURN_A_PREFIX = 30 / 1_200_000
SECONDS = 60
#: The target world, and the cells that it is dealt into.
TARGET = {"appliances": 20_000, "prefixes": 1_200_000, "plays_per_s": 1_000_000}
CELLS = 10
_SECOND_MS = 1000
_SEED = 1
Costed = dict[str, Any]


def run(say: Say, seconds: int = SECONDS) -> dict[str, Any]:
    """All cells, then the worker. Raises BrokerError when something ends or hangs."""
    measured = {
        what: [_cell(say, sized(what, count), seconds) for count in counts]
        for what, counts in VARIED.items()
    }
    return summary(measured, asyncio.run(workermemory.measure(say)))


def sized(what: str, count: int) -> SimSize:
    """BASE with so many of this, and what comes with it."""
    size = {
        "appliances": lambda: replace(BASE, appliances=count, sites=count // APPLIANCES_A_SITE),
        "prefixes": lambda: replace(BASE, prefixes=count),
        "plays_per_s": lambda: replace(BASE, rate=count),
    }[what]()
    return replace(size, churn_per_s=size.prefixes * CHURN_A_PREFIX)


def _cell(say: Say, size: SimSize, seconds: int) -> Costed:
    say(
        f"{size.appliances:,} appliances, {size.prefixes:,} prefixes, {size.rate:,} plays/s: "
        f"{seconds} s ..."
    )
    return stage(__name__, "measure", orjson.dumps(asdict(size)).decode(), str(seconds))


def measure(size: str, seconds: str) -> Costed:
    """What a second of this cell costs on average, in milliseconds of processor time."""
    asked = SimSize(**orjson.loads(size))
    world = LivingCell(_SEED, asked)
    warm_up(world)
    costs = Costs(world)
    for _ in range(int(seconds)):
        costs.tick()
    return {
        "appliances": asked.appliances,
        "prefixes": asked.prefixes,
        "plays_per_s": asked.rate,
        "blocks": len(world.cell.demand),
        "decode_ms": round(float(np.mean(costs.processor["decode"])), 3),
        "step_ms": round(float(np.mean(costs.processor["tick"])), 3),
        "step_p99_ms": round(float(np.percentile(costs.processor["tick"], 99)), 1),
    }


def summary(measured: Mapping[str, Sequence[Costed]], memory: dict[str, Any]) -> dict[str, Any]:
    """The result: lines through the sizes, and what follows on paper."""
    decode, step = (Line.through(measured, part) for part in ("decode_ms", "step_ms"))
    whole = decode.plus(step)
    cores = whole.fleet_ms() / _SECOND_MS
    headroom = whole.headroom()
    return {
        "name": "fleet",
        "value": round(cores, 2),
        "unit": "cores",
        "ratios": {"decode_only": round(cores / (decode.fleet_ms() / _SECOND_MS), 2)},
        "detail": {
            "target": {**TARGET, "cells": CELLS},
            "us_a_second_each": {what: round(1e3 * ms, 4) for what, ms in whole.each_ms.items()},
            "of_it_decoding": {what: round(1e3 * ms, 4) for what, ms in decode.each_ms.items()},
            "ms_a_second_a_cell": round(whole.cell_ms, 2),
            "cores_for": {what: round(ms / _SECOND_MS, 3) for what, ms in whole.parts_ms().items()},
            "ms_a_second_a_target_cell": round(whole.fleet_ms() / CELLS, 1),
            "times_until_a_core_is_full": headroom,
            "breaks_first": min(TARGET, key=lambda what: headroom[what]),
            "cells": {
                f"{one[what]:,} {what}": one for what, cells in measured.items() for one in cells
            },
            "worker_memory": memory,
            "machine": machine(),
        },
    }


class Line:
    """What a second of a cell costs: `cell_ms`, and `each_ms` more of what is varied."""

    def __init__(self, cell_ms: float, each_ms: dict[str, float]) -> None:
        self.cell_ms, self.each_ms = cell_ms, each_ms

    @classmethod
    def through(cls, measured: Mapping[str, Sequence[Costed]], part: str) -> "Line":
        """Least squares through the sizes of each; a slope below 0 is none."""
        each_ms, rests = {}, []
        for what, cells in measured.items():
            slope, _ = np.polyfit([one[what] for one in cells], [one[part] for one in cells], 1)
            each_ms[what] = max(float(slope), 0.0)
        for cells in measured.values():
            middle = cells[len(cells) // 2]
            rests.append(middle[part] - sum(ms * middle[what] for what, ms in each_ms.items()))
        return cls(max(float(np.mean(rests)), 0.0), each_ms)

    def plus(self, other: "Line") -> "Line":
        """Both."""
        each_ms = {what: ms + other.each_ms[what] for what, ms in self.each_ms.items()}
        return Line(self.cell_ms + other.cell_ms, each_ms)

    def parts_ms(self) -> dict[str, float]:
        """What a second of the target world costs, by what it is for."""
        parts = {what: TARGET[what] * ms for what, ms in self.each_ms.items()}
        return {"cells": CELLS * self.cell_ms, **parts}

    def fleet_ms(self) -> float:
        """What a second of the target world costs."""
        return sum(self.parts_ms().values())

    def headroom(self) -> dict[str, float]:
        """How many times as many there may be in a cell of the target world until its core is full,
        if all else stays; and how many times as much of everything."""
        parts = {what: ms / CELLS for what, ms in self.parts_ms().items()}
        total = sum(parts.values())
        found = {
            what: round((_SECOND_MS - total + parts[what]) / parts[what], 1)
            if parts[what]
            else float("inf")
            for what in self.each_ms
        }
        return found | {"all": round((_SECOND_MS - parts["cells"]) / (total - parts["cells"]), 1)}


if __name__ == "__main__":
    stages: dict[str, Callable[..., dict[str, Any]]] = {"measure": measure}
    serve(stages)
