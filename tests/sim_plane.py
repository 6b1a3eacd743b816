"""A simulated world folded by real cells, without a broker: what the plane makes of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from pipeline.cell import Cell, step
from pipeline.config import ProximityConfig, SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.effects import Effects
from pipeline.sim.size import SimSize
from pipeline.sim.telemetry import Rows
from pipeline.sim.world import World
from pipeline.wire.columns import decode_chunk
from pipeline.wire.decode import decode
from schemas.partition import partition_of

#: A Sunday evening in Europe: 2023-11-19 19:00 UTC.
START_MS = 1_700_420_400_000
SMALL = SimSize(regions=2, sites=10, appliances=60, prefixes=1_200, rate=400)
CONFIG = SteeringConfig(proximity=ProximityConfig(allow_documentation_prefixes=True))
PARTITIONS = 8


def small_world(seed: int = 1) -> World:
    return World(seed, SMALL, START_MS)


def opening(world: World) -> list[Rows]:
    """Everything that is published before time moves."""
    return [*world.inventory(), *world.routes(), *world.roll_call()]


def records(batches: Iterable[Rows], topic: str = "") -> list[dict]:
    """All records, decoded, of one topic if it is named."""
    return [
        decode(value)[1]
        for rows in batches
        if topic in ("", rows.topic)
        for value in rows.values
        if value is not None
    ]


class Plane:
    """One cell for each partition that a region falls into."""

    def __init__(self, regions: Iterable[str]) -> None:
        self.place = {region: partition_of(region, PARTITIONS) for region in regions}
        self.cells = {at: Cell(at, PARTITIONS) for at in sorted(set(self.place.values()))}
        self.refused: Counter[tuple[str, str]] = Counter()
        self.notes: Counter[str] = Counter()
        self.folded: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self._offset: Counter[tuple[int, str]] = Counter()
        self._cut: Counter[int] = Counter()

    def fold(
        self, batches: Iterable[Rows], now_ms: int, cause: Cause = Cause.TICK
    ) -> dict[int, Effects]:
        """One cut over these records in every cell."""
        sent = defaultdict(list)
        for rows in batches:
            pairs = zip(rows.keys, rows.values, strict=True)
            sent[self.place[rows.region], rows.topic].extend(pairs)
        return self.fold_at(sent, now_ms, cause)

    def fold_at(
        self,
        sent: dict[tuple[int, str], list[tuple[bytes, bytes | None]]],
        now_ms: int,
        cause: Cause = Cause.TICK,
    ) -> dict[int, Effects]:
        """The same for records (key, value) by partition and topic."""
        effects = {}
        for at, cell in self.cells.items():
            rows = {}
            for (partition, topic), pairs in sent.items():
                if partition == at:
                    first = self._offset[at, topic]
                    self._offset[at, topic] += len(pairs)
                    offsets = np.arange(first, first + len(pairs), dtype=np.int64)
                    keys, values = zip(*pairs, strict=True)
                    rows[topic] = decode_chunk(topic, values, offsets, keys)
            self._cut[at] += 1
            cut = Cut(at, self._cut[at], 1, "test", now_ms, cause, {}, CONFIG.hash(), 1)
            effects[at] = step(cell, rows, cut, CONFIG)
            self._count(effects[at])
        return effects

    def _count(self, effects: Effects) -> None:
        for topic, refused in effects.refused.items():
            self.refused.update((topic, str(each.reason)) for each in refused)
        self.notes.update({str(name): count for name, count in effects.epoch.notes.items()})
        self.folded.update(effects.epoch.folded)
        self.rows.update(effects.epoch.rows)
