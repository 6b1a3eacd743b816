"""Commands to a running simulation, over the topic sim.control."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError, WireError
from pipeline.feeds.publisher import Publisher
from pipeline.follow.reader import TopicReader
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode
from schemas.registry import FLEET_INVENTORY, SIM_CONTROL

#: Between two looks at the topic's end. A fetch that waits would do on Apache Kafka; the embedded
#: broker has no long poll, and an idle fetcher there costs a good part of a core.
_LOOK_S = 0.05

Handle = Callable[[str, str], Awaitable[None]]


async def listen(broker: BrokerSettings, handle: Handle, ready: asyncio.Event) -> None:
    """Hand every command sent from now on to `handle(action, entity)`, until cancelled. `ready` is
    set once none can be missed. Raises BrokerError."""
    partition = TopicPartition(SIM_CONTROL.name, 0)
    consumer = AIOKafkaConsumer(**broker.client_kwargs(), group_id=None, enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign([partition])
        next_offset = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, next_offset)
        consumer.pause(partition)
        ready.set()
        while True:
            await asyncio.sleep(_LOOK_S)
            if (await consumer.end_offsets([partition]))[partition] <= next_offset:
                continue
            consumer.resume(partition)
            found: list[Any] = (await consumer.getmany(timeout_ms=500)).get(partition, [])
            consumer.pause(partition)
            for record in found:
                next_offset = record.offset + 1
                try:
                    _, command = decode(record.value)
                except WireError:
                    continue  # not ours
                await handle(command["action"], command["entity"])
    except KafkaError as error:
        raise BrokerError(f"broker {broker.bootstrap}: {error}") from error
    finally:
        await consumer.stop()


async def send(broker: BrokerSettings, action: str, entity: str, at_ms: int) -> None:
    """Ask the running simulation for `action` (FAIL, DRAIN, FILL, RECOVER) on `entity`."""
    command = {"at_ms": at_ms, "action": action, "entity": entity}
    async with Publisher(broker) as publisher:
        await publisher.publish(
            SIM_CONTROL.name, "", entity.encode(), encode("SimCommand", command)
        )


async def entities(broker: BrokerSettings) -> dict[str, list[str]]:
    """The fleet as the inventory topic has it: site -> its appliances, each sorted."""
    alive: dict[bytes, bytes] = {}
    async with TopicReader(broker, [FLEET_INVENTORY.name]) as reader:
        await reader.from_begin()
        async for fetched in reader.until(await reader.ends()):
            for records in fetched.values():
                for record in records:
                    if record.value is None:
                        alive.pop(record.key, None)
                    elif record.key.startswith((b"site:", b"appliance:")):
                        alive[record.key] = record.value
    fleet: dict[str, list[str]] = {}
    for value in alive.values():
        try:
            name, entity = decode(value)
        except WireError:
            continue
        if name == "Site":
            fleet.setdefault(entity["site"], [])
        elif name == "Appliance":
            fleet.setdefault(entity["site"], []).append(entity["appliance"])
    return {site: sorted(appliances) for site, appliances in sorted(fleet.items())}
