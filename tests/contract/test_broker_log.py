"""What the plane needs of a broker's log: order, offsets, headers, tombstones, batches, times."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from tests.brokers import TestBroker
from tests.clients import WAIT_S, producer, read, reader
from tests.conftest import NewTopicMaker

pytestmark = pytest.mark.broker


async def test_records_come_back_whole_and_in_order(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic(partitions=2)
    async with producer(broker) as out:
        for number in range(50):
            headers = [("cut", number.to_bytes(8, "big"))]
            await out.send_and_wait(
                topic, b"%d" % number, b"k%d" % number, partition=number % 2, headers=headers
            )
    for partition in (0, 1):
        async with reader(broker, TopicPartition(topic, partition)) as consumer:
            records = await read(consumer, 25)
        numbers = list(range(partition, 50, 2))
        assert [record.offset for record in records] == list(range(25))
        assert [record.value for record in records] == [b"%d" % number for number in numbers]
        assert [record.key for record in records] == [b"k%d" % number for number in numbers]
        assert [dict(record.headers)["cut"][-1] for record in records] == numbers


async def test_a_tombstone_keeps_key_and_headers(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic(**{"cleanup.policy": "compact"})
    async with producer(broker) as out:
        await out.send_and_wait(topic, None, b"gone", partition=0, headers=[("cut", b"7")])
    async with reader(broker, TopicPartition(topic, 0)) as consumer:
        (record,) = await read(consumer, 1)
    assert (record.key, record.value, record.headers) == (b"gone", None, (("cut", b"7"),))


async def test_end_offsets_count_records_not_batches(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic()
    tp = TopicPartition(topic, 0)
    async with producer(broker, linger_ms=20, max_batch_size=65_536) as out:
        await asyncio.gather(*[await out.send(topic, b"x" * 40, partition=0) for _ in range(5000)])
    async with reader(broker, tp) as consumer:
        assert await consumer.end_offsets([tp]) == {tp: 5000}
        assert await consumer.beginning_offsets([tp]) == {tp: 0}
        assert len(await read(consumer, 5000)) == 5000
        assert await consumer.position(tp) == 5000


async def test_one_built_batch_is_one_write_with_consecutive_offsets(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic()
    async with producer(broker, max_batch_size=524_288) as out:
        await out.send_and_wait(topic, b"before", partition=0)
        batch = out.create_batch()
        for number in range(1000):
            kept = batch.append(
                key=b"k%d" % number,
                value=None if number % 2 else b"v",
                timestamp=None,
                headers=[("cut", b"1")],
            )
            assert kept is not None
        acknowledged = await (await out.send_batch(batch, topic, partition=0))
        assert acknowledged.offset == 1
    async with reader(broker, TopicPartition(topic, 0)) as consumer:
        records = await read(consumer, 1001)
    assert [record.offset for record in records] == list(range(1001))
    assert records[-1].headers == (("cut", b"1"),)


async def test_a_time_finds_the_first_record_at_or_after_it(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic()
    tp = TopicPartition(topic, 0)
    start_ms = time.time_ns() // 1_000_000 - 60_000
    async with producer(broker) as out:
        for number in range(20):
            await out.send_and_wait(topic, b"x", partition=0, timestamp_ms=start_ms + 1000 * number)
    async with reader(broker, tp) as consumer:
        at = await consumer.offsets_for_times({tp: start_ms + 4500})
        assert (at[tp].offset, at[tp].timestamp) == (5, start_ms + 5000)
        assert (await consumer.offsets_for_times({tp: start_ms - 1}))[tp].offset == 0
        assert (await consumer.offsets_for_times({tp: start_ms + 60_000}))[tp] is None


async def test_retention_goes_by_the_times_that_records_carry(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic(partitions=2, **{"retention.ms": "604800000"})
    old, new = TopicPartition(topic, 0), TopicPartition(topic, 1)
    async with producer(broker) as out:
        await out.send_and_wait(topic, b"old", partition=0, timestamp_ms=1_700_000_000_000)
        await out.send_and_wait(topic, b"new", partition=1)
    async with reader(broker, old) as consumer, asyncio.timeout(WAIT_S):
        # Within a second on the embedded broker; Apache Kafka looks every five minutes.
        while not broker.is_kafka and await consumer.beginning_offsets([old]) == {old: 0}:
            await asyncio.sleep(0.05)
    async with reader(broker, new) as consumer:
        assert (await read(consumer, 1))[0].value == b"new"


async def test_a_seek_lands_exactly_there(broker: TestBroker, new_topic: NewTopicMaker) -> None:
    topic = await new_topic()
    tp = TopicPartition(topic, 0)
    async with producer(broker, linger_ms=20) as out:
        await asyncio.gather(*[await out.send(topic, b"%d" % n, partition=0) for n in range(300)])
    async with reader(broker, tp) as consumer:
        consumer.seek(tp, 137)  # in the middle of a batch
        assert (await read(consumer, 1))[0].value == b"137"


async def test_a_record_above_the_topics_limit_is_refused_and_the_producer_goes_on(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic(**{"max.message.bytes": "10000"})
    async with producer(broker) as out:
        with pytest.raises(MessageSizeTooLargeError):
            await out.send_and_wait(topic, b"x" * 20_000, partition=0)
        assert (await out.send_and_wait(topic, b"small", partition=0)).offset == 0


async def test_a_waiting_reader_sees_a_record_without_asking_again(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic()
    async with reader(broker, TopicPartition(topic, 0)) as consumer, producer(broker) as out:
        waiting = asyncio.create_task(read(consumer, 1))
        await asyncio.sleep(0.2)
        await out.send_and_wait(topic, b"news", partition=0)
        assert (await waiting)[0].value == b"news"


@pytest.mark.gap("embedded", AssertionError, reason="no long poll: see pipeline/broker/longpoll")
async def test_an_empty_fetch_is_held_back(broker: TestBroker, new_topic: NewTopicMaker) -> None:
    topic = await new_topic()
    async with reader(broker, TopicPartition(topic, 0), fetch_max_wait_ms=500) as consumer:
        await consumer.getmany(timeout_ms=100)
        fetcher, count = consumer._fetcher, 0
        original = fetcher._proc_fetch_request

        async def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            return await original(*args, **kwargs)

        fetcher._proc_fetch_request = counted
        await consumer.getmany(timeout_ms=2000)
        assert count < 20  # thousands without long poll


async def test_position_is_past_the_control_records_of_a_transaction(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic()
    tp = TopicPartition(topic, 0)
    async with producer(broker, transactional_id=f"{topic}-writer") as out:
        async with out.transaction():
            await out.send_and_wait(topic, b"one", partition=0)
        async with out.transaction():
            await out.send_and_wait(topic, b"two", partition=0)
    async with reader(broker, tp) as consumer:
        end = (await consumer.end_offsets([tp]))[tp]
        records = await read(consumer, 2)
        async with asyncio.timeout(WAIT_S):
            while await consumer.position(tp) < end:
                await consumer.getmany(timeout_ms=100)
        assert [record.value for record in records] == [b"one", b"two"]
        assert await consumer.position(tp) == end
        assert end > records[-1].offset + 1


async def test_committed_records_are_readable_after_an_abort(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic = await new_topic()
    async with producer(broker, transactional_id=f"{topic}-writer") as out:
        await out.begin_transaction()
        await out.send_and_wait(topic, b"aborted", partition=0)
        await out.abort_transaction()
        async with out.transaction():
            await out.send_and_wait(topic, b"committed", partition=0)
    committed = {"isolation_level": "read_committed"}
    async with reader(broker, TopicPartition(topic, 0), **committed) as consumer:
        assert [record.value for record in await read(consumer, 1)] == [b"committed"]
