"""Logs of tests/cell_world.py with the Epochs that a worker would have sent, as recordings."""

from collections.abc import Callable
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

Epochs = list[dict[str, Any]]


def epochs_of(log: Log) -> Epochs:
    """What a worker that folded `log` said of each cut."""
    epochs, before = [], dict.fromkeys(log.values, 0)
    for cut, effects in fold(log):
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
    first, last = log.cuts[0], log.cuts[-1]
    from_ms = next(cut.at_ms for cut in log.cuts if cut.number == from_cut)
    lead_in = sum(cut.at_ms < from_ms for cut in log.cuts)
    span = CellSpan(0, log_begin, len(log.cuts), lead_in, first.at_ms, last.at_ms)
    with RecordingWriter(path, Manifest(1, from_ms, last.at_ms, cells=[span])) as writer:
        config = SteeringConfig()
        fields = {"hash": config.hash(), "config": config.canonical()}
        assert orjson.loads(fields["config"])
        _add(writer, STEERING_CONFIG.name, [config.hash().encode()], [encode("Config", fields)])
        values = [encode("Cut", cut.to_record()) for cut in log.cuts]
        _add(writer, STEERING_CUTS.name, [b"0"] * len(values), values, log_begin)
        for topic, values_of_topic in log.values.items():
            _add(writer, topic, log.keys[topic], values_of_topic)
        values = [encode("Epoch", epoch) for epoch in epochs]
        _add(writer, STEERING_EPOCHS.name, [b"0"] * len(values), values)
        interrupt()
        writer.finish()
    return path


def _add(
    writer: RecordingWriter,
    topic: str,
    keys: list[bytes | None],
    values: list[bytes | None],
    begin: int = 0,
) -> None:
    rows = ((begin + n, 0, *each) for n, each in enumerate(zip(keys, values, strict=True)))
    writer.add(topic, 0, rows)
