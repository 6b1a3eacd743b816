"""What a worker does when the broker fails it: it ends with a reason, or it waits within bounds."""

import asyncio
from pathlib import Path

import pytest

from pipeline.broker.kafka import KafkaCluster
from pipeline.broker.topics import create_topics
from pipeline.follow.follower import Follower
from tests.brokers import KAFKA, TEST_PROPERTIES, TestBroker, candidates
from tests.plane import Plane

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2
FLEET = ("--for", "5s", "--regions", "2", "--sites", "8", "--appliances", "24")
FLEET += ("--prefixes", "600", "--rate", "50")
PATIENCE_S = 90.0


@pytest.fixture
def needs_kafka() -> None:
    if candidates()[0] != KAFKA:
        pytest.skip("ends brokers of its own: EDGESTEER_TEST_BROKER=kafka")


async def test_without_a_broker_a_worker_ends_with_a_reason_and_a_restart_mends_it(
    tmp_path: Path, needs_kafka: None
) -> None:
    with KafkaCluster(tmp_path / "broker", properties=TEST_PROPERTIES) as cluster:
        broker = TestBroker(KAFKA, cluster.settings)
        await create_topics(broker.settings, PARTITIONS)
        async with Plane(broker, tmp_path, 1, options=("--stalled-after", "10")) as plane:
            fleet, (worker,) = plane.fleet(*FLEET), plane.workers
            await fleet.start()
            await go_on(broker, 3)
            assert await fleet.wait() == 0
            await asyncio.to_thread(cluster.kill_node, 0)
            async with asyncio.timeout(PATIENCE_S):
                assert await worker.wait() == 1
            assert "worker failed" in worker.log.read_text()
            await worker.start()
            async with asyncio.timeout(PATIENCE_S):
                assert await worker.wait() == 1
            assert cluster.bootstrap in worker.log.read_text().splitlines()[-1]
            await asyncio.to_thread(cluster.start_node, 0)
            await worker.start()
            await go_on(broker, 3)


async def go_on(broker: TestBroker, cuts: int) -> None:
    """Until every cell has published so many cuts more."""
    async with Follower(broker.settings) as follower:
        before = {cell: follower.table.cell(cell).cut for cell in range(PARTITIONS)}
        await follower.wait_for(
            lambda table: all(table.cell(cell).cut >= before[cell] + cuts for cell in before),
            PATIENCE_S,
        )
        assert follower.table.verify() == []
