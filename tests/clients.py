"""Plain aiokafka clients for tests: what a stranger to our own code would see on the broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.brokers import TestBroker

WAIT_S = 120


@asynccontextmanager
async def producer(broker: TestBroker, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(**broker.settings.client_kwargs(), acks="all", **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def reader(broker: TestBroker, *tps: TopicPartition, **options: Any) -> AsyncIterator[Any]:
    """A consumer without a group, at the beginning of the partitions."""
    client = AIOKafkaConsumer(
        **broker.settings.client_kwargs(), enable_auto_commit=False, **options
    )
    await client.start()
    try:
        client.assign(list(tps))
        if tps:
            await client.seek_to_beginning(*tps)
        yield client
    finally:
        await client.stop()


async def read(consumer: Any, count: int) -> list[Any]:
    """The next `count` records, in the order in which they came."""
    records: list[Any] = []
    async with asyncio.timeout(WAIT_S):
        while len(records) < count:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
    return records
