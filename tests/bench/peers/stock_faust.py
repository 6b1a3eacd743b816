"""A stock Faust agent + fastavro."""

import asyncio
import tempfile
import uuid

import faust
from common import BOOTSTRAP, PARTITIONS, TOPIC, Aggregate

total = Aggregate()
app = faust.App(
    f"bench-{uuid.uuid4()}",
    broker=f"kafka://{BOOTSTRAP}",
    store="memory://",
    datadir=tempfile.mkdtemp(),
    web_enabled=False,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    topic_partitions=PARTITIONS,
)


@app.agent(app.topic(TOPIC, value_type=bytes, value_serializer="raw"))
async def add(stream):  # type: ignore[no-untyped-def]
    async for value in stream:
        total.start()
        total.add(value)


async def main() -> None:
    await app.start()
    await asyncio.sleep(3600)


asyncio.run(main())
