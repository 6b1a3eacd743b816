"""Whole chunks straight from the record batches: one object per fetched partition response.

Idea: aiokafka's cost is the `ConsumerRecord` it makes of every record (1.1 us); its compiled
record reader alone takes 0.07 us. And Faust's cost is per event (70 us and more). So a fetched
response of an input topic becomes ONE record whose value is a `Chunk`: a list of the raw values
and their offsets.

Rule: the walk over the batches is that of `aiokafka.consumer.fetcher.PartitionRecords` (checksum,
control batches, aborted batches, the first batch's skipped offsets, `next_fetch_offset`). Never
keep the reader's record objects in a list: the garbage collector tracks them, which alone made
this four times slower. Where a topic is not compacted a batch holds every offset of its span, so
offsets are counted, not read; in a compacted one each record tells its own, with its key.

This is private API of aiokafka 0.14.0 (pinned) and lives only here, held by a contract test against
the original's records. Rejected: replacing the module's `PartitionRecords` (it would change every
consumer of the process); instead the fetcher's buffer of one consumer wraps what is put into it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiokafka.errors
import numpy as np
import numpy.typing as npt
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.structs import ConsumerRecord, TopicPartition

from schemas.registry import BY_NAME


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition as they were fetched. `offsets`: int64, ascending; `keys` only where
    the topic is compacted (a tombstone has nothing else). `next_offset`: where to fetch from next,
    which may lie beyond the last record + 1 (control records and compaction leave gaps)."""

    topic: str
    partition: int
    offsets: npt.NDArray[np.int64]
    values: list[bytes | None]
    keys: list[bytes | None] | None
    next_offset: int
    #: Payload bytes, roughly what the chunk holds in memory without per-object overhead.
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size_bytes", sum(map(len, filter(None, self.values))))


class ChunkRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped
    """`PartitionRecords` that yields one ConsumerRecord whose value is a Chunk."""

    def __init__(self, original: PartitionRecords) -> None:
        super().__init__(
            original._tp,
            original._records,
            original._aborted_transactions,
            original.next_fetch_offset,
            None,
            None,
            original._check_crcs,
            original._isolation_level,
        )
        self._keyed = is_keyed(original._tp.topic)

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        offsets: list[npt.NDArray[np.int64]] = []
        values: list[bytes | None] = []
        keys: list[bytes | None] | None = [] if self._keyed else None
        timestamp = 0
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise aiokafka.errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
            if self._skip(batch):
                self.next_fetch_offset = batch.next_offset
                continue
            timestamp = batch.max_timestamp
            if keys is None:
                offsets.append(self._read_values(batch, values))
            else:
                offsets.append(self._read_keyed(batch, keys, values))
            self.next_fetch_offset = batch.next_offset
        if values:
            yield self._record(np.concatenate(offsets), values, keys, timestamp)

    def _skip(self, batch: Any) -> bool:
        """Control batches, and what a transaction took back (only under read_committed)."""
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)

    def _read_values(self, batch: Any, values: list[bytes | None]) -> npt.NDArray[np.int64]:
        """Append the batch's values from `next_fetch_offset` on; return their offsets."""
        found = [record.value for record in batch]
        base, end = batch.base_offset, batch.next_offset
        if len(found) != end - base:
            raise aiokafka.errors.CorruptRecordException(
                f"{self._tp}: a batch of {len(found)} records spans {end - base} offsets; only a "
                "compacted topic may look so. Run `edgesteer topics check`."
            )
        start = max(base, self.next_fetch_offset)
        values += found[start - base :]
        return np.arange(start, end, dtype=np.int64)

    def _read_keyed(
        self, batch: Any, keys: list[bytes | None], values: list[bytes | None]
    ) -> npt.NDArray[np.int64]:
        """The same with each record's own offset and key."""
        offsets: list[int] = []
        for record in batch:
            if record.offset >= self.next_fetch_offset:
                offsets.append(record.offset)
                keys.append(record.key)
                values.append(record.value)
        return np.array(offsets, dtype=np.int64)

    def _record(
        self,
        offsets: npt.NDArray[np.int64],
        values: list[bytes | None],
        keys: list[bytes | None] | None,
        timestamp: int,
    ) -> ConsumerRecord:
        topic, partition = self._tp
        chunk = Chunk(topic, partition, offsets, values, keys, self.next_fetch_offset)
        last = int(offsets[-1])
        return ConsumerRecord(topic, partition, last, timestamp, 0, None, chunk, None, -1, -1, ())


class ChunkingBuffer(dict[TopicPartition, Any]):
    """A fetcher's buffer that turns what it is given for the chosen topics into chunks."""

    def __init__(self, topics: Collection[str]) -> None:
        super().__init__()
        self._topics = frozenset(topics)

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if tp.topic in self._topics and type(result) is FetchResult:
            result._partition_records = ChunkRecords(result._partition_records)
        super().__setitem__(tp, result)


def is_keyed(topic: str) -> bool:
    """Whether records of `topic` are read with key and own offset: compacted ones, and any that the
    registry does not know."""
    known = BY_NAME.get(topic)
    return known is None or known.keyed


def fetch_in_chunks(consumer: Any, topics: Collection[str]) -> None:
    """Make a started `AIOKafkaConsumer` return chunks for `topics` (nothing fetched may be lost:
    call it before the consumer has an assignment)."""
    consumer._fetcher._records = ChunkingBuffer(topics)
