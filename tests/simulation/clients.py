"""What aiokafka and Faust are to the worker, on the broker in memory: the producer behind Outputs,
the consumer behind Readback, the reader behind a follower, and Faust's consumer."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from aiokafka import TopicPartition

from schemas.registry import BY_NAME, CELLS_CHANGELOG
from tests.simulation.broker import TP, Broker, New, Rec
from tests.simulation.loop import Process
from topologies.chunks import Chunk


class Client(NamedTuple):
    """What `client_kwargs` carry in a simulation."""

    broker: Broker
    process: Process


class Batch:
    """As aiokafka's BatchBuilder, but full after a few records: crashes fall between any two."""

    def __init__(self, limit: int) -> None:
        self.news: list[New] = []
        self._limit = limit

    def append(self, *, key: Any, value: Any, timestamp: None, headers: Any) -> object | None:
        if len(self.news) >= self._limit:
            return None
        self.news.append(New(key, value, tuple(headers)))
        return self

    def record_count(self) -> int:
        return len(self.news)


class Producer:
    """As AIOKafkaProducer with acks=all: one request a partition under way, the others queued here,
    in the process: they stay where they are while it is paused and go with it when it dies."""

    def __init__(self, *, sim: Client, **_: Any) -> None:
        self._broker, self._process = sim
        self._queues: dict[TP, deque[tuple[list[New], Any]]] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def create_batch(self) -> Batch:
        return Batch(self._broker.random.choice((1, 2, 3, 50)))

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any:
        return self._push((topic, partition), batch.news)

    async def send(self, topic: str, value: Any = None, key: Any = None, partition: int = 0) -> Any:
        return self._push((topic, partition), [New(key, value)])

    async def send_and_wait(
        self, topic: str, value: Any = None, key: Any = None, partition: int = 0
    ) -> Any:
        return await self._push((topic, partition), [New(key, value)])

    def _push(self, tp: TP, news: list[New]) -> Any:
        future = self._broker.loop.create_future()
        queue = self._queues.setdefault(tp, deque())
        queue.append((news, future))
        if len(queue) == 1:
            self._send(tp)
        return future

    def _send(self, tp: TP) -> None:
        news, future = self._queues[tp][0]

        def reply(offset: int | None, error: Exception | None) -> None:
            if offset is None and error is None:
                self._send(tp)
                return
            queue = self._queues[tp]
            queue.popleft()
            if not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(SimpleNamespace(offset=offset))
            if queue:
                self._send(tp)

        self._broker.produce(self._process, tp, news, reply)


class Consumer:
    """As AIOKafkaConsumer without a group."""

    def __init__(self, *, sim: Client, **_: Any) -> None:
        self._broker, self._process = sim
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, tps: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys(tps, 0)

    def unsubscribe(self) -> None:
        self._positions = {}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        parts = self._broker.parts
        return await self._ask(lambda: {tp: parts[tp].end for tp in tps})

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        parts = self._broker.parts
        return await self._ask(lambda: {tp: parts[tp].begin for tp in tps})

    async def getmany(
        self, *tps: TopicPartition, timeout_ms: int = 0
    ) -> dict[TopicPartition, list[Rec]]:
        limit = self._broker.random.choice((2, 10, 1000, 1000))
        wanted = [tp for tp in tps or self._positions if self._behind(tp)]
        if not wanted:
            await self._sleep(timeout_ms / 1000)
            return {}
        if len(wanted) > 1 and self._broker.random.random() < 0.5:
            wanted = self._broker.random.sample(wanted, len(wanted) - 1)
        asked = [(tp, self._positions[tp]) for tp in wanted]
        parts = self._broker.parts
        read = await self._ask(lambda: {tp: parts[tp].read(at, limit) for tp, at in asked})
        for tp, (_, position) in read.items():
            self._positions[tp] = position
        return {tp: records for tp, (records, _) in read.items() if records}

    def _behind(self, tp: TopicPartition) -> bool:
        return self._positions[tp] < self._broker.parts[tp].end

    async def _sleep(self, seconds: float) -> None:
        future = self._broker.loop.create_future()
        self._broker.loop.call_later(seconds, lambda: future.done() or future.set_result(None))
        await future

    async def _ask(self, work: Any) -> Any:
        return await self._broker.ask(self._process, work)


