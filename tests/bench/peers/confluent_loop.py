"""confluent-kafka consume(500) + fastavro, hand-written."""

import uuid

from common import BOOTSTRAP, TOPIC, Aggregate
from confluent_kafka import Consumer

consumer = Consumer(
    {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": f"bench-{uuid.uuid4()}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
consumer.subscribe([TOPIC])
total = Aggregate()
while True:
    for message in consumer.consume(500, timeout=1.0):
        if message.error() is None:
            total.start()
            total.add(message.value())
