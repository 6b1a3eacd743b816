"""aiokafka getmany + fastavro, hand-written."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from common import BOOTSTRAP, PARTITIONS, TOPIC, Aggregate


async def main() -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    consumer.assign([TopicPartition(TOPIC, number) for number in range(PARTITIONS)])
    total = Aggregate()
    while True:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            total.start()
            for record in records:
                total.add(record.value)


asyncio.run(main())
