"""bytewax + fastavro, whole batches into one operator (its fastest shape)."""

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, cluster_main
from common import BOOTSTRAP, TOPIC, Aggregate

total = Aggregate()


def add(batch: list) -> list:
    total.start()
    for message in batch:
        total.add(message.value)
    return []


flow = Dataflow("bench")
source = KafkaSource([BOOTSTRAP], [TOPIC], tail=True, batch_size=1000)
stream = op.input("in", flow, source)
op.output("out", op.flat_map_batch("add", stream, add), TestingSink([]))
cluster_main(flow, [], 0)
