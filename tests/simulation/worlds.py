"""What is produced and who decides on it: the toy, or the real cell on a tiny world."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Protocol

import numpy as np

from pipeline import cell as real
from pipeline.config import AssignmentConfig, SteeringConfig
from pipeline.cut import Cut
from pipeline.effects import Effects
from pipeline.wire.columns import decode_chunk
from pipeline.wire.rows import TopicRows
from schemas.registry import APPLIANCE_HEALTH, BY_NAME, FLEET_INVENTORY, PLAY_EVENTS
from tests import cell_world
from tests.simulation import edges, toy
from tests.simulation.broker import New, Rec

Rows = Mapping[str, TopicRows]
Produced = list[tuple[str, int, New]]


class World(Protocol):
    names: Mapping[str, Any]  # behind which edges.replaced puts the cell
    start_ms: int

    def cell(self, partition: int, partitions: int) -> Any: ...

    def step(
        self,
        cell: Any,
        rows: Mapping[str, TopicRows],
        cut: Cut,
        config: SteeringConfig,
        version: int,
    ) -> Effects: ...

    def decode(self, topic: str, records: Sequence[Rec]) -> TopicRows: ...

    def produce(self, random: Random, partitions: int, now_s: float, *, calm: bool) -> Produced: ...


#: What SIGHUP may bring.
CONFIGS = [SteeringConfig(assignment=AssignmentConfig(min_shift=shift)) for shift in (100, 10, 400)]
_TOPICS = (FLEET_INVENTORY.name, APPLIANCE_HEALTH.name, PLAY_EVENTS.name)


class ToyWorld:
    """See toy.py."""

    names = edges.TOY
    start_ms = cell_world.START_MS

    def cell(self, partition: int, partitions: int) -> toy.Cell:
        return toy.Cell(partition, partitions)

    def step(
        self,
        cell: Any,
        rows: Mapping[str, TopicRows],
        cut: Cut,
        config: SteeringConfig,
        version: int,
    ) -> Effects:
        toy.running["version"] = version
        return toy.step(cell, rows, cut, config)

    def decode(self, topic: str, records: Sequence[Rec]) -> TopicRows:
        return _decode(toy.decode_chunk, topic, records)

    def produce(self, random: Random, partitions: int, now_s: float, *, calm: bool) -> Produced:
        topic, partition = random.choice(_TOPICS), random.randrange(partitions)
        produced: Produced = []
        for _ in range(random.randint(1, 4)):
            name = random.choice(toy.RESTLESS if calm else toy.NAMES)
            key: bytes | None = name.encode()
            value: bytes | None = toy.row(name, random.randrange(100_000))
            dice = random.random()
            if dice < 0.05:
                key, value = b"?", b"rubbish %d" % random.randrange(9)
            elif dice < 0.15 and topic == FLEET_INVENTORY.name:
                value = None
            produced.append((topic, partition, New(key, value)))
        return produced


def _decode(decoder: Any, topic: str, records: Sequence[Rec]) -> TopicRows:
    offsets = np.array([record.offset for record in records], np.int64)
    keys = [record.key for record in records] if BY_NAME[topic].keyed else None
    rows: TopicRows = decoder(topic, [record.value for record in records], offsets, keys)
    return rows


class RealWorld:
    """The real cell on tests/cell_world.py, whose seconds are the run's."""

    names: Mapping[str, Any] = {}
    start_ms = cell_world.START_MS

    def __init__(self, seed: int) -> None:
        self._log = cell_world.make_log(seed, 30)
        self._taken = dict.fromkeys(self._log.values, 0)
        self._cuts = list(self._log.cuts)

    def cell(self, partition: int, partitions: int) -> Any:
        return real.Cell(partition, partitions)

    def step(
        self,
        cell: Any,
        rows: Mapping[str, TopicRows],
        cut: Cut,
        config: SteeringConfig,
        version: int,
    ) -> Effects:
        return real.step(cell, rows, cut, config)

    def decode(self, topic: str, records: Sequence[Rec]) -> TopicRows:
        return _decode(decode_chunk, topic, records)

    def produce(self, random: Random, partitions: int, now_s: float, *, calm: bool) -> Produced:
        """The seconds that have come."""
        produced: Produced = []
        while self._cuts and self._cuts[0].at_ms <= self.start_ms + now_s * 1000:
            for topic, end in self._cuts.pop(0).offsets.items():
                for at in range(self._taken[topic], end):
                    new = New(self._log.keys[topic][at], self._log.values[topic][at])
                    produced.append((topic, 0, new))
                self._taken[topic] = end
        return produced
