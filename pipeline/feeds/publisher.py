"""The publisher: every record of ours that goes into an input topic goes through here.

Also the SDK for publishers of telemetry:

    async with Publisher(find_broker("kafka:9092")) as publisher:
        await publisher.health("eu-west", {"appliance": "fra1-c3", "egress_bps": 31_000_000_000,
                                           "capacity_bps": 40_000_000_000, "cpu": 0.61})

Rule: a call returns when the broker has acknowledged (acks=all) and raises BrokerError otherwise;
nothing is sent and forgotten. Where a record goes follows from its region (schemas/partition.py).
What the registry does not know is refused before it is sent: an unknown topic, a record that does
not travel on it, a record without a key where the topic is compacted.
Rejected: an idempotent producer (one rejected batch leaves its partition unusable, and it ignores
its time-outs while a broker is frozen); a repeated record is folded once anyway.
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.broker.settings import BrokerSettings
from pipeline.broker.topics import partition_count
from pipeline.errors import BrokerError, UsageError
from pipeline.feeds.reports import (
    EndOfRibReport,
    HealthReport,
    LinkReport,
    PathReport,
    PeerDownReport,
    PeerUpReport,
    PlayReport,
    Report,
    RouteReport,
)
from pipeline.wire.catalog import CATALOG, HEADER_SIZE, MARK
from pipeline.wire.encode import encode
from schemas.partition import partition_of
from schemas.registry import BY_NAME, Cleanup, Role, Topic

#: Bytes a batch, at most: much faster than the default 16 KiB, and below the 1 MiB that a broker
#: takes in one request unless told otherwise.
BATCH_BYTES = 512 * 1024
#: Batches under way at once, so that memory is bounded when the broker is slow.
BATCHES_IN_FLIGHT = 8
LINGER_MS = 2

Row = tuple[bytes, bytes | None]


class Publisher:
    """Async context manager. Raises BrokerError when the broker fails, TopicMismatch when it has no
    topics of ours, UsageError for what may not be sent."""

    def __init__(self, broker: BrokerSettings, *, prefix: str = "") -> None:
        self._broker, self._prefix = broker, prefix
        self._producer: Any = None
        self.partitions = 0

    async def __aenter__(self) -> Self:
        self.partitions = await partition_count(self._broker, self._prefix)
        producer = AIOKafkaProducer(
            **self._broker.client_kwargs(),
            acks="all",
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
        )
        try:
            await producer.start()
        except KafkaError as error:
            await producer.stop()
            raise BrokerError(f"broker {self._broker.bootstrap}: {error}") from error
        self._producer = producer
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._producer is not None:
            await self._producer.stop()

    # -- records that are encoded already ----------------------------------------------------------

    def partition(self, topic: str, region: str) -> int:
        """Where the records of a region go; a shared topic has one partition."""
        shared = _topic(topic).role is Role.SHARED
        return 0 if shared else partition_of(region, self.partitions)

    async def publish(self, topic: str, region: str, key: bytes, value: bytes | None) -> None:
        """Send one record and wait for it; `value` None is a tombstone."""
        await self.send_rows(topic, self.partition(topic, region), [key], [value])

    async def send_rows(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes],
        values: Sequence[bytes | None],
    ) -> None:
        """Send many records of one partition, in order, as full batches; return when all of them
        are acknowledged."""
        check(topic, keys, values)
        producer, name = self._producer, self._prefix + topic
        pending: list[asyncio.Future[Any]] = []
        batch = producer.create_batch()
        try:
            for key, value in zip(keys, values, strict=True):
                if batch.append(key=key, value=value, timestamp=None) is None:
                    pending.append(await producer.send_batch(batch, name, partition=partition))
                    if len(pending) >= BATCHES_IN_FLIGHT:
                        await pending.pop(0)
                    batch = producer.create_batch()
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        raise UsageError(f"a record of {len(value or b'')} bytes is too large")
            if batch.record_count():
                pending.append(await producer.send_batch(batch, name, partition=partition))
            for future in pending:
                await future
        except KafkaError as error:
            what = str(error) or type(error).__name__
            raise BrokerError(f"{name} was not published: {what}") from error
        finally:
            for future in pending:  # the first failure was raised; the others are not left alone
                future.add_done_callback(_retrieve)

    # -- reports -----------------------------------------------------------------------------------

    async def report(self, region: str, report: Report) -> None:
        """Send one validated report."""
        value = encode(report.name, report.record())
        await self.publish(report.topic.name, region, report.key(), value)

    async def health(self, region: str, given: HealthReport | Mapping[str, Any]) -> None:
        """What an appliance says of itself: every few seconds, at once when its service changes."""
        await self.report(region, HealthReport.of(given))

    async def route(self, region: str, given: RouteReport | Mapping[str, Any]) -> None:
        """A route that a site learned, announced or (action WITHDRAW) withdrawn."""
        await self.report(region, RouteReport.of(given))

    async def peer_up(self, region: str, given: PeerUpReport | Mapping[str, Any]) -> None:
        """A BGP session came up."""
        await self.report(region, PeerUpReport.of(given))

    async def peer_down(self, region: str, given: PeerDownReport | Mapping[str, Any]) -> None:
        """A BGP session ended."""
        await self.report(region, PeerDownReport.of(given))

    async def end_of_rib(self, region: str, given: EndOfRibReport | Mapping[str, Any]) -> None:
        """A peer has announced its whole table."""
        await self.report(region, EndOfRibReport.of(given))

    async def path(self, region: str, given: PathReport | Mapping[str, Any]) -> None:
        """What a site measured towards a client network."""
        await self.report(region, PathReport.of(given))

    async def link(self, region: str, given: LinkReport | Mapping[str, Any]) -> None:
        """The use of one link."""
        await self.report(region, LinkReport.of(given))

    async def play(self, region: str, given: PlayReport | Mapping[str, Any]) -> None:
        """What a player reports of its session."""
        await self.report(region, PlayReport.of(given))


def _retrieve(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()


def _topic(name: str) -> Topic:
    try:
        return BY_NAME[name]
    except KeyError:
        raise UsageError(f"the registry has no topic {name!r}") from None


def check(topic: str, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
    """Raise UsageError unless the registry lets these records travel on this topic."""
    known = _topic(topic)
    compacted = known.cleanup is not Cleanup.DELETE
    if len(keys) != len(values):
        raise UsageError(f"{len(keys)} keys for {len(values)} values")
    if compacted and not all(keys):
        raise UsageError(f"{topic} is compacted: a record without a key cannot be kept")
    headers = {None if value is None else value[:HEADER_SIZE] for value in values}
    for header in headers:
        if header is None:
            if not compacted:
                raise UsageError(f"{topic} is not compacted: a tombstone means nothing there")
            continue
        schema = CATALOG.by_fingerprint(header[len(MARK) :]) if header.startswith(MARK) else None
        if schema is None or schema.name not in known.records:
            what = schema.name if schema else "bytes of no known schema"
            raise UsageError(f"{what} does not travel on {topic}")
