"""A busy cell that lives second by second, without a broker: what `snapshot`, `step` and `fleet`
measure.

A simulated region with its fleet, plays, health, links, paths and routes that change, folded as a
worker would. How many routes change in a second can be set from outside, and what a person does to
the fleet be told; everything else goes on as always. All of it follows from the seed.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from pipeline.cell import Cell, step
from pipeline.config import CODE_VERSION, ProximityConfig, SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.sim.size import SimSize
from pipeline.sim.telemetry import Rows
from pipeline.sim.world import World
from pipeline.wire.columns import decode_chunk
from pipeline.wire.rows import TopicRows
from schemas.registry import BGP_ROUTES, BY_NAME, INPUTS

#: The evening of a working day.
BEGIN_MS = 1_800_039_600_000
_SECOND_MS = 1000
_AT_ONCE = 10  # batches of routes a cut: bounds memory while the table is announced


class LivingCell:
    """A cell, and the world that it hears of."""

    def __init__(self, seed: int, size: SimSize) -> None:
        self.config = SteeringConfig(proximity=ProximityConfig(allow_documentation_prefixes=True))
        self._world = World(seed, size, BEGIN_MS)
        self._ends = {topic.name: 0 for topic in INPUTS}
        self._now_ms = BEGIN_MS
        self.cell, self.cut = Cell(0, 1), self._cut(0, Cause.TICK)
        waiting = list(self._world.inventory())
        for number, batch in enumerate(self._world.routes()):
            waiting.append(batch)
            if number % _AT_ONCE == _AT_ONCE - 1:
                self.fold(self.cell, self.decode(waiting))
                waiting = []
        self.fold(self.cell, self.decode([*waiting, *self._world.roll_call()]))

    def live(self, seconds: int, routes_changed: int) -> int:
        """So many ticks, over which about so many routes change; how many did."""
        self._world.size = replace(self._world.size, churn_per_s=routes_changed / seconds)
        changed = 0
        for _ in range(seconds):
            rows = self.hear()
            changed += rows[BGP_ROUTES.name].count if BGP_ROUTES.name in rows else 0
            self.fold(self.cell, rows)
        return changed

    def hear(self) -> dict[str, TopicRows]:
        """What arrives in the next second; the next cut takes it."""
        return self.decode(self.records())

    def records(self) -> list[Rows]:
        """The same as it is on the wire."""
        self._now_ms += _SECOND_MS
        return self._world.tick(self._now_ms)

    def told(self, action: str, entity: str) -> dict[str, TopicRows]:
        """What the appliances say at once when this is done to them (World.command)."""
        return self.decode(self._world.command(action, entity))

    def decode(self, batches: Iterable[Rows]) -> dict[str, TopicRows]:
        """Records as rows, behind those before them."""
        keys: dict[str, list[bytes]] = {}
        values: dict[str, list[bytes | None]] = {}
        for batch in batches:
            keys.setdefault(batch.topic, []).extend(batch.keys)
            values.setdefault(batch.topic, []).extend(batch.values)
        rows = {}
        for topic, each in values.items():
            first = self._ends[topic]
            self._ends[topic] = first + len(each)
            offsets = np.arange(first, first + len(each), dtype=np.int64)
            named = keys[topic] if BY_NAME[topic].keyed else None
            rows[topic] = decode_chunk(topic, each, offsets, named)
        return rows

    def fold(self, cell: Cell, rows: dict[str, TopicRows], cause: Cause = Cause.TICK) -> None:
        """One cut of `cell`."""
        self.cut = self._cut(self.cut.number + 1, cause)
        step(cell, rows, self.cut, self.config)

    def _cut(self, number: int, cause: Cause) -> Cut:
        return Cut(0, number, 1, "bench", self._now_ms, cause, dict(self._ends),
                   self.config.hash(), CODE_VERSION)  # fmt: skip
