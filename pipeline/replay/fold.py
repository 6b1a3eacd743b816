"""The fold over a recorded log: cut by cut, with the worker's own rule.

A record counts as a cut or is ignored, its rows are those between the last cut's offsets and its
own, its configuration is the one it names (topologies/folding.py does the same on a live log).
Every tool is a reader of this one fold: replay compares what comes out, explain and diff look at
the cell, what-if hands in a `Change`.

Cells are folded one after the other, the rows of one cut at a time.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from pydantic import ValidationError

from pipeline.cell import Cell, step
from pipeline.config import SteeringConfig
from pipeline.cut import Cut, CutSequence
from pipeline.effects import Effects
from pipeline.errors import LogError, RecordingError, SnapshotError, WireError
from pipeline.replay.archive import Recording
from pipeline.replay.lane import Lane
from pipeline.replay.manifest import CellSpan
from pipeline.snapshot.chunks import restore
from pipeline.wire.decode import decode
from pipeline.wire.digest import Raw
from pipeline.wire.rows import TopicRows
from schemas.registry import (
    CELLS_CHANGELOG,
    INPUTS,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_EPOCHS,
)

_YOUNG = 50_000
#: Topic -> rows of a cut.
Rows = dict[str, TopicRows]
#: Topic -> (rows, digest): what a cut took.
Taken = dict[str, tuple[int, str]]


class Change(Protocol):
    """What a what-if does to a cut before it is folded: other rows, another configuration. May
    look at the cell as it stands before the cut, and must not change it."""

    def __call__(
        self, cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]: ...


def unchanged(
    cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
) -> tuple[Rows, SteeringConfig]:
    """The change that changes nothing."""
    return rows, config


@dataclass(frozen=True, slots=True)
class Step:
    """One cut that counted, folded. `cell` is as it stands after this cut, and goes on living: what
    is wanted of it must be taken before the next step. `raw`: the records that it took, by topic;
    `lead_in`: before the time the recording was asked from."""

    cell: Cell
    cut: Cut
    config: SteeringConfig
    rows: Rows
    taken: Taken
    raw: Mapping[str, Raw]
    effects: Effects
    lead_in: bool


@dataclass(slots=True)
class Ignored:
    """Records of the cut log that do not count, counted."""

    count: int = field(default=0)


def fold(
    recording: Recording, span: CellSpan, ignored: Ignored, change: Change = unchanged
) -> Iterator[Step]:
    """Every cut of one cell that counts, in order: from the snapshot that the recording begins
    with, or from nothing.

    Raises LogError when a cut names a configuration that is not there or not readable, and
    RecordingError when the snapshot is not.
    """
    partition = span.partition
    configs = configs_of(recording)
    lanes = {topic.name: Lane(recording, topic.name, partition) for topic in INPUTS}
    cell, last = _begin(recording, span)
    sequence = CutSequence(whole=span.whole, last=last)
    with _seldom_collected():
        for value in values_of(recording, STEERING_CUTS.name, partition):
            cut = cut_of(value)
            if cut is None or not sequence.take(cut):
                ignored.count += 1
                continue
            if cut.config_hash not in configs:
                raise LogError(
                    f"cut {cut.number} of cell {partition} names configuration {cut.config_hash}, "
                    f"and {STEERING_CONFIG.name} has none such that this version can read"
                )
            rows, taken, raw = _take(lanes, cut)
            rows, config = change(cell, rows, cut, configs[cut.config_hash])
            effects = step(cell, rows, cut, config)
            lead_in = cut.at_ms < recording.manifest.from_ms
            yield Step(cell, cut, config, rows, taken, raw, effects, lead_in)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Garbage is looked for after _YOUNG new objects. What a cut makes is a few hundred and goes
    with the next one, by itself; by Python's 700 there was a look at each cut, for nothing."""
    before = gc.get_threshold()
    gc.set_threshold(_YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _begin(recording: Recording, span: CellSpan) -> tuple[Cell, Cut | None]:
    """The cell before its first cut, and the cut that it is at."""
    partitions, place = recording.manifest.partitions, f"snapshot of cell {span.partition}"
    if not span.snapshot_cut:
        return Cell(span.partition, partitions), None
    held: dict[bytes, bytes] = {}
    for frame in recording.frames(CELLS_CHANGELOG.name, span.partition):
        held |= dict(zip(frame.get_column("key"), frame.get_column("value"), strict=True))
    snapshot, wrong = restore(held)
    if snapshot is None:
        why = "; ".join(map(str, wrong)) or "is not there"
        raise RecordingError(recording.path, why, place)
    try:
        cell = Cell.from_bytes(span.partition, partitions, snapshot.sections)
    except SnapshotError as error:
        raise RecordingError(recording.path, str(error), place) from error
    return cell, snapshot.commit.cut


def _take(lanes: Mapping[str, Lane], cut: Cut) -> tuple[Rows, Taken, dict[str, Raw]]:
    rows: Rows = {}
    taken: Taken = {}
    raw: dict[str, Raw] = {}
    for topic, lane in lanes.items():
        rows[topic], raw[topic] = lane.take(cut.offsets.get(topic, 0))
        if raw[topic].count:
            taken[topic] = (raw[topic].count, raw[topic].digest())
    return rows, taken, raw


# -- what a recording holds -----------------------------------------------------------------------


def values_of(recording: Recording, topic: str, partition: int) -> Iterator[bytes]:
    """The values of one partition in order; empty for a tombstone."""
    for frame in recording.frames(topic, partition):
        for value in frame.get_column("value"):
            yield value or b""


def configs_of(recording: Recording) -> dict[str, SteeringConfig]:
    """By the hash that cuts name them with; those that this version can read."""
    configs: dict[str, SteeringConfig] = {}
    for value in values_of(recording, STEERING_CONFIG.name, 0):
        record = _read(value, "Config")
        if record is not None:
            with suppress(ValidationError, orjson.JSONDecodeError):
                fields = orjson.loads(record["config"])
                configs[record["hash"]] = SteeringConfig.model_validate(fields)
    return configs


def epochs_by_cut(recording: Recording, partition: int) -> dict[int, list[bytes]]:
    """Cut number -> its Epochs as they came (the same one may have been sent twice)."""
    found: dict[int, list[bytes]] = {}
    for value in values_of(recording, STEERING_EPOCHS.name, partition):
        epoch = epoch_of(value)
        if epoch is not None:
            found.setdefault(epoch["cut"], []).append(value)
    return found


def cut_of(value: bytes | None) -> Cut | None:
    """What a record of the cut log says; None when it is no cut, which does not count."""
    record = _read(value, "Cut")
    return None if record is None else Cut.from_record(record)


def epoch_of(value: bytes | None) -> dict[str, Any] | None:
    """The fields of an Epoch; None when the record is none."""
    return _read(value, "Epoch")


def _read(value: bytes | None, wanted: str) -> dict[str, Any] | None:
    try:
        name, record = decode(value or b"")
    except WireError:
        return None
    return record if name == wanted else None
