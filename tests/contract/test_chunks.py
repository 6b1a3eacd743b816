"""The chunked reader must see exactly what aiokafka's own sees (private API of a pinned
version)."""

from typing import Any

import pytest
from aiokafka.consumer.fetcher import (
    READ_COMMITTED,
    READ_UNCOMMITTED,
    FetchResult,
    PartitionRecords,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.registry import BGP_ROUTES, PLAY_EVENTS
from topologies.chunks import Chunk, ChunkingBuffer, ChunkRecords

VALUES = st.lists(st.binary(max_size=40) | st.none(), min_size=1, max_size=12)
CODEC_NONE, CODEC_GZIP = 0, 1


def batch(base: int, values: list[bytes | None], *, codec: int = CODEC_NONE) -> bytes:
    """One record batch of the wire format; the offsets start at `base`."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1 << 20)
    for number, value in enumerate(values):
        key = None if number % 3 == 0 else b"k%d" % number
        builder.append(number, timestamp=1000 + number, key=key, value=value, headers=[])
    data = bytearray(builder.build())
    data[0:8] = base.to_bytes(8, "big")  # as the broker does; outside the checksum
    return bytes(data)


def control_batch(base: int) -> bytes:
    """What a transaction's commit leaves behind: a record that is no record."""
    builder = DefaultRecordBatchBuilder(2, CODEC_NONE, 1, 7, 0, 0, 1 << 20)
    builder.append(0, timestamp=1000, key=b"\0\0\0\1", value=b"\0\0\0\0\0\0", headers=[])
    data = bytearray(builder.build())
    data[0:8] = base.to_bytes(8, "big")
    data[22] |= 0x20  # the control bit of the attributes; the tests skip the checksum
    return bytes(data)


def reader(topic: str, data: bytes, start: int, isolation: int = READ_UNCOMMITTED) -> Any:
    tp = TopicPartition(topic, 0)
    return PartitionRecords(tp, MemoryRecords(data), None, start, None, None, True, isolation)


def chunk_of(topic: str, data: bytes, start: int) -> tuple[Chunk | None, int]:
    records = ChunkRecords(reader(topic, data, start))
    found = [record.value for record in records]
    assert len(found) <= 1
    return (found[0] if found else None), records.next_fetch_offset


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(VALUES, st.sampled_from([CODEC_NONE, CODEC_GZIP])), min_size=1, max_size=5),
    st.integers(0, 15),
    st.sampled_from([PLAY_EVENTS.name, BGP_ROUTES.name]),
)
def test_a_chunk_holds_what_the_original_reader_yields(
    batches: list[tuple[list[bytes | None], int]], skip: int, topic: str
) -> None:
    data, base = b"", 100
    for values, codec in batches:
        data += batch(base, values, codec=codec)
        base += len(values)
    start = min(100 + skip, base - 1)
    original = reader(topic, data, start)
    expected = list(original)
    chunk, next_offset = chunk_of(topic, data, start)
    assert next_offset == original.next_fetch_offset
    assert chunk is not None
    assert chunk.offsets.tolist() == [record.offset for record in expected]
    assert chunk.values == [record.value for record in expected]
    assert chunk.next_offset == original.next_fetch_offset
    if topic == BGP_ROUTES.name:
        assert chunk.keys == [record.key for record in expected]
    else:
        assert chunk.keys is None


def test_gaps_of_a_compacted_topic_keep_each_records_own_offset() -> None:
    data = batch(10, [b"a", b"b"]) + batch(50, [b"c"])
    chunk, next_offset = chunk_of(BGP_ROUTES.name, data, 10)
    assert chunk is not None
    assert chunk.offsets.tolist() == [10, 11, 50]
    assert next_offset == 51


def test_a_batch_with_holes_on_a_plain_topic_is_refused_not_misnumbered() -> None:
    data = bytearray(batch(10, [b"a", b"b"]))
    data[23:27] = (7).to_bytes(4, "big")  # last offset delta: two records over eight offsets
    from aiokafka.errors import CorruptRecordException

    records = reader(PLAY_EVENTS.name, bytes(data), 10)
    records._check_crcs = False
    with pytest.raises(CorruptRecordException, match="topics check"):
        next(ChunkRecords(records))


def test_a_damaged_batch_raises_as_the_original_does() -> None:
    from aiokafka.errors import CorruptRecordException

    data = bytearray(batch(10, [b"abcdef"]))
    data[-3] ^= 0xFF
    with pytest.raises(CorruptRecordException):
        next(reader(PLAY_EVENTS.name, bytes(data), 10))
    with pytest.raises(CorruptRecordException):
        next(ChunkRecords(reader(PLAY_EVENTS.name, bytes(data), 10)))


def test_control_batches_are_skipped_and_move_the_position() -> None:
    data = batch(10, [b"a", b"b"]) + control_batch(12)
    for isolation in (READ_UNCOMMITTED, READ_COMMITTED):
        original = reader(PLAY_EVENTS.name, data, 10, isolation)
        original._check_crcs = False
        wrapped = ChunkRecords(original)
        chunk = next(wrapped).value
        assert chunk.values == [b"a", b"b"]
        assert chunk.next_offset == 13


def test_only_chosen_topics_are_chunked() -> None:
    buffer = ChunkingBuffer([PLAY_EVENTS.name])
    for topic in (PLAY_EVENTS.name, "edgesteer-cells-changelog"):
        tp = TopicPartition(topic, 0)
        records = reader(topic, batch(0, [b"a"]), 0)
        buffer[tp] = FetchResult(tp, assignment=None, partition_records=records, backoff=0)
        chunked = isinstance(buffer[tp]._partition_records, ChunkRecords)
        assert chunked == (topic == PLAY_EVENTS.name)
