"""From a broker into a recording: configurations, cuts, the rows that the cuts take, Epochs.

A fold begins at a snapshot or at the beginning of the log, so a recording does as well (or at what
is left of the log): the cuts from there to the time it is asked from are its lead-in. Which rows
belong to it say the cuts: for each input topic those from the snapshot's offset to the furthest
that a cut at or before `to_ms` names. The cut log is therefore read first, then the inputs, and
last the Epochs (one is sent after its cut).
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

from pipeline.broker.settings import BrokerSettings
from pipeline.cut import Cut, CutSequence
from pipeline.errors import RecordingError, UsageError
from pipeline.follow.reader import TopicReader
from pipeline.replay.archive import RecordingWriter
from pipeline.replay.beginnings import Beginning, beginnings, read
from pipeline.replay.fold import cut_of, epoch_of
from pipeline.replay.manifest import CellSpan, Manifest
from schemas.partition import partition_of
from schemas.registry import (
    CELLS_CHANGELOG,
    FLEET_INVENTORY,
    INPUTS,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_EPOCHS,
)

#: Told now and then: records copied, records there are.
Progress = Callable[[int, int], None]

_REGION = b"region:"


class CutLog:
    """The cut log of one cell up to a time, from behind `after` (the snapshot's cut). `starts`,
    `ends`: input topic -> the offset that its rows begin with, and end before."""

    def __init__(self, span: CellSpan, from_ms: int, to_ms: int, after: Cut | None = None) -> None:
        self.span, self._from_ms, self._to_ms = span, from_ms, to_ms
        self.starts = after.offsets if after else {}
        self.ends: dict[str, int] = {}
        self.last: Cut | None = None
        self._sequence = CutSequence(whole=span.whole, last=after)

    def take(self, cut: Cut | None) -> bool:
        """Whether the record (None: no cut) stands before the first that counts and is too late."""
        if cut is None or not self._sequence.take(cut):
            return True  # stays in the recording: a replay ignores it as a worker does
        if cut.at_ms > self._to_ms:
            return False
        if self.last is None:
            self.span.first_at_ms = cut.at_ms
        self.last, self.span.last_at_ms = cut, cut.at_ms
        self.span.cuts += 1
        self.span.lead_in += cut.at_ms < self._from_ms
        for topic, end in cut.offsets.items():
            self.ends[topic] = max(self.ends.get(topic, 0), end)
        return True

    def has_closed(self, record: Any) -> bool:
        """Whether the record is an Epoch that closes one of its cuts."""
        epoch = epoch_of(record.value)
        if epoch is None or self.last is None:
            return False
        return bool(self.span.snapshot_cut < epoch["cut"] <= self.last.number)


async def record(
    broker: BrokerSettings,
    path: Path,
    from_ms: int,
    to_ms: int,
    *,
    regions: Collection[str] = (),
    progress: Progress = lambda done, total: None,
) -> Manifest:
    """Write the cells that hold `regions` (all cells when none are named) up to `to_ms` to `path`.

    Raises UsageError for a range or region that cannot be, RecordingError when no cut lies in the
    range or the file cannot be written, and BrokerError, TopicMismatch.
    """
    if from_ms > to_ms:
        raise UsageError("--from lies after --to")
    async with TopicReader(broker, [STEERING_CUTS.name]) as reader:
        partitions = len(reader.partitions)
    cells = await _cells(broker, partitions, regions)
    manifest = Manifest(partitions, from_ms, to_ms)
    with RecordingWriter(path, manifest) as writer:
        async with TopicReader(broker, [STEERING_CONFIG.name]) as reader:
            async for tp, records in read(reader, await reader.begins(), await reader.ends()):
                _add(writer, tp, records)
        begins = await beginnings(broker, cells, from_ms)
        logs = await _copy_cuts(broker, writer, cells, begins)
        manifest.cells = [log.span for log in logs.values()]
        if not any(span.cuts > span.lead_in for span in manifest.cells):
            raise RecordingError(path, f"not written: {_nothing(manifest)}")
        await _copy_inputs(broker, writer, logs, progress)
        await _copy_epochs(broker, writer, logs)
        writer.finish()
    return manifest


async def _cells(broker: BrokerSettings, partitions: int, regions: Collection[str]) -> list[int]:
    """The cells of `regions`, in order."""
    if not regions:
        return list(range(partitions))
    known: set[str] = set()
    async with TopicReader(broker, [FLEET_INVENTORY.name]) as reader:
        async for _, records in read(reader, await reader.begins(), await reader.ends()):
            keys = (one.key for one in records if one.key and one.key.startswith(_REGION))
            known |= {key[len(_REGION) :].decode(errors="replace") for key in keys}
    if unknown := sorted(set(regions) - known):
        there = ", ".join(sorted(known)) or "none"
        raise UsageError(f"no region {', '.join(unknown)} in the inventory; there are: {there}")
    return sorted({partition_of(region, partitions) for region in regions})


async def _copy_cuts(
    broker: BrokerSettings,
    writer: RecordingWriter,
    cells: list[int],
    snapshots: dict[int, Beginning],
) -> dict[int, CutLog]:
    """Cell -> its cut log, of those that have any cut in time; with it the snapshot that it begins
    with."""
    from_ms, to_ms = writer.manifest.from_ms, writer.manifest.to_ms
    async with TopicReader(broker, [STEERING_CUTS.name], cells) as reader:
        begins, ends = await reader.begins(), await reader.ends()
        logs: dict[int, CutLog] = {}
        for tp in begins:
            span, after = CellSpan(tp.partition, begins[tp]), None
            if snapshot := snapshots.get(tp.partition):
                after, begins[tp] = snapshot.commit.cut, snapshot.commit.log_next
                span.snapshot_cut = after.number
            logs[tp.partition] = CutLog(span, from_ms, to_ms, after)
        async for tp, records in read(reader, begins, ends):
            log, kept = logs[tp.partition], []
            for one in records:
                if not log.take(cut_of(one.value)):
                    ends[tp] = 0  # nothing behind it is wanted
                    break
                kept.append(one)
            _add(writer, tp, kept)
    logs = {cell: log for cell, log in logs.items() if log.last is not None}
    for cell in sorted(logs.keys() & snapshots.keys()):
        _add(writer, TopicPartition(CELLS_CHANGELOG.name, cell), snapshots[cell].records)
    return logs


async def _copy_inputs(
    broker: BrokerSettings, writer: RecordingWriter, logs: dict[int, CutLog], progress: Progress
) -> None:
    async with TopicReader(broker, [topic.name for topic in INPUTS], logs) as reader:
        begins, ends = await reader.begins(), await reader.ends()
        for tp, end in ends.items():
            log = logs[tp.partition]
            begins[tp] = max(begins[tp], log.starts.get(tp.topic, 0))
            ends[tp] = min(end, log.ends.get(tp.topic, 0))
        done, total = 0, sum(max(0, end - begins[tp]) for tp, end in ends.items())
        async for tp, records in read(reader, begins, ends):
            _add(writer, tp, records)
            done += len(records)
            progress(done, total)


async def _copy_epochs(
    broker: BrokerSettings, writer: RecordingWriter, logs: dict[int, CutLog]
) -> None:
    async with TopicReader(broker, [STEERING_EPOCHS.name], logs) as reader:
        async for tp, records in read(reader, await reader.begins(), await reader.ends()):
            log = logs[tp.partition]
            _add(writer, tp, [one for one in records if log.has_closed(one)])


def _add(writer: RecordingWriter, tp: TopicPartition, records: list[Any]) -> None:
    rows = ((one.offset, one.timestamp, one.key, one.value) for one in records)
    writer.add(tp.topic, tp.partition, rows)


def _nothing(manifest: Manifest) -> str:
    def moment(at_ms: int) -> str:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")

    asked = f"no cut from {moment(manifest.from_ms)} to {moment(manifest.to_ms)}"
    if not manifest.cells:
        return f"{asked}, and none before"
    last = max(cell.last_at_ms for cell in manifest.cells)
    return f"{asked}; the last one before is of {moment(last)}"