class Fetcher:
    """As Faust's consumer to Cells, and the stream behind it: chunks cut at random places, in order
    within a partition, late by the seed."""

    def __init__(self, sim: Client, cells: Any) -> None:
        self._broker, self._process = sim
        self._cells = cells
        self._positions: dict[TP, int] = {}
        self._paused: set[TP] = set()
        self._coming: set[TP] = set()
        self._session = 0

    # what Cells asks ----------------------------------------------------------------------------

    async def earliest_offsets(self, *tps: Any) -> dict[Any, int]:
        parts = self._broker.parts
        return await self._broker.ask(
            self._process, lambda: {tp: parts[tuple(tp)].begin for tp in tps}
        )

    async def highwaters(self, *tps: Any) -> dict[Any, int]:
        parts = self._broker.parts
        return await self._broker.ask(
            self._process, lambda: {tp: parts[tuple(tp)].end for tp in tps}
        )

    def pause_partitions(self, tps: Iterable[Any]) -> None:
        self._paused.update(map(tuple, tps))

    def resume_partitions(self, tps: Iterable[Any]) -> None:
        for tp in map(tuple, tps):
            self._paused.discard(tp)
            self._nudge(tp)

    async def tell_progress(self, offsets: Mapping[Any, int]) -> None:
        await self._broker.ask(self._process, lambda: None)

    # what Faust does ----------------------------------------------------------------------------

    def stop_flow(self) -> None:
        """A rebalance: what is under way is thrown away."""
        self._session += 1
        for tp in self._positions:
            self._broker.watchers[tp].remove(self._nudge)
        self._positions.clear()
        self._coming.clear()
        self._paused.clear()

    def seek(self, offsets: Mapping[Any, int]) -> None:
        self._positions = {tuple(tp): offset for tp, offset in sorted(offsets.items())}
        for tp in self._positions:
            self._broker.watchers[tp].append(self._nudge)
            self._nudge(tp)

    def _nudge(self, tp: TP) -> None:
        behind = tp in self._positions and self._positions[tp] < self._broker.parts[tp].end
        if behind and tp not in self._coming and tp not in self._paused:
            self._coming.add(tp)
            self._broker.loop.later(self._broker.delay_s(), self._arrive, tp, self._session)

    def _arrive(self, tp: TP, session: int) -> None:
        if session != self._session or self._process.dead:
            return
        broker = self._broker
        wait_s = broker.down_until_s - broker.loop.time()
        if wait_s > 0:
            broker.loop.later(wait_s + broker.delay_s(), self._arrive, tp, session)
            return
        limit = broker.random.choice((1, 3, 10, 100))
        read = broker.parts[tp].read(self._positions[tp], limit)
        broker.loop.post(self._process, self._deliver, tp, session, *read)

    def _deliver(self, tp: TP, session: int, records: Sequence[Rec], position: int) -> None:
        if session != self._session:
            return
        self._coming.discard(tp)
        if tp in self._paused:
            return
        self._positions[tp] = position
        topic, partition = tp
        try:
            if BY_NAME[topic].name == "steering.cuts":
                for rec in records:
                    self._cells.on_cut(partition, rec.offset, rec.value)
            elif records:
                self._cells.on_chunk(_chunk(topic, partition, records, position))
        except Exception as failure:
            self._cells.on_failure(failure)
        self._nudge(tp)


def _chunk(topic: str, partition: int, records: Sequence[Rec], position: int) -> Chunk:
    offsets = np.array([rec.offset for rec in records], np.int64)
    keys = [rec.key for rec in records] if BY_NAME[topic].keyed else None
    return Chunk(topic, partition, offsets, [rec.value for rec in records], keys, position)


class Store:
    """As the RocksDB folder behind Faust's table: it outlives the process, and is brought up to
    date from the changelog when partitions are assigned."""

    def __init__(self) -> None:
        self._held: dict[int, dict[bytes, bytes]] = {}
        self._positions: dict[int, int] = {}

    def apply_changelog_batch(self, events: Iterable[Any], *, to_key: None, to_value: None) -> None:
        for event in events:
            message = event.message
            self._apply(message.partition, message.offset, message.key, message.value)

    def _db_for_partition(self, partition: int) -> dict[bytes, bytes]:
        return self._held.setdefault(partition, {})

    def _visible_items(self, held: dict[bytes, bytes]) -> Iterable[tuple[bytes, bytes]]:
        return held.items()

    async def recover(self, client: Client, partition: int) -> None:
        part = client.broker.parts[CELLS_CHANGELOG.name, partition]
        position = self._positions.get(partition, 0)
        records = await client.broker.ask(client.process, lambda: part.read(position, part.end)[0])
        for record in records:
            self._apply(partition, record.offset, record.key, record.value)

    def _apply(self, partition: int, offset: int, key: Any, value: bytes | None) -> None:
        self._positions[partition] = max(offset + 1, self._positions.get(partition, 0))
        if value is None:
            self._db_for_partition(partition).pop(key, None)
        else:
            self._db_for_partition(partition)[key] = value
