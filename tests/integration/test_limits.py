"""What a worker does when the broker fails it: it ends with a reason, or it waits within bounds."""

import asyncio
import os
import re
import time
from pathlib import Path

import aiohttp
import pytest
from aiokafka.admin import NewTopic

from pipeline.broker.admin import admin_client
from pipeline.broker.kafka import KafkaCluster
from pipeline.broker.process import free_ports
from pipeline.broker.topics import configuration, create_topics
from pipeline.follow.follower import Follower
from pipeline.wire.encode import encode
from schemas.registry import PLAY_EVENTS, STEERING_CUTS, STEERING_EPOCHS
from tests.brokers import KAFKA, TEST_PROPERTIES, TestBroker, candidates
from tests.clients import producer
from tests.laws import rows_of
from tests.plane import Plane, epochs, read_all
from topologies.app import FETCH_BYTES
from topologies.inbox import LANE_BYTES_MAX

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2
FLEET = ("--for", "5s", "--regions", "2", "--sites", "8", "--appliances", "24")
FLEET += ("--prefixes", "600", "--rate", "50")
PATIENCE_S = 90.0

NODES = 3
BURST_BYTES = 3 * LANE_BYTES_MAX
BATCH_BYTES = 512 << 10
#: A play of some 60 bytes is a Python object of 100 and, decoded, a row of as many (5.5 measured).
MEMORY_PER_BYTE = 8


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


@pytest.mark.skipif(
    not os.environ.get("EDGESTEER_CHAOS_KILLS"), reason="measures a process's memory: make chaos"
)
async def test_a_burst_that_cannot_be_cut_waits_at_the_broker(
    tmp_path: Path, needs_kafka: None
) -> None:
    """The log takes no cut (too few copies in sync) while plays keep coming, three times what a
    lane may hold: fetching is paused, memory is bounded, and in the end every play is folded."""
    with KafkaCluster(tmp_path / "broker", NODES, TEST_PROPERTIES) as cluster:
        broker, port = TestBroker(KAFKA, cluster.settings), free_ports(1)[0]
        log = {**configuration(STEERING_CUTS, NODES), "min.insync.replicas": str(NODES)}
        async with admin_client(broker.settings) as client:
            await client.create_topics([NewTopic(STEERING_CUTS.name, 1, NODES, topic_configs=log)])
        await create_topics(broker.settings, 1, NODES)
        options = ("--metrics-port", str(port))
        async with Plane(broker, tmp_path, 1, options=options) as plane:
            await go_on(broker, 3, cells=1)
            before = memory(plane.workers[0].pid, "VmRSS")
            await asyncio.to_thread(cluster.kill_node, NODES - 1)
            sent = await burst(broker)
            held = await paused(port)
            most = memory(plane.workers[0].pid, "VmHWM")
            await asyncio.to_thread(cluster.start_node, NODES - 1)
            await all_folded(broker, sent)
            assert await metric(port, "edgesteer_paused_topics") == 0
    print(f"{BURST_BYTES >> 20} MiB sent, {held >> 20} held, {(most - before) >> 20} of memory")
    assert held < 2 * LANE_BYTES_MAX
    assert most - before < MEMORY_PER_BYTE * LANE_BYTES_MAX + 16 * FETCH_BYTES


async def burst(broker: TestBroker) -> int:
    """So many plays as fast as the broker takes them; how many."""
    play = {"session": 1, "at_ms": time.time_ns() // 1_000_000, "event": "HEARTBEAT"}
    play |= {"client": bytes(16), "appliance": "nowhere-a01", "file": 0, "traffic_class": "VOD"}
    play |= {"bytes": 1, "bitrate_bps": 1, "startup_ms": 0, "stall_ms": 0}
    value, sent, pending = encode("PlayEvent", play), 0, []
    async with producer(broker, max_batch_size=BATCH_BYTES) as out:
        while sent * len(value) < BURST_BYTES:
            batch = out.create_batch()
            while batch.append(key=None, value=value, timestamp=None) is not None:
                sent += 1
            pending.append(await out.send_batch(batch, PLAY_EVENTS.name, partition=0))
        await asyncio.gather(*pending)
    return sent


async def paused(port: int) -> int:
    """Until fetching is paused; the most bytes that then waited, for some seconds more."""
    async with asyncio.timeout(PATIENCE_S):
        while not await metric(port, "edgesteer_paused_topics"):
            await asyncio.sleep(0.1)
    held = 0
    for _ in range(20):
        held = max(held, int(await metric(port, "edgesteer_inbox_bytes")))
        await asyncio.sleep(0.1)
    return held


async def all_folded(broker: TestBroker, sent: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            folded, _ = rows_of(epochs(await read_all(broker, [STEERING_EPOCHS.name], 1), 0))
            if folded[PLAY_EVENTS.name] == sent:
                return
            await asyncio.sleep(0.5)


async def metric(port: int, name: str) -> float:
    """The sum over its labels."""
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        text = await answer.text()
    return sum(float(found) for found in re.findall(rf"^{name}{{.*}} (.*)$", text, re.MULTILINE))


def memory(pid: int, name: str) -> int:
    """Bytes of a process, as Linux tells."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


async def go_on(broker: TestBroker, cuts: int, cells: int = PARTITIONS) -> None:
    """Until every cell has published so many cuts more."""
    async with Follower(broker.settings) as follower:
        before = {cell: follower.table.cell(cell).cut for cell in range(cells)}
        await follower.wait_for(
            lambda table: all(table.cell(cell).cut >= before[cell] + cuts for cell in before),
            PATIENCE_S,
        )
        assert follower.table.verify() == []
