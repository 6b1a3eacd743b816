"""A producer of known records: a simulated fleet that remembers what the broker acknowledged.

It outlives brokers: a batch that failed is sent again until it is acknowledged. It may then stand
in the topic twice, so what was produced is not a count of sends: it is read from the topics, and
`lost` says which acknowledged batch is not there.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.broker.settings import BrokerSettings
from pipeline.sim.dirt import Dirt
from pipeline.sim.size import SimSize
from pipeline.sim.telemetry import Rows
from pipeline.sim.world import World
from pipeline.wire.digest import digest_of
from schemas.partition import partition_of

EVERY_S = 0.25
BEHIND_MAX_MS = 5000  # after an outage the world goes on from now
RETRY_AFTER_S = 0.5
BATCH_BYTES = 512 << 10
PIECE = 1000  # records a batch: of the largest kind they fit

Place = tuple[str, int]


class Acknowledged(NamedTuple):
    """A batch as the broker took it."""

    topic: str
    partition: int
    offset: int
    count: int
    digest: str


class KnownProducer:
    """Async context manager: produces in the background until it is left or `stop`."""

    def __init__(
        self, broker: BrokerSettings, partitions: int, seed: int, size: SimSize, dirt: float = 0.01
    ) -> None:
        self._partitions = partitions
        self._broker = broker
        self.world = World(seed, size, _now_ms())
        self._dirt = Dirt(np.random.default_rng(seed), dirt)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.acknowledged: list[Acknowledged] = []
        self.sent_again = 0

    async def __aenter__(self) -> "KnownProducer":
        self._producer = AIOKafkaProducer(
            **self._broker.client_kwargs(), acks="all", max_batch_size=BATCH_BYTES
        )
        await self._producer.start()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._producer.stop()

    async def stop(self) -> None:
        """Produce no more; return when everything is acknowledged."""
        self._stop.set()
        assert self._task is not None
        await self._task

    @property
    def records(self) -> int:
        """How many were acknowledged."""
        return sum(batch.count for batch in self.acknowledged)

    async def command(self, action: str, entity: str) -> None:
        """Do something to the fleet, as `edgesteer sim fail` does."""
        await self._send(self.world.command(action, entity))

    def lost(self, values: Mapping[Place, Sequence[bytes | None]]) -> list[Acknowledged]:
        """Acknowledged batches that are not in the topics; `values`: all that is, from offset 0."""
        return [
            batch
            for batch in self.acknowledged
            if batch.digest
            != digest_of(
                [values[batch.topic, batch.partition][batch.offset : batch.offset + batch.count]]
            )
        ]

    async def _run(self) -> None:
        for rows in (*self.world.inventory(), *self.world.routes()):
            await self._send([rows])
        self.world.skip_to(_now_ms())
        await self._send(self.world.roll_call())
        while not self._stop.is_set():
            await asyncio.sleep(EVERY_S)
            if _now_ms() - self.world.now_ms > BEHIND_MAX_MS:
                self.world.skip_to(_now_ms())
            await self._send(self.world.tick(_now_ms()))

    async def _send(self, batches: list[Rows]) -> None:
        places: dict[Place, tuple[list[bytes], list[bytes | None]]] = {}
        for rows in batches:
            place = rows.topic, partition_of(rows.region, self._partitions)
            keys, values = places.setdefault(place, ([], []))
            keys += rows.keys
            values += rows.values
        for bad in self._dirt.beside(batches):
            home = partition_of(bad.region, self._partitions)
            place = bad.topic, (home + bad.astray) % self._partitions
            keys, values = places.setdefault(place, ([], []))
            keys.append(bad.key)
            values.append(bad.value)
        await asyncio.gather(*(self._send_place(p, *rows) for p, rows in places.items()))

    async def _send_place(
        self, place: Place, keys: list[bytes], values: list[bytes | None]
    ) -> None:
        for start in range(0, len(keys), PIECE):
            part = slice(start, start + PIECE)
            offset = await self._until_acknowledged(place, keys[part], values[part])
            batch = Acknowledged(*place, offset, len(keys[part]), digest_of([values[part]]))
            self.acknowledged.append(batch)

    async def _until_acknowledged(
        self, place: Place, keys: list[bytes], values: list[bytes | None]
    ) -> int:
        """The offset of the batch's first record, in the copy that was acknowledged."""
        while True:
            batch = self._producer.create_batch()
            for key, value in zip(keys, values, strict=True):
                assert batch.append(key=key, value=value, timestamp=None) is not None
            try:
                future: Any = await self._producer.send_batch(batch, place[0], partition=place[1])
                return int((await future).offset)
            except KafkaError:
                self.sent_again += 1
                await asyncio.sleep(RETRY_AFTER_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
