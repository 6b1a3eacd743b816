"""What the plane needs of compaction: last values stay, tombstones bury, the young are spared."""

import asyncio
import time
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition

from tests.brokers import TestBroker
from tests.clients import producer, reader
from tests.conftest import NewTopicMaker

pytestmark = [pytest.mark.broker, pytest.mark.slow]

#: Small segments that close at once, and a cleaner that need not wait for much dirt.
EAGER = {
    "cleanup.policy": "compact",
    "segment.bytes": "1048576",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
}
#: The embedded broker leaves small topics alone: 20 MB were compacted, 240 KB were not.
RECORDS, KEYS, VALUE = 20_000, 100, bytes(1000)
COMPACTED_WITHIN_S = 120


async def _fill(broker: TestBroker, topic: str) -> None:
    """RECORDS values over KEYS keys, then tombstones for the even ones."""
    async with producer(broker, linger_ms=5, max_batch_size=262_144) as out:
        for start in range(0, RECORDS, 1000):
            await asyncio.gather(
                *[
                    await out.send(
                        topic, b"%d:" % number + VALUE, b"k%d" % (number % KEYS), partition=0
                    )
                    for number in range(start, start + 1000)
                ]
            )
        for key in range(0, KEYS, 2):
            await out.send_and_wait(topic, None, b"k%d" % key, partition=0)


async def _roll(broker: TestBroker, topic: str) -> None:
    """Close the active segment, which is never compacted: wait, and write one more record."""
    await asyncio.sleep(1.2)
    async with producer(broker) as out:
        await out.send_and_wait(topic, b"last", b"roll", partition=0)


async def _all(broker: TestBroker, topic: str) -> list[tuple[int, bytes, bytes | None]]:
    tp = TopicPartition(topic, 0)
    records = []
    async with reader(broker, tp, max_partition_fetch_bytes=8_388_608) as consumer:
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += [(record.offset, record.key, record.value) for record in batch]
    return records


async def _until_compacted(
    broker: TestBroker, topic: str, done: Callable[[list[tuple[int, bytes, bytes | None]]], bool]
) -> list[tuple[int, bytes, bytes | None]]:
    until = time.monotonic() + COMPACTED_WITHIN_S
    records = await _all(broker, topic)
    while not done(records) and time.monotonic() < until:
        await _roll(broker, topic)
        records = await _all(broker, topic)
    return records


@pytest.mark.timeout(600)
async def test_compaction_keeps_each_keys_last_value_and_its_offset(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic(**EAGER)
    await _fill(broker, topic)
    records = await _until_compacted(broker, topic, lambda seen: len(seen) < RECORDS // 2)
    assert len(records) < RECORDS // 2, "it was never compacted"
    last = {key: value for _, key, value in records}
    for number in range(RECORDS - KEYS, RECORDS):
        key = b"k%d" % (number % KEYS)
        if number % 2:
            assert last[key] == b"%d:" % number + VALUE
        else:
            assert last.get(key) is None  # the tombstone, or nothing any more
    offsets = [offset for offset, _, _ in records]
    assert offsets == sorted(set(offsets))
    for offset, key, value in records:
        if value is not None and key != b"roll":
            assert value.startswith(b"%d:" % offset), "a record changed its offset"


@pytest.mark.timeout(600)
async def test_records_younger_than_the_compaction_lag_are_spared(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    spared = await new_topic(**EAGER, **{"min.compaction.lag.ms": "86400000"})
    eager = await new_topic(**EAGER)
    await _fill(broker, spared)
    await _fill(broker, eager)
    compacted = await _until_compacted(broker, eager, lambda seen: len(seen) < RECORDS // 2)
    assert len(compacted) < RECORDS // 2, "the other topic was never compacted: nothing is shown"
    await _roll(broker, spared)
    values = [value for _, key, value in await _all(broker, spared) if key != b"roll"]
    assert len(values) == RECORDS + KEYS // 2
