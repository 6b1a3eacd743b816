"""Recordings for tests of explain: the record at offset n of any topic was taken n ms after START,
so that where it stands can be told from either."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.cell import Cell, step
from pipeline.closing import epoch_fields
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.effects import Effects
from pipeline.follow.table import Batch, SteeringTable
from pipeline.replay.archive import RecordingWriter
from pipeline.replay.manifest import CellSpan, Manifest
from pipeline.snapshot.chunks import Chunks
from pipeline.wire.encode import encode
from pipeline.wire.headers import pack_cut
from schemas.registry import (
    CELLS_CHANGELOG,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_EPOCHS,
    TABLES,
)
from tests.cell_world import START_MS, Log, read, table_bytes

Values = Sequence[bytes | None]


def steps(
    log: Log, cell: Cell, configs: Sequence[SteeringConfig] = (SteeringConfig(),)
) -> Iterator[tuple[Cut, Effects]]:
    """Fold, each cut under the configuration that it names."""
    by_hash = {config.hash(): config for config in configs}
    taken = dict.fromkeys(log.values, 0)
    for cut in log.cuts:
        ends = cut.offsets.items()
        rows = {topic: read(log, topic, taken[topic], end) for topic, end in ends}
        taken = dict(cut.offsets)
        yield cut, step(cell, rows, cut, by_hash[cut.config_hash])


def follow(table: SteeringTable, log: Log, cell: Cell, last: int) -> None:
    """Publish to a follower what the cuts up to `last` wanted published, record by record."""
    ends = dict.fromkeys((topic.name for topic in TABLES), 0)
    for cut, effects in steps(replace(log, cuts=log.cuts[:last]), cell):
        header = pack_cut(cut.partition, cut.number, cut.term)
        for topic, key, value in table_bytes(effects):
            table.take(Batch(topic, cut.partition, [key], [value], [header], [ends[topic]]))
            ends[topic] += 1
        for topic, end in ends.items():
            table.reached(topic, cut.partition, end)
        table.close(_epoch(cut, effects, ends))
        table.advance()


def write(
    path: Path,
    logs: Mapping[int, Log],
    *,
    partitions: int = 1,
    configs: Sequence[SteeringConfig] = (SteeringConfig(),),
    epochs: bool = True,
    snapshot_cut: int = 0,
) -> Path:
    """The logs of these cells as one recording: from their beginning, or from the snapshot at
    `snapshot_cut`."""
    spans = []
    for cell, log in logs.items():
        cuts = log.cuts[snapshot_cut:]
        span = CellSpan(cell, 0, len(cuts), 0, cuts[0].at_ms, cuts[-1].at_ms, snapshot_cut)
        spans.append(span)
    manifest = Manifest(partitions, START_MS, max(span.last_at_ms for span in spans), spans)
    with RecordingWriter(path, manifest) as writer:
        for number, config in enumerate(configs):
            fields = {"hash": config.hash(), "config": config.canonical()}
            value = encode("Config", fields)
            writer.add(STEERING_CONFIG.name, 0, [(number, START_MS + number, None, value)])
        for cell, log in logs.items():
            begins = dict.fromkeys(log.values, 0)
            if snapshot_cut:
                begins = log.cuts[snapshot_cut - 1].offsets
                taken = _snapshot(log, cell, partitions, snapshot_cut, configs)
                _add(writer, CELLS_CHANGELOG.name, cell, *zip(*taken, strict=True))
            cuts = [encode("Cut", cut.to_record()) for cut in log.cuts]
            _add(writer, STEERING_CUTS.name, cell, [None] * len(cuts), cuts, snapshot_cut)
            for topic, values in log.values.items():
                _add(writer, topic, cell, log.keys[topic], values, begins[topic])
            if epochs:
                closed = [encode("Epoch", one) for one in _epochs(log, cell, partitions, configs)]
                keys = [None] * len(closed)
                _add(writer, STEERING_EPOCHS.name, cell, keys, closed, snapshot_cut)
        writer.finish()
    return path


def _snapshot(
    log: Log, partition: int, partitions: int, number: int, configs: Sequence[SteeringConfig]
) -> list[tuple[bytes, bytes]]:
    """The records of a snapshot at this cut."""
    cell = Cell(partition, partitions)
    for cut, _ in steps(replace(log, cuts=log.cuts[:number]), cell, configs):
        last = cut
    plan = Chunks(1, (), ()).plan(cell.to_sections(), last, number, {})
    return [*plan.chunks, *plan.records]


def _add(
    writer: RecordingWriter, topic: str, cell: int, keys: Values, values: Values, begin: int = 0
) -> None:
    """The records from the offset `begin` on."""
    rows = [(n, START_MS + n, key, values[n]) for n, key in enumerate(keys)]
    writer.add(topic, cell, rows[begin:])


def _epochs(
    log: Log, cell: int, partitions: int, configs: Sequence[SteeringConfig]
) -> Iterator[dict[str, Any]]:
    ends = dict.fromkeys((topic.name for topic in TABLES), 0)
    for cut, effects in steps(log, Cell(cell, partitions), configs):
        for topic, _, _ in table_bytes(effects):
            ends[topic] += 1
        yield _epoch(cut, effects, ends)


def _epoch(cut: Cut, effects: Effects, ends: Mapping[str, int]) -> dict[str, Any]:
    return epoch_fields(cut, effects, {}, ends, 5, reconciled=False)
