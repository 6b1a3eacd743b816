"""A follower: holds the steering table live, as edge caches, players, DNS servers and proxies do.

It reads all partitions of the table topics and of the Epochs, from the beginning to where they end
now, then on. Each closed cut becomes visible as one step (table.py). `snapshot` is the same for a
command that asks once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import TopicPartition

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError, WireError
from pipeline.follow.reader import Fetched, TopicReader
from pipeline.follow.table import Applied, Batch, SteeringTable
from pipeline.wire.decode import decode
from pipeline.wire.headers import HEADER
from schemas.registry import STEERING_EPOCHS, TABLES

TABLE_NAMES = tuple(topic.name for topic in TABLES)
OnStep = Callable[[Applied], Awaitable[None]]


def _cut_header(record: Any) -> bytes | None:
    """The header that says which cut a record is of; None also where no key says of what."""
    if record.key is None:
        return None
    for name, value in record.headers:
        if name == HEADER:
            return bytes(value)
    return None


class Feed:
    """Moves what a reader fetches into a table. `unreadable` counts Epochs that did not decode."""

    def __init__(self, reader: TopicReader, table: SteeringTable) -> None:
        self._reader, self._table = reader, table
        self.unreadable = 0

    async def take(self, fetched: Fetched) -> None:
        """Hand over records and positions; applies nothing yet."""
        for partition, records in fetched.items():
            if partition.topic == STEERING_EPOCHS.name:
                self._close(record.value for record in records)
            else:
                self._take(partition, records)
        await self.reach()

    async def reach(self) -> None:
        """Tell the cells for which an Epoch waits how far their topics are read."""
        waiting = {cell.partition for cell in self._table.cells.values() if cell.is_waiting}
        for partition in self._reader.partitions:
            if partition.partition in waiting and partition.topic != STEERING_EPOCHS.name:
                position = await self._reader.position(partition)
                self._table.reached(partition.topic, partition.partition, position)

    def _take(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        batch = Batch(
            partition.topic,
            partition.partition,
            tuple(record.key for record in records),
            tuple(record.value for record in records),
            tuple(_cut_header(record) for record in records),
            tuple(record.offset for record in records),
        )
        self._table.take(batch)

    def _close(self, values: Any) -> None:
        for value in values:
            try:
                name, epoch = decode(value)
            except WireError:
                self.unreadable += 1
            else:
                if name == "Epoch":
                    self._table.close(epoch)


async def _load(reader: TopicReader, feed: Feed, table: SteeringTable) -> None:
    """From the beginning to where the topics end now. The Epochs' end is asked first: every effect
    of a cut that they close stands before the tables' ends, which are asked after."""
    await reader.from_begin()
    epochs = {
        partition: end
        for partition, end in (await reader.ends()).items()
        if partition.topic == STEERING_EPOCHS.name
    }
    ends = {**await reader.ends(), **epochs}
    async for fetched in reader.until(ends):
        await feed.take(fetched)
    table.advance()


async def snapshot(broker: BrokerSettings, topics: Sequence[str] = TABLE_NAMES) -> SteeringTable:
    """The table as it stands now, read from the compacted topics; only some of them if asked for.
    Raises BrokerError."""
    table = SteeringTable(topics)
    async with TopicReader(broker, (*topics, STEERING_EPOCHS.name)) as reader:
        await _load(reader, Feed(reader, table), table)
    return table


class Follower:
    """Async context manager that keeps `table` up to date in the running loop.

    `on_step` is awaited after each cut that was applied live (not for the load at the start).
    """

    def __init__(self, broker: BrokerSettings, on_step: OnStep | None = None) -> None:
        self.table = SteeringTable()
        self._reader = TopicReader(broker, (*TABLE_NAMES, STEERING_EPOCHS.name))
        self._feed = Feed(self._reader, self.table)
        self._on_step = on_step
        self._changed = asyncio.Condition()
        self._work: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        try:
            await _load(self._reader, self._feed, self.table)
        except BaseException:
            await self._reader.__aexit__(None, None, None)
            raise
        self._work = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self._reader.__aexit__(kind, error, trace)

    async def _follow(self) -> None:
        try:
            while True:
                await self._feed.take(await self._reader.fetch())
                steps = self.table.advance()
                if self._on_step is not None:
                    for step in steps:
                        await self._on_step(step)
                if steps:
                    await self._wake()
        finally:
            await self._wake()  # whoever waits must learn that nothing comes any more

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(
        self, condition: Callable[[SteeringTable], bool], timeout_s: float | None = None
    ) -> None:
        """Until `condition` holds after some step. Raises TimeoutError; BrokerError when the
        follower has stopped, with its cause."""
        async with asyncio.timeout(timeout_s), self._changed:
            while not condition(self.table):
                if self._work is None or self._work.done():
                    raise BrokerError("the follower has stopped") from self._cause()
                await self._changed.wait()

    def _cause(self) -> BaseException | None:
        ended = self._work is not None and self._work.done() and not self._work.cancelled()
        return self._work.exception() if ended and self._work else None
