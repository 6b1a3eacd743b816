"""Publishing with delivery awaited: nothing is done until the broker has acknowledged it.

A plain producer with acks=all, whole batches per topic (`create_batch`, `send_batch`: 5,000
effects in 17 ms against 72 ms record by record; docs/adr/0009). Rejected: an idempotent producer
(one rejected batch makes its partition unusable, and it ignores its time-out while a broker is
frozen) and transactions (twice the way's latency, and a reader that can be blocked); what a zombie
writes is put right by the owner instead. Every future is awaited: a failed send that nobody awaits
is lost without a word.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

from pipeline.cut import Cut
from pipeline.effects import Block, Record
from pipeline.wire.encode import encode
from pipeline.wire.headers import HEADER, pack_cut
from schemas.registry import STEERING_CONFIG, STEERING_CUTS
from topologies import metrics

REQUEST_BYTES_MAX = 8 << 20
BATCH_BYTES = 512 << 10
BATCHES_IN_FLIGHT = 8  # bounds memory when a whole table is sent


class Written(NamedTuple):
    """Records of ours that stand side by side on a topic: from `start` to before `end`."""

    topic: str
    start: int
    end: int


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
        headers = [(HEADER, pack_cut(cut.partition, cut.number, cut.term))]
        written: list[Written] = []
        for topic, run in _runs(records):
            written += await self._send_run(topic, cut.partition, run, headers)
        return written

    async def _send_run(
        self,
        topic: str,
        partition: int,
        records: Iterator[Record],
        headers: Sequence[tuple[str, bytes]],
    ) -> list[Written]:
        """Send one topic's records as full batches."""
        pending: list[asyncio.Future[Any]] = []
        counts: list[int] = []
        written: list[Written] = []
        batch = self._producer.create_batch()
        for record in records:
            fits = batch.append(key=record.key, value=record.value, timestamp=None, headers=headers)
            if fits is None:
                pending.append(await self._producer.send_batch(batch, topic, partition=partition))
                counts.append(batch.record_count())
                batch = self._producer.create_batch()
                batch.append(key=record.key, value=record.value, timestamp=None, headers=headers)
                if len(pending) >= BATCHES_IN_FLIGHT:
                    written += await _acknowledged(topic, pending, counts)
        if batch.record_count():
            pending.append(await self._producer.send_batch(batch, topic, partition=partition))
            counts.append(batch.record_count())
        return written + await _acknowledged(topic, pending, counts)


async def _acknowledged(
    topic: str, pending: list[asyncio.Future[Any]], counts: list[int]
) -> list[Written]:
    """Await and empty `pending`; where its batches stand."""
    written: list[Written] = []
    for future, count in zip(pending, counts, strict=True):
        metadata = await future
        metrics.PUBLISHED.labels(topic).inc(count)
        written.append(Written(topic, metadata.offset, metadata.offset + count))
    pending.clear()
    counts.clear()
    return written


def _runs(records: Iterable[Record | Block]) -> Iterator[tuple[str, Iterator[Record]]]:
    """Consecutive records of the same topic, blocks unrolled."""
    topic, run = "", list[Record | Block]()
    for record in records:
        if record.topic != topic and run:
            yield topic, _unroll(run)
            run = []
        topic = record.topic
        run.append(record)
    if run:
        yield topic, _unroll(run)


def _unroll(run: list[Record | Block]) -> Iterator[Record]:
    for one in run:
        if isinstance(one, Block):
            yield from one.records()
        else:
            yield one
