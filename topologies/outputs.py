"""Publishing with delivery awaited: nothing is done until the broker has acknowledged it.

A plain producer with acks=all and whole batches per topic (pipeline/broker/batches.py,
docs/adr/0009). Rejected: an idempotent producer (one rejected batch makes its partition unusable,
and it ignores its time-out while a broker is frozen) and transactions (twice the way's latency, and
a reader that can be blocked); what a zombie writes is put right by the owner instead. Every future
is awaited: a failed send that nobody awaits is lost without a word.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.broker.batches import BATCH_BYTES, REQUEST_BYTES_MAX, Written, send_all
from pipeline.cut import Cut
from pipeline.effects import Block, Record
from pipeline.wire.encode import encode
from pipeline.wire.headers import HEADER, pack_cut
from schemas.registry import STEERING_CONFIG, STEERING_CUTS
from topologies import metrics


class Outputs:
    """The worker's one producer."""

    def __init__(self, client_kwargs: Mapping[str, Any]) -> None:
        self._producer = AIOKafkaProducer(
            **client_kwargs,
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES_MAX,
        )

    async def start(self) -> None:
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    async def append_cut(self, cut: Cut) -> None:
        """Append a cut to the log; returns when the broker has it."""
        await self._producer.send_and_wait(
            STEERING_CUTS.name,
            value=encode("Cut", cut.to_record()),
            key=str(cut.partition).encode(),
            partition=cut.partition,
        )

    async def put_config(self, config_hash: str, canonical: str) -> None:
        """Stand a configuration in the log, before the first cut that names it."""
        await self._producer.send_and_wait(
            STEERING_CONFIG.name,
            value=encode("Config", {"hash": config_hash, "config": canonical}),
            key=config_hash.encode(),
        )

    async def publish(self, cut: Cut, records: Iterable[Record | Block]) -> list[Written]:
        """Send all records in order, with the cut in their headers; where they stand now. Returns
        when every one is acknowledged; raises KafkaError."""
        return await self._send(cut, cut.partition, records)

    async def tell(self, cut: Cut, records: Iterable[tuple[int, Record]]) -> None:
        """The same for records to other cells, each to its partition."""
        for partition, record in records:
            await self._send(cut, partition, [record])

    async def _send(
        self, cut: Cut, partition: int, records: Iterable[Record | Block]
    ) -> list[Written]:
        headers = [(HEADER, pack_cut(cut.partition, cut.number, cut.term))]
        written = await send_all(self._producer, partition, records, headers)
        for topic, start, end in written:
            metrics.PUBLISHED.labels(topic).inc(end - start)
        return written
