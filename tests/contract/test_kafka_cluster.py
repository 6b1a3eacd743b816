"""A cluster of three: what was acknowledged outlives the leader that acknowledged it."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from pipeline.broker.admin import admin_client, any_node, await_leaders
from pipeline.broker.kafka import KafkaCluster
from pipeline.broker.topics import check_topics
from tests.brokers import KAFKA, TestBroker
from tests.clients import producer, read, reader

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def leader(broker: TestBroker, topic: str) -> int:
    async with admin_client(broker.settings) as client:
        topics = await any_node(client.describe_topics)
        (described,) = [each for each in topics if each["topic"] == topic]
        return int(described["partitions"][0]["leader"])


async def test_acknowledged_records_outlive_their_leader(
    broker: TestBroker, tmp_path: Path
) -> None:
    if broker.kind != KAFKA:
        pytest.skip("starts nodes of its own: EDGESTEER_TEST_BROKER=kafka")
    cluster = await asyncio.to_thread(KafkaCluster(tmp_path, nodes=3).start)
    three = TestBroker(KAFKA, cluster.settings)
    config = {"min.insync.replicas": "2"}
    try:
        async with admin_client(three.settings) as client:
            await client.create_topics([NewTopic("log", 1, 3, topic_configs=config)])
            await await_leaders(client, {"log"})
        async with producer(three) as out:
            for number in range(100):
                await out.send_and_wait("log", b"%d" % number, partition=0)
            lost = await leader(three, "log")
            await asyncio.to_thread(cluster.kill_node, lost - 1)
            for number in range(100, 200):
                await out.send_and_wait("log", b"%d" % number, partition=0)
        assert await leader(three, "log") != lost
        for _ in range(20):  # the client asks any node, also the one that is gone
            assert await check_topics(three.settings, prefix="none.") != []
        async with reader(three, TopicPartition("log", 0)) as consumer:
            values = [record.value for record in await read(consumer, 200)]
        assert list(dict.fromkeys(values)) == [b"%d" % number for number in range(200)]
        await asyncio.to_thread(cluster.start_node, lost - 1)
    finally:
        await asyncio.to_thread(cluster.stop)
