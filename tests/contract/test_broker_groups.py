"""What the plane needs of consumer groups: sharing, handing over, static members, dead members."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from tests.brokers import TestBroker
from tests.clients import WAIT_S
from tests.conftest import NewTopicMaker

pytestmark = pytest.mark.broker
PARTITIONS = 4
SESSION_MS = 6000  # the least that both brokers take unasked


@asynccontextmanager
async def member(
    broker: TestBroker, topic: str, group: str, static: str = ""
) -> AsyncIterator[Any]:
    """One polling member of a group."""
    client = AIOKafkaConsumer(
        topic,
        **broker.settings.client_kwargs(),
        group_id=group,
        group_instance_id=static or None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=200,
    )
    await client.start()
    polling = asyncio.create_task(_poll(client))
    try:
        yield client
    finally:
        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling
        await client.stop()


async def _poll(client: Any) -> None:
    while True:  # membership is kept up by the coordinator; polling notices a rebalance
        await client.getmany(timeout_ms=50)


def share(client: Any) -> set[int]:
    return {tp.partition for tp in client.assignment()}


async def until(holds: Callable[[], bool], limit_s: float = WAIT_S) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.02)


#: A member in a process of its own, so that it can die as a worker dies: without a farewell.
MEMBER = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer

async def main(bootstrap, topic, group, static, session_ms):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, group_instance_id=static or None,
        session_timeout_ms=int(session_ms), heartbeat_interval_ms=200, enable_auto_commit=False,
    )
    await consumer.start()
    while True:
        await consumer.getmany(timeout_ms=50)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def mortal(
    broker: TestBroker, topic: str, group: str, static: str = ""
) -> AsyncIterator[Any]:
    """A member whose process can be killed with `.kill()`."""
    where = broker.settings.bootstrap
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMBER, where, topic, group, static, str(SESSION_MS)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


EVERYTHING = set(range(PARTITIONS))


async def test_members_share_all_partitions_and_hand_them_over(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic, group = await new_topic(PARTITIONS), uuid.uuid4().hex
    async with member(broker, topic, group) as one:
        await until(lambda: share(one) == EVERYTHING)
        async with member(broker, topic, group) as two:
            await until(
                lambda: (
                    len(share(one)) == len(share(two)) == 2
                    and share(one) | share(two) == EVERYTHING
                )
            )
        await until(lambda: share(one) == EVERYTHING)


async def test_a_static_member_comes_back_to_its_share_without_a_rebalance(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic, group = await new_topic(PARTITIONS), uuid.uuid4().hex
    async with member(broker, topic, group, "slot-1") as one:
        async with AsyncExitStack() as stack:
            two = await stack.enter_async_context(member(broker, topic, group, "slot-2"))
            # Both must know of the new shares: for a moment the first still holds the old ones.
            await until(lambda: len(share(one)) == len(share(two)) == 2)
            assert share(one) | share(two) == EVERYTHING
            kept, held = share(one), share(two)
        async with member(broker, topic, group, "slot-2") as again:
            await until(lambda: share(again) == held)
            assert share(one) == kept


async def test_committed_offsets_outlive_the_group(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic, group = await new_topic(), uuid.uuid4().hex
    tp = TopicPartition(topic, 0)
    async with member(broker, topic, group) as one:
        await until(lambda: share(one) == {0})
        await one.commit({tp: OffsetAndMetadata(17, "note")})
    async with member(broker, topic, group) as two:
        await until(lambda: share(two) == {0})
        assert await two.committed(tp) == 17


async def test_a_killed_static_member_takes_its_share_back_when_it_restarts(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic, group = await new_topic(PARTITIONS), uuid.uuid4().hex
    async with member(broker, topic, group, "slot-1") as one:
        await until(lambda: share(one) == EVERYTHING)
        async with mortal(broker, topic, group, "slot-2") as two:
            await until(lambda: len(share(one)) == 2)
            kept = share(one)
            two.kill()
            await two.wait()
        async with member(broker, topic, group, "slot-2") as again:
            await until(lambda: share(again) == EVERYTHING - kept)
            assert share(one) == kept


@pytest.mark.gap(
    "embedded", TimeoutError, reason="the session time-out is not enforced: a dead member stays"
)
async def test_a_killed_members_share_passes_to_the_living(
    broker: TestBroker, new_topic: NewTopicMaker
) -> None:
    topic, group = await new_topic(PARTITIONS), uuid.uuid4().hex
    async with member(broker, topic, group) as one:
        await until(lambda: share(one) == EVERYTHING)
        async with mortal(broker, topic, group) as two:
            await until(lambda: len(share(one)) == 2)
            two.kill()
            await two.wait()
        await until(lambda: share(one) == EVERYTHING, 4 * SESSION_MS / 1000)
