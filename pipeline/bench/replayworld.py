"""What the `replay` benchmark folds: the log of one busy cell, as a worker would have left it.

A simulated region lives for the time asked for: plays, health of every appliance each five seconds,
links, paths and routes that change. Once a second there is a TICK; every minute an appliance fails,
which is an URGENT cut, and is well again half a minute later. The log is folded while it is made,
and each cut closed by the Epoch that comes of it: the replay really compares hashes. All of it
follows from the seed: the same arguments give the same records.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.cell import Cell, step
from pipeline.closing import epoch_fields, epoch_record
from pipeline.config import CODE_VERSION, ProximityConfig, SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.replay.archive import RecordingWriter
from pipeline.replay.manifest import CellSpan, Manifest
from pipeline.sim.size import SimSize
from pipeline.sim.telemetry import Rows
from pipeline.sim.world import World
from pipeline.wire.columns import decode_chunk
from pipeline.wire.digest import digest_of
from pipeline.wire.encode import encode
from schemas.registry import (
    APPLIANCE_HEALTH,
    BY_NAME,
    FLEET_INVENTORY,
    INPUTS,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_EPOCHS,
    TABLES,
)

#: The evening of a working day.
BEGIN_MS = 1_800_039_600_000
#: An appliance fails in every such second, and recovers half of it later.
FAILURES_EVERY_S = 60
_SECOND_MS, _URGENT_MS = 1000, 20
#: No table is published: nobody looks at where it would end.
_ENDS = {topic.name: 0 for topic in TABLES}
_URGENT_TOPICS = (FLEET_INVENTORY.name, APPLIANCE_HEALTH.name)


class RecordedCell:
    """The log of one cell while it is written, and the cell that folds it."""

    def __init__(self, writer: RecordingWriter, config: SteeringConfig) -> None:
        self._writer, self._config = writer, config
        self._cell = Cell(0, 1)
        self._ends = {topic.name: 0 for topic in INPUTS}
        self._waiting: dict[str, list[Rows]] = {}
        self.cut: Cut | None = None
        fields = {"hash": config.hash(), "config": config.canonical()}
        self._put(STEERING_CONFIG.name, 0, encode("Config", fields))

    def bring(self, batches: Iterable[Rows]) -> None:
        """Records that no cut has taken yet."""
        for batch in batches:
            self._waiting.setdefault(batch.topic, []).append(batch)

    def close(self, cause: Cause, at_ms: int) -> None:
        """Cut, fold and say what came of it."""
        taken = _URGENT_TOPICS if cause is Cause.URGENT else tuple(self._ends)
        keys: dict[str, list[bytes]] = {}
        values: dict[str, list[bytes | None]] = {}
        for topic in taken:
            batches = self._waiting.pop(topic, ())
            keys[topic] = [key for batch in batches for key in batch.keys]
            values[topic] = [value for batch in batches for value in batch.values]
        rows, digests = {}, {}
        for topic in taken:
            if values[topic]:
                first, count = self._ends[topic], len(values[topic])
                offsets = np.arange(first, first + count, dtype=np.int64)
                moments = (at_ms for _ in range(count))
                records = zip(offsets.tolist(), moments, keys[topic], values[topic], strict=True)
                self._writer.add(topic, 0, records)
                named = keys[topic] if BY_NAME[topic].keyed else None
                rows[topic] = decode_chunk(topic, values[topic], offsets, named)
                digests[topic] = digest_of([values[topic]])
                self._ends[topic] += count
        number = self.cut.number + 1 if self.cut else 1
        cut = Cut(0, number, 1, "bench", at_ms, cause, dict(self._ends), self._config.hash(),
                  CODE_VERSION)  # fmt: skip
        self._put(STEERING_CUTS.name, at_ms, encode("Cut", cut.to_record()))
        effects = step(self._cell, rows, cut, self._config)
        fields = epoch_fields(cut, effects, digests, _ENDS, behind_ms=0, reconciled=False)
        self._put(STEERING_EPOCHS.name, at_ms, epoch_record(fields).value)
        self.cut = cut

    def _put(self, topic: str, at_ms: int, value: bytes | None) -> None:
        offset = self.cut.number if self.cut else 0
        self._writer.add(topic, 0, [(offset, at_ms, b"0", value)])


def make(path: Path, seed: int, size: SimSize, seconds: int) -> Manifest:
    """Write the recording of so many seconds."""
    world = World(seed, size, BEGIN_MS)
    config = SteeringConfig(proximity=ProximityConfig(allow_documentation_prefixes=True))
    span = CellSpan(0, first_at_ms=BEGIN_MS, last_at_ms=BEGIN_MS + seconds * _SECOND_MS)
    manifest = Manifest(1, BEGIN_MS, span.last_at_ms, cells=[span])
    with RecordingWriter(path, manifest) as writer:
        log = RecordedCell(writer, config)
        log.bring([*world.inventory(), *world.routes(), *world.roll_call()])
        log.close(Cause.TAKEOVER, BEGIN_MS)
        for second in range(1, seconds + 1):
            now_ms = BEGIN_MS + second * _SECOND_MS
            number, phase = divmod(second, FAILURES_EVERY_S)
            entity = world.plant.names[number * 37 % len(world.plant.names)]
            if phase == FAILURES_EVERY_S // 4:
                log.bring(world.command("FAIL", entity))
                log.close(Cause.URGENT, now_ms - _SECOND_MS + _URGENT_MS)
            elif phase == 3 * FAILURES_EVERY_S // 4:
                log.bring(world.command("RECOVER", entity))
            log.bring(world.tick(now_ms))
            log.close(Cause.TICK, now_ms)
        assert log.cut is not None
        span.cuts = log.cut.number
        writer.finish()
    return manifest
