"""Asking the broker's administration: a client, an answer from whichever node knows, and the wait
until every node knows of topics that were just created."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.metadata import MetadataRequest

from pipeline.broker.reach import why_unreachable
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError

TIMEOUT_MS = 20_000
ATTEMPTS, RETRY_AFTER_S = 20, 0.1

Answer = TypeVar("Answer")


@asynccontextmanager
async def admin_client(settings: BrokerSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is started and closed. Raises BrokerError when nobody answers."""
    client = AIOKafkaAdminClient(**settings.client_kwargs(), request_timeout_ms=TIMEOUT_MS)
    try:
        await client.start()
        yield client
    except KafkaConnectionError as error:
        why = await why_unreachable(settings) or str(error)
        raise BrokerError(f"the broker cannot be reached: {why}") from error
    except (KafkaError, OSError, TimeoutError) as error:
        what = str(error) or type(error).__name__
        raise BrokerError(f"broker {settings.bootstrap}: {what}") from error
    finally:
        await client.close()


async def any_node(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer of whichever node is up and knows: the client asks one at random, also of those
    that have gone away, or have not heard yet of a topic that another one told of. Raises
    NodeNotReadyError or UnknownTopicOrPartitionError when none is found in time."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await ask()
        except (NodeNotReadyError, UnknownTopicOrPartitionError):
            await asyncio.sleep(RETRY_AFTER_S)
    return await ask()


async def await_leaders(client: AIOKafkaAdminClient, names: set[str]) -> None:
    """Creation is acknowledged before the partitions have leaders, and before every node knows; a
    client that comes at once would be told that nobody leads them, or that there are none."""
    async with asyncio.timeout(TIMEOUT_MS / 1000):
        while True:
            if all(names <= led for led in await _led(client)):
                return
            await asyncio.sleep(0.05)


async def _led(client: AIOKafkaAdminClient) -> list[set[str]]:
    """The topics that have all their leaders, as each node that is up knows it (the client asks one
    at random: private API of the pinned aiokafka)."""
    nodes = [each.nodeId for each in client._client.cluster.brokers()]
    answers = [
        await client._client.send(node, MetadataRequest(None))
        for node in nodes
        if await client._client.ready(node)
    ]
    return [
        {
            topic["topic"]
            for topic in answer.to_object()["topics"]
            if topic["partitions"] and all(each["leader"] >= 0 for each in topic["partitions"])
        }
        for answer in answers
    ] or [set()]
