"""Replay into isolated topics: what the fold gives is published again, under a prefix, in time.

All cells are folded side by side, the cut that is next by its time first, and each is published as
a worker does: the cut, its tables, verdicts, dead letters and what other cells are told of shared
sites, then the Epoch with the end offsets of the new topics. So a follower of the prefix sees what
followers saw then. The lead-in is only folded; the first cut of a cell after it carries the whole
tables and all that others were told, since the topics begin empty.

Records are stamped with the time of writing: with that of then, the broker would take away at once
what is older than the topics keep.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.broker.batches import BATCH_BYTES, REQUEST_BYTES_MAX, Headers, send_all
from pipeline.broker.isolated import IsolatedProducer, isolated_prefix
from pipeline.broker.settings import BrokerSettings
from pipeline.broker.topics import check_topics, create_topics
from pipeline.cell import reconcile
from pipeline.closing import dead_letter_records, epoch_fields, epoch_record, verdict_records
from pipeline.decide.exchange import Word, standing
from pipeline.effects import Block, Record
from pipeline.errors import BrokerError, TopicMismatch
from pipeline.follow.reader import TopicReader
from pipeline.replay.archive import Recording
from pipeline.replay.fold import Ignored, Step, fold
from pipeline.wire.encode import encode
from pipeline.wire.headers import HEADER, pack_cut
from schemas.registry import CAPACITY_PRICES, REPORTS, STEERING_CONFIG, STEERING_CUTS, TABLES

#: The topics that a replay writes, under its prefix.
WRITTEN = (STEERING_CONFIG, STEERING_CUTS, *TABLES, *REPORTS, CAPACITY_PRICES)


class Pace:
    """When a cut is due: as long after the first as it was then, divided by `speed`; None: at
    once."""

    def __init__(
        self,
        speed: float | None,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._speed, self._now_s, self._sleep = speed, now_s, sleep
        self._first: tuple[float, int] | None = None  # when it was published, and its time then

    def _until_s(self, at_ms: int) -> float:
        """Seconds until the cut of `at_ms` is due; negative when it should be out already."""
        if self._speed is None:
            return 0.0
        if self._first is None:
            self._first = (self._now_s(), at_ms)
        began_s, first_ms = self._first
        return began_s + (at_ms - first_ms) / 1000 / self._speed - self._now_s()

    async def reach(self, at_ms: int) -> None:
        """Wait until the cut of `at_ms` is due."""
        wait_s = self._until_s(at_ms)
        if wait_s > 0:
            await self._sleep(wait_s)

    def behind_ms(self, at_ms: int) -> int:
        """How late it is for the cut of `at_ms`."""
        return max(0, round(-1000 * self._until_s(at_ms)))


def merged(recording: Recording, ignored: Ignored) -> Iterator[Step]:
    """The cuts of all cells by their time; of the same time, in the order of the cells. A cell's
    own order stays whatever its clocks said."""
    folds = [fold(recording, span, ignored) for span in recording.manifest.cells]
    return heapq.merge(*folds, key=lambda step: step.cut.at_ms)


async def replay_into(
    recording: Recording,
    broker: BrokerSettings,
    prefix: str,
    pace: Pace,
    ignored: Ignored,
    told: Callable[[Step], None],
) -> dict[str, int]:
    """Fold `recording` and publish it under `prefix`; topic -> records written. `told` hears of
    every cut, those of the lead-in too.

    Raises IsolationError for a prefix that is not apart from the live topics, TopicMismatch when
    there are records under it already, and BrokerError, LogError.
    """
    steps = merged(recording, ignored)
    async with _writer(recording, broker, prefix) as writer:
        while (step := await asyncio.to_thread(next, steps, None)) is not None:
            if not step.lead_in:
                await pace.reach(step.cut.at_ms)
                await writer.publish(step, pace)
            told(step)
    return writer.counts


class Writer:
    """Publishes steps under a prefix. `ends`: the offset that the next record of a table topic will
    have, by (topic, partition)."""

    def __init__(
        self, producer: IsolatedProducer, prefix: str, ends: dict[tuple[str, int], int]
    ) -> None:
        self._producer, self._prefix, self._ends = producer, prefix, ends
        self._begun: set[int] = set()  # cells whose whole tables are out
        #: Topic under the prefix -> records written.
        self.counts = {prefix + topic.name: 0 for topic in WRITTEN}

    async def configs(self, recording: Recording) -> None:
        """Every configuration that the recording holds, before any cut that names one."""
        for frame in recording.frames(STEERING_CONFIG.name, 0):
            columns = frame.select("key", "value").iter_rows()
            await self._send(0, [Record(STEERING_CONFIG.name, *each) for each in columns], [])

    async def publish(self, step: Step, pace: Pace) -> None:
        """One cut with all that came of it; returns when its Epoch is acknowledged."""
        cut, partition = step.cut, step.cut.partition
        key, first = str(partition).encode(), partition not in self._begun
        value = encode("Cut", cut.to_record())
        await self._send(partition, [Record(STEERING_CUTS.name, key, value)], [])
        headers = [(HEADER, pack_cut(partition, cut.number, cut.term))]
        await self._send(partition, _tables(step, whole=first), headers)
        limit = step.config.publish.dead_letters_max
        reports = [
            *verdict_records(cut, step.effects),
            *dead_letter_records(cut, step.effects, step.raw, limit),
        ]
        await self._send(partition, reports, headers)
        for where, word in _words(step, whole=first):
            await self._send(where, [word], headers)
        fields = epoch_fields(
            cut,
            step.effects,
            {topic: digest for topic, (_, digest) in step.taken.items()},
            {topic.name: self._ends[topic.name, partition] for topic in TABLES},
            pace.behind_ms(cut.at_ms),
            reconciled=first,
        )
        await self._send(partition, [epoch_record(fields)], headers)
        self._begun.add(partition)

    async def _send(
        self, partition: int, records: Iterable[Record | Block], headers: Headers
    ) -> None:
        renamed = map(self._renamed, records)
        written = await send_all(self._producer, partition, renamed, headers)
        for topic, start, end in written:
            self.counts[topic] += end - start
            self._ends[topic.removeprefix(self._prefix), partition] = end

    def _renamed(self, record: Record | Block) -> Record | Block:
        topic = self._prefix + record.topic
        if isinstance(record, Block):
            return Block(topic, record.keys, record.values)
        return Record(topic, record.key, record.value)


def _tables(step: Step, *, whole: bool) -> list[Record | Block]:
    """What a cut changes in the tables; all that stands in them when they begin empty."""
    if not whole:
        return step.effects.tables
    return [one for topic in TABLES for one in reconcile(step.cell, topic.name, {})]


def _words(step: Step, *, whole: bool) -> list[Word]:
    """What a cut tells other cells; all that they were told when the topic begins empty."""
    if not whole:
        return step.effects.prices
    cell = step.cell
    return standing(cell.fleet, cell.sharing, cell.partitions, step.cut.at_ms)


@asynccontextmanager
async def _writer(
    recording: Recording, broker: BrokerSettings, prefix: str
) -> AsyncIterator[Writer]:
    """A writer to empty topics under `prefix`, which are made where they are missing."""
    ends = await _prepare(broker, isolated_prefix(prefix), recording.manifest.partitions)
    producer = AIOKafkaProducer(
        **broker.client_kwargs(),
        acks="all",
        linger_ms=0,
        max_batch_size=BATCH_BYTES,
        max_request_size=REQUEST_BYTES_MAX,
    )
    try:
        await producer.start()
        writer = Writer(IsolatedProducer(producer, prefix), prefix, ends)
        await writer.configs(recording)
        yield writer
    except KafkaError as error:
        raise BrokerError(f"{broker.bootstrap}: {error}") from error
    finally:
        await producer.stop()


async def _prepare(
    broker: BrokerSettings, prefix: str, partitions: int
) -> dict[tuple[str, int], int]:
    """Create the topics; where each partition ends. Raises TopicMismatch."""
    await create_topics(broker, partitions, prefix=prefix, topics=WRITTEN)
    if mismatches := await check_topics(broker, partitions, prefix, WRITTEN):
        raise TopicMismatch("\n".join(map(str, mismatches)))
    names = [topic.name for topic in WRITTEN]
    async with TopicReader(broker.model_copy(update={"topics": prefix}), names) as reader:
        begins: dict[Any, int] = await reader.begins()
        ends = await reader.ends()
    filled = sorted({prefix + each.topic for each, end in ends.items() if end > begins[each]})
    if filled:
        raise TopicMismatch(
            f"{', '.join(filled)}: there are records already. Take another prefix, or run "
            f"`edgesteer topics delete --prefix {prefix}` first."
        )
    return {(each.topic, each.partition): end for each, end in ends.items()}
