"""The floor: edgesteer's own chunk reader without Faust, fetching without decoding."""

import asyncio
import json
import os
import time

from aiokafka import AIOKafkaConsumer, TopicPartition
from common import BOOTSTRAP, COUNT, PARTITIONS, TOPIC

from topologies.chunks import fetch_in_chunks


async def main() -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    fetch_in_chunks(consumer, [TOPIC])
    consumer.assign([TopicPartition(TOPIC, number) for number in range(PARTITIONS)])
    count, began = 0, 0.0
    while count < COUNT:
        fetched = await consumer.getmany(timeout_ms=1000)
        began = began or time.perf_counter()
        count += sum(len(one.value.values) for records in fetched.values() for one in records)
    print(json.dumps({"events": count, "seconds": time.perf_counter() - began}), flush=True)
    os._exit(0)


asyncio.run(main())
