"""What the cuts of a living cell cost."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.bench.common import spread
from pipeline.bench.livingcell import LivingCell
from pipeline.cut import Cause
from pipeline.wire.rows import TopicRows

#: A window of demand is full. Blocks that are idle for longer are forgotten.
WARM_MIN_S, WARM_MAX_S = 70, 600
T = TypeVar("T")


def warm_up(world: LivingCell, blocks: int = 0) -> int:
    """Live until it is as it always is, with so many client blocks; how many seconds that took."""
    for second in range(WARM_MAX_S):
        if second >= WARM_MIN_S and len(world.cell.demand) >= blocks:
            return second
        world.fold(world.cell, world.hear())
    return WARM_MAX_S


class Costs:
    """What cuts cost, in milliseconds of processor time and by the clock."""

    def __init__(self, world: LivingCell) -> None:
        self._world = world
        self.processor: dict[str, list[float]] = defaultdict(list)
        self.clock: dict[str, list[float]] = defaultdict(list)

    def tick(self) -> None:
        """A second passes."""
        records = self._world.records()
        rows = self._time("decode", lambda: self._world.decode(records))
        self._time("tick", lambda: self._fold(rows, Cause.TICK))

    def urgent(self, action: str, entity: str) -> None:
        """Somebody does this to the fleet; it is urgent."""
        rows = self._world.told(action, entity)
        self._time("urgent", lambda: self._fold(rows, Cause.URGENT))

    def spreads(self) -> dict[str, Any]:
        """Of all, by what was timed."""
        found: dict[str, Any] = {"ticks": len(self.processor["tick"])}
        for what in sorted(self.processor):
            found[f"{what}_processor_ms"] = spread(self.processor[what])
            found[f"{what}_clock_ms"] = spread(self.clock[what])
        return found

    def _fold(self, rows: dict[str, TopicRows], cause: Cause) -> None:
        self._world.fold(self._world.cell, rows, cause)

    def _time(self, what: str, work: Callable[[], T]) -> T:
        clock, processor = time.perf_counter(), time.process_time()
        found = work()
        self.processor[what].append(1e3 * (time.process_time() - processor))
        self.clock[what].append(1e3 * (time.perf_counter() - clock))
        return found
