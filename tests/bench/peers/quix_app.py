"""quixstreams + fastavro."""

import logging
import uuid

from common import BOOTSTRAP, TOPIC, Aggregate
from quixstreams import Application

logging.disable(logging.CRITICAL)
app = Application(
    broker_address=BOOTSTRAP,
    consumer_group=f"bench-{uuid.uuid4()}",
    auto_offset_reset="earliest",
    use_changelog_topics=False,
    auto_create_topics=False,
)
total = Aggregate()


def add(value: bytes) -> None:
    total.start()
    total.add(value)


stream = app.dataframe(app.topic(TOPIC, key_deserializer="bytes", value_deserializer="bytes"))
stream.update(add)
app.run()
