"""Reading what the plane itself has written: the last Epoch, compacted tables, configurations.

A consumer without a group, one read at a time, from the beginning to the end offset asked for at
the start. It gates on `position()`, not on the records seen: control records take offsets
(markers of transactions).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from pipeline.wire.decode import decode
from pipeline.wire.headers import HEADER, unpack_cut
from schemas.registry import STEERING_EPOCHS, TABLES

#: A broker answers a connection's requests in order: behind a fetch of nothing, which it holds back
#: for half a second unless told otherwise, each question for an offset took as long.
FETCH_WAIT_MS = 5


class Readback:
    """Opened once per worker; safe to call from several cells."""

    def __init__(self, client_kwargs: Mapping[str, Any]) -> None:
        self._consumer = AIOKafkaConsumer(
            **client_kwargs,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        await self._consumer.start()

    async def stop(self) -> None:
        await self._consumer.stop()

    async def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record of this partition will get."""
        tp = TopicPartition(topic, partition)
        ends = await self._consumer.end_offsets([tp])
        return int(ends[tp])

    async def table(self, topic: str, partition: int) -> dict[bytes, bytes]:
        """Key -> last value of a compacted partition, deleted keys left out."""
        held: dict[bytes, bytes] = {}
        async for record in self._read(topic, partition):
            if record.key is None:
                continue
            if record.value is None:
                held.pop(record.key, None)
            else:
                held[record.key] = record.value
        return held

    async def last_epoch(self, partition: int) -> int:
        """Number of the last cut of `partition` that an Epoch closed; 0 when there is none."""
        last = 0
        async for record in self._read(STEERING_EPOCHS.name, partition, last_records=100):
            if record.value is not None:
                last = max(last, decode(record.value)[1]["cut"])
        return last

    async def highest_cut(self, partition: int) -> tuple[int, int]:
        """Number and term of the highest cut in the headers of Epochs and table records."""
        highest = (0, 0)
        for topic in (STEERING_EPOCHS, *TABLES):
            async for record in self._read(topic.name, partition):
                for name, value in record.headers:
                    if name == HEADER and value is not None:
                        _, cut, term = unpack_cut(value)
                        highest = max(highest, (cut, term))
        return highest

    async def _read(
        self, topic: str, partition: int, last_records: int | None = None
    ) -> AsyncIterator[ConsumerRecord]:
        """Every record (or about the `last_records` last ones) up to the present end."""
        tp = TopicPartition(topic, partition)
        async with self._lock:
            self._consumer.assign([tp])
            end = (await self._consumer.end_offsets([tp]))[tp]
            start = (await self._consumer.beginning_offsets([tp]))[tp]
            if last_records is not None:
                start = max(start, end - last_records)
            self._consumer.seek(tp, start)
            while await self._consumer.position(tp) < end:
                batches = await self._consumer.getmany(tp, timeout_ms=1000)
                for record in batches.get(tp, ()):
                    yield record
            self._consumer.unsubscribe()
