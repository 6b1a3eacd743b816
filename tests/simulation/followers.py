"""Followers of the simulated plane: the real Feed and SteeringTable on a simulated reader."""

from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from pipeline.follow.follower import Feed, _load
from pipeline.follow.table import SteeringTable
from schemas.registry import STEERING_EPOCHS, TABLES
from tests.simulation.clients import Client, Consumer
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.run import Run


class Reader(Consumer):
    """As pipeline.follow.reader.TopicReader."""

    def __init__(self, client: Client, partitions: int) -> None:
        super().__init__(sim=client)
        self.partitions = tuple(
            TopicPartition(topic.name, partition)
            for topic in (*TABLES, STEERING_EPOCHS)
            for partition in range(partitions)
        )
        self.assign(self.partitions)
        self._news: Any = None
        for tp in self.partitions:
            client.broker.watchers[tp].append(self._nudge)

    def _nudge(self, tp: Any) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def from_begin(self) -> None:
        for tp, begin in (await self.beginning_offsets(self.partitions)).items():
            self.seek(tp, begin)

    async def ends(self) -> dict[TopicPartition, int]:
        return await self.end_offsets(self.partitions)

    async def fetch(self) -> dict[TopicPartition, Any]:
        if not any(map(self._behind, self.partitions)):
            self._news = self._broker.loop.create_future()
            await self._news
        return await self.getmany()

    async def until(self, ends: dict[TopicPartition, int]) -> AsyncIterator[Any]:
        while any([await self.position(tp) < end for tp, end in ends.items()]):
            if fetched := await self.fetch():
                yield fetched


class SimFollower:
    """Follows from now on. One that starts in the middle of things may meet a table that its owner
    has still to put right, or of which compaction took half a cut; it is held to its hash from the
    calm on. One that is there from the beginning is held to it always."""

    def __init__(self, run: "Run", name: str, *, strict: bool) -> None:
        self.run, self.name, self.strict = run, name, strict
        self.process = Process(name)
        self.table = SteeringTable()
        self._reader = Reader(Client(run.broker, self.process), run.partitions)

    def start(self) -> None:
        self.run.loop.spawn(self.process, self._follow())

    async def _follow(self) -> None:
        feed = Feed(self._reader, self.table)  # type: ignore[arg-type]
        while not await self._patient(_load(self._reader, feed, self.table)):  # type: ignore[arg-type]
            pass
        self._check()
        while True:
            await self._patient(self._read(feed))
            for step in self.table.advance():
                if step.cut <= step.previous:
                    self.run.fail(f"L5: {self.name} went from cut {step.previous} to {step.cut}")
                self._check()

    async def _read(self, feed: Feed) -> None:
        await feed.take(await self._reader.fetch())

    async def _patient(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it was done; the broker may not be there."""
        try:
            await work
        except KafkaError:
            return False
        return True

    def _check(self) -> None:
        for cell in self.table.cells.values():
            self.run.trace(self.name, "holds", f"cell {cell.partition} at cut {cell.cut}")
        wrong = self.table.verify()
        if wrong and self.strict:
            self.run.fail(f"L5: {self.name} sees a mixture: {wrong}")


def load(run: "Run") -> SteeringTable:
    """What one who starts now reads from what is left in the topics."""
    table = SteeringTable()
    for topic in (*TABLES, STEERING_EPOCHS):
        for partition in range(run.partitions):
            _read(run, table, topic.name, partition)
    table.advance()
    return table


def _read(run: "Run", table: SteeringTable, topic: str, partition: int) -> None:
    tp = TopicPartition(topic, partition)
    records, end = run.broker.parts[tp].read(0, 1 << 30)
    feed = Feed(None, table)  # type: ignore[arg-type]
    if topic == STEERING_EPOCHS.name:
        feed._close(record.value for record in records)
    else:
        feed._take(tp, records)
        table.reached(topic, partition, end)
