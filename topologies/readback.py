"""Reading what the plane itself has written: the last Epoch, compacted tables, configurations.

A consumer without a group, one read at a time, from the beginning to the end offset asked for at
the start. It gates on `position()`, not on the records seen: control records take offsets
(markers of transactions).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from pipeline.cut import Cut
from pipeline.errors import WireError
from pipeline.wire.decode import decode
from pipeline.wire.headers import HEADER, unpack_cut
from schemas.registry import STEERING_CUTS, STEERING_EPOCHS, TABLES

#: A broker answers a connection's requests in order: behind a fetch of nothing, which it holds back
#: for half a second unless told otherwise, each question for an offset took as long.
FETCH_WAIT_MS = 5
#: Number and term of a cut.
Mark = tuple[int, int]
#: In the place of a value that stands behind one of a later cut. Who follows live has dropped it,
#: so it is nobody's word, even where it says what is right. (No record of a table is empty.)
LATE = b""
_NO_CUT = (-1, -1)
_EPOCHS_READ = 100  # the newest, among which the last cut's is


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
        return (await self.ends([topic], partition))[topic]

    async def ends(self, topics: Iterable[str], partition: int) -> dict[str, int]:
        """The same, of several topics at once."""
        ends = await self._consumer.end_offsets([TopicPartition(one, partition) for one in topics])
        return {tp.topic: int(end) for tp, end in ends.items()}

    async def table(self, topic: str, partition: int) -> tuple[dict[bytes, bytes], int]:
        """Key -> last value of a compacted partition (or LATE), deleted keys left out; and the
        offset up to which that is so."""
        held: dict[bytes, bytes] = {}
        end = await self.end_offset(topic, partition)
        async for key, value, _ in self._told(topic, partition, 0, end):
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value
        return held, end

    async def written_by_others(
        self, topic: str, partition: int, start: int, end: int, own: Mark
    ) -> dict[bytes, bytes | None]:
        """Key -> last value (or LATE) of what stands from `start` to before `end` and was not
        written for the cut `own`: a copy of what this worker wrote for an earlier one may come
        late as well."""
        told = self._told(topic, partition, start, end)
        return {key: value async for key, value, by in told if by != own}

    async def _told(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[tuple[bytes, bytes | None, Mark]]:
        """Key, value or LATE, and the cut of each record."""
        newest = _NO_CUT
        async for record in self._read(topic, partition, start=start, end=end):
            if record.key is not None:
                by = _cut(record)
                yield record.key, (LATE if by < newest else record.value), by
                newest = max(newest, by)

    async def cut_at(self, partition: int, offset: int) -> Cut | None:
        """The cut that stands at `offset` of the cut log; None when none stands there (any
        more)."""
        found: Cut | None = None
        async for record in self._read(STEERING_CUTS.name, partition, start=offset, end=offset + 1):
            with suppress(WireError):
                name, fields = decode(record.value or b"")
                found = Cut.from_record(fields) if name == "Cut" else None
        return found

    async def last_epoch(self, partition: int) -> int:
        """Number of the last cut of `partition` that an Epoch closed; 0 when there is none."""
        last = 0
        end = await self.end_offset(STEERING_EPOCHS.name, partition)
        start = max(0, end - _EPOCHS_READ)
        async for record in self._read(STEERING_EPOCHS.name, partition, start=start, end=end):
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
        self, topic: str, partition: int, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[ConsumerRecord]:
        """Every record from `start` to before `end`, by default from the first to the present
        end."""
        tp = TopicPartition(topic, partition)
        async with self._lock:
            self._consumer.assign([tp])
            there = (await self._consumer.end_offsets([tp]))[tp]
            end = there if end is None else min(end, there)
            begin = (await self._consumer.beginning_offsets([tp]))[tp]
            self._consumer.seek(tp, max(start, begin))
            while await self._consumer.position(tp) < end:
                batches = await self._consumer.getmany(tp, timeout_ms=1000)
                for record in batches.get(tp, ()):
                    if record.offset < end:
                        yield record
            self._consumer.unsubscribe()


def _cut(record: ConsumerRecord) -> Mark:
    """The cut that a record was written for; _NO_CUT when it does not say."""
    for name, value in record.headers:
        if name == HEADER and value is not None:
            with suppress(ValueError):
                return unpack_cut(value)[1:]
    return _NO_CUT
