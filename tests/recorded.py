"""Logs of tests/cell_world.py with the Epochs that a worker would have sent, as recordings."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from pipeline.closing import epoch_fields
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.effects import Effects
from pipeline.replay.archive import RecordingWriter
from pipeline.replay.manifest import CellSpan, Manifest
from pipeline.wire.digest import digest_of
from pipeline.wire.encode import encode
from schemas.registry import STEERING_CONFIG, STEERING_CUTS, STEERING_EPOCHS, TABLES
from tests.cell_world import Log, fold
from tests.shared_world import PARTITIONS, SharedWorld

Epochs = list[dict[str, Any]]
Bytes = Sequence[bytes | None]  # keys or values of a topic


def epochs_of(log: Log) -> Epochs:
    """What a worker that folded `log` said of each cut."""
    return _epochs(log, fold(log))


def _epochs(log: Log, folded: Iterable[tuple[Cut, Effects]]) -> Epochs:
    epochs, before = [], dict.fromkeys(log.values, 0)
    for cut, effects in folded:
        epochs.append(_epoch(log, cut, effects, before))
        before = cut.offsets
    return epochs


def _epoch(log: Log, cut: Cut, effects: Effects, before: dict[str, int]) -> dict[str, Any]:
    digests = {
        topic: digest_of([values[before[topic] : cut.offsets[topic]]])
        for topic, values in log.values.items()
    }
    ends = dict.fromkeys((topic.name for topic in TABLES), 0)
    return epoch_fields(cut, effects, digests, ends, 5, reconciled=False)


def write(
    path: Path,
    log: Log,
    epochs: Epochs,
    *,
    from_cut: int = 1,
    log_begin: int = 0,
    interrupt: Callable[[], None] = lambda: None,
) -> Path:
    """`log` and `epochs` as a recording of cell 0; `interrupt` is called before it is finished."""
    from_ms = next(cut.at_ms for cut in log.cuts if cut.number == from_cut)
    span = _span(0, log, from_ms, log_begin)
    manifest = Manifest(1, from_ms, span.last_at_ms, cells=[span])
    with RecordingWriter(path, manifest) as writer:
        _add_config(writer)
        _add_cell(writer, span, log, epochs)
        interrupt()
        writer.finish()
    return path


def write_shared(path: Path, world: SharedWorld) -> Path:
    """The logs of all cells of `world`, each in its partition."""
    cells = list(world.cells.values())
    from_ms = min(one.log.cuts[0].at_ms for one in cells)
    spans = [_span(one.partition, one.log, from_ms) for one in cells]
    to_ms = max(span.last_at_ms for span in spans)
    with RecordingWriter(path, Manifest(PARTITIONS, from_ms, to_ms, cells=spans)) as writer:
        _add_config(writer)
        for span, one in zip(spans, cells, strict=True):
            folded = zip(one.log.cuts, one.effects, strict=True)
            _add_cell(writer, span, one.log, _epochs(one.log, folded))
        writer.finish()
    return path


def _span(partition: int, log: Log, from_ms: int, log_begin: int = 0) -> CellSpan:
    first, last = log.cuts[0], log.cuts[-1]
    lead_in = sum(cut.at_ms < from_ms for cut in log.cuts)
    return CellSpan(partition, log_begin, len(log.cuts), lead_in, first.at_ms, last.at_ms)


def _add_config(writer: RecordingWriter) -> None:
    config = SteeringConfig()
    fields = {"hash": config.hash(), "config": config.canonical()}
    assert orjson.loads(fields["config"])
    key, value = config.hash().encode(), encode("Config", fields)
    writer.add(STEERING_CONFIG.name, 0, [(0, 0, key, value)])


def _add_cell(writer: RecordingWriter, span: CellSpan, log: Log, epochs: Epochs) -> None:
    def add(topic: str, keys: Bytes, values: Bytes, begin: int = 0) -> None:
        rows = ((begin + n, 0, *each) for n, each in enumerate(zip(keys, values, strict=True)))
        writer.add(topic, span.partition, rows)

    key: bytes | None = str(span.partition).encode()
    cuts = [encode("Cut", cut.to_record()) for cut in log.cuts]
    add(STEERING_CUTS.name, [key] * len(cuts), cuts, span.log_begin)
    for topic, values in log.values.items():
        add(topic, log.keys[topic], values)
    closed = [encode("Epoch", epoch) for epoch in epochs]
    add(STEERING_EPOCHS.name, [key] * len(closed), closed)
