"""Isolated topics: the plane's topics once more, under a prefix, for what must not touch live ones.

Three walls, each enough by itself: a prefix under which a name could be taken for a live one is
refused; a producer sends to names under its prefix only and never to a name of the registry; what
is deleted is named in full, prefix and registry name, and never found by how it begins.
"""

import asyncio
import re
from typing import Any

from pipeline.broker.admin import TIMEOUT_MS, admin_client
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import IsolationError
from schemas.registry import BY_NAME, TOPICS

#: What Kafka allows in a name. Two underscores begin the broker's own.
_PREFIX = re.compile(r"(?!__)[A-Za-z0-9_-][A-Za-z0-9._-]*\.")
NAME_MAX = 249  # characters, Kafka's limit


def isolated_prefix(prefix: str) -> str:
    """`prefix`, when no name under it can be taken for a live one. Raises IsolationError."""
    if not _PREFIX.fullmatch(prefix):
        raise IsolationError(
            f"{prefix!r} is no prefix for isolated topics: letters, digits, _, - and dots, and a "
            "dot at the end, like `replay.`"
        )
    if len(prefix) + max(map(len, BY_NAME)) > NAME_MAX:
        raise IsolationError(f"{prefix[:20]}... is too long: names end at {NAME_MAX} characters")
    begins = [name for name in BY_NAME if name.startswith(prefix)]
    makes = [prefix + name for name in BY_NAME if prefix + name in BY_NAME]
    if begins or makes:
        raise IsolationError(
            f"{prefix} is not apart from the live topic {(begins + makes)[0]}; choose another "
            "prefix, like `replay.`"
        )
    return prefix


class IsolatedProducer:
    """Sends batches to topics under `prefix`, and refuses every other topic."""

    def __init__(self, producer: Any, prefix: str) -> None:
        self._producer, self._prefix = producer, isolated_prefix(prefix)

    def create_batch(self) -> Any:
        """An empty batch."""
        return self._producer.create_batch()

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        """As the producer's. Raises IsolationError for a topic that is not under the prefix."""
        if topic in BY_NAME or not topic.startswith(self._prefix):
            raise IsolationError(f"not written to {topic}: it is not under {self._prefix}")
        return await self._producer.send_batch(batch, topic, partition=partition)


async def delete_isolated(settings: BrokerSettings, prefix: str) -> list[str]:
    """Delete the topics of the registry under `prefix` that are there; return their names once they
    are gone. Raises IsolationError, BrokerError."""
    ours = {isolated_prefix(prefix) + topic.name for topic in TOPICS}
    async with admin_client(settings) as client:
        there = sorted(ours & set(await client.list_topics()))
        if there:
            await client.delete_topics(there, timeout_ms=TIMEOUT_MS)
            await _await_gone(client, ours)
    return there


async def _await_gone(client: Any, names: set[str]) -> None:
    """A deletion is acknowledged before it shows."""
    async with asyncio.timeout(TIMEOUT_MS / 1000):
        while True:
            left = names & set(await client.list_topics())
            if not left:
                return
            await asyncio.sleep(0.05)
