"""Reading topics without a consumer group: all partitions, from wherever one likes, to now or on.

Everything that follows or asks reads through this: the follower, one-shot snapshots, `tail`. Ends
are gated on the consumer's position, since control records take offsets that no record shows. Names
are the registry's on this side, whatever stands before them on the broker (a replay's prefix).
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.broker.admin import admin_client, any_node
from pipeline.broker.longpoll import pause_empty_fetches
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError, TopicMismatch

_FETCH_BYTES = 8 << 20
#: Records handed over at a time. Their objects are tracked by the garbage collector, which goes
#: through all that live again and again: a million prefixes take half the time in handfuls.
_HANDFUL = 5_000

Fetched = dict[TopicPartition, list[Any]]


class TopicReader:
    """Async context manager. `fetch` returns aiokafka's records by TopicPartition (a record's own
    topic is the broker's name). Raises BrokerError when the broker fails and TopicMismatch when a
    topic is missing. `only`: these partitions of every topic; else all."""

    def __init__(
        self, broker: BrokerSettings, topics: Sequence[str], only: Collection[int] | None = None
    ) -> None:
        self._broker, self._topics, self._only = broker, tuple(topics), only
        self._consumer: AIOKafkaConsumer | None = None
        #: Every partition read.
        self.partitions: tuple[TopicPartition, ...] = ()
        #: The same under the broker's names, and back.
        self._there: dict[TopicPartition, TopicPartition] = {}
        self._here: dict[TopicPartition, TopicPartition] = {}

    async def __aenter__(self) -> Self:
        self.partitions = await self._partitions()
        self._there = {
            each: each._replace(topic=self._broker.topics + each.topic) for each in self.partitions
        }
        self._here = {there: here for here, there in self._there.items()}
        consumer = AIOKafkaConsumer(
            **self._broker.client_kwargs(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=4 * _FETCH_BYTES,
            max_poll_records=_HANDFUL,
        )
        self._consumer = consumer
        try:
            await self._ask(consumer.start())
        except BaseException:
            await consumer.stop()
            raise
        pause_empty_fetches(consumer)
        consumer.assign(list(self._here))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._consumer is not None:
            # The client's tasks must have begun: one that is cancelled before that cancels us.
            await asyncio.sleep(0)
            await self._consumer.stop()

    async def _partitions(self) -> tuple[TopicPartition, ...]:
        """All of every topic. Asked of the broker's administration: a consumer knows only topics
        it has subscribed to, and subscribing to one that is missing may create it."""
        async with admin_client(self._broker) as client:
            described = await any_node(client.describe_topics)
        prefix = self._broker.topics
        known = {
            each["topic"]: sorted(one["partition"] for one in each["partitions"])
            for each in described
        }
        missing = [prefix + topic for topic in self._topics if not known.get(prefix + topic)]
        if missing:
            remedy = "`edgesteer topics create` makes all of them"
            if prefix:
                remedy = f"`edgesteer replay FILE --into {prefix}` makes those that it writes"
            raise TopicMismatch(
                f"{self._broker.bootstrap} has no topic {', '.join(missing)}; {remedy}"
            )
        return tuple(
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in known[prefix + topic]
            if self._only is None or partition in self._only
        )

    @property
    def _open(self) -> Any:
        if self._consumer is None:
            raise BrokerError("the reader is not open")
        return self._consumer

    async def begins(self) -> dict[TopicPartition, int]:
        """First offset of each partition that is still there."""
        begins = await self._ask(self._open.beginning_offsets(list(self._here)))
        return {self._here[there]: offset for there, offset in begins.items()}

    async def ends(self) -> dict[TopicPartition, int]:
        """The offset each partition's next record will have."""
        ends = await self._ask(self._open.end_offsets(list(self._here)))
        return {self._here[there]: offset for there, offset in ends.items()}

    async def from_begin(self) -> None:
        """Go to the beginning."""
        self.seek(await self.begins())

    async def from_time(self, at_ms: int) -> None:
        """Go to the first records that the broker took at or after `at_ms`."""
        found = await self._ask(self._open.offsets_for_times(dict.fromkeys(self._here, at_ms)))
        offsets = await self.ends()
        offsets |= {self._here[there]: each.offset for there, each in found.items() if each}
        self.seek(offsets)

    def seek(self, offsets: dict[TopicPartition, int]) -> None:
        """Go to these offsets."""
        for partition, offset in offsets.items():
            self._open.seek(self._there[partition], offset)

    def pause(self, partition: TopicPartition) -> None:
        """Fetch no more of it."""
        self._open.pause(self._there[partition])

    async def position(self, partition: TopicPartition) -> int:
        """Everything before this offset was read."""
        position: int = await self._ask(self._open.position(self._there[partition]))
        return position

    async def fetch(self, timeout_ms: int = 100) -> Fetched:
        """What there is, at most a few megabytes; empty after `timeout_ms` without any."""
        fetched = await self._ask(self._open.getmany(timeout_ms=timeout_ms))
        return {self._here[there]: records for there, records in fetched.items()}

    async def until(self, ends: dict[TopicPartition, int]) -> AsyncIterator[Fetched]:
        """Fetch until every partition's position has reached `ends`."""
        left = dict(ends)
        while left:
            for partition in list(left):
                if await self.position(partition) >= left[partition]:
                    del left[partition]
            if left and (fetched := await self.fetch()):
                yield fetched

    async def _ask(self, work: Any) -> Any:
        try:
            return await work
        except KafkaError as error:
            raise BrokerError(f"{self._broker.bootstrap}: {error}") from error
