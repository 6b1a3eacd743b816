"""From the effects of a step to acknowledged records, closed by the Epoch.

Order: lb.weights, groups, prefixes; beside them verdicts, dead letters; and last the Epoch with the
end offset of every table partition: a follower that has read up to there holds the whole cut.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from pipeline.cell import Cell, reconcile
from pipeline.closing import dead_letter_records, epoch_fields, epoch_record, verdict_records
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.effects import Block, Effects, Record
from pipeline.wire.digest import Raw
from schemas.registry import TABLES
from topologies import metrics
from topologies.clock import Clock
from topologies.outputs import Outputs
from topologies.readback import Readback


@dataclass(frozen=True, slots=True)
class Folded:
    """A cut that was folded: what it wants published, and the raw records it took."""

    cut: Cut
    config: SteeringConfig
    effects: Effects
    raw: Mapping[str, Raw]


class Publishing:
    """Turns effects into records; one for all cells of a worker."""

    def __init__(self, outputs: Outputs, readback: Readback, clock: Clock) -> None:
        self._outputs, self._readback, self._clock = outputs, readback, clock
        self._ends: dict[tuple[str, int], int] = {}  # (table topic, partition) -> end offset

    async def last_epoch(self, partition: int) -> int:
        """Number of the last cut of `partition` that an Epoch closed; 0 when there is none."""
        return await self._readback.last_epoch(partition)

    async def highest_cut(self, partition: int) -> tuple[int, int]:
        """Number and term of the last cut that any effect tells of; (0, 0) when there is none."""
        return await self._readback.highest_cut(partition)

    async def append_cut(self, cut: Cut) -> None:
        await self._outputs.append_cut(cut)

    async def reconcile(self, cell: Cell) -> list[Record | Block]:
        """What must be written so that the compacted topics hold exactly the cell's tables."""
        records: list[Record | Block] = []
        for topic in TABLES:
            held = await self._readback.table(topic.name, cell.partition)
            records += reconcile(cell, topic.name, held)
        return records

    async def publish(self, folded: Folded, *, reconciled: bool = False) -> None:
        """Send everything, then the Epoch; returns when all of it is acknowledged."""
        began = perf_counter()
        cut, effects = folded.cut, folded.effects
        await self._remember_ends(cut.partition)
        limit = folded.config.publish.dead_letters_max
        reports = [
            *verdict_records(cut, effects),
            *dead_letter_records(cut, effects, folded.raw, limit),
        ]
        ends, _ = await asyncio.gather(  # nobody needs an order between the two
            self._outputs.publish(cut, effects.tables), self._outputs.publish(cut, reports)
        )
        for topic, end in ends.items():
            self._ends[topic, cut.partition] = end
        behind_ms = max(0, self._clock.now_ms() - cut.at_ms)
        await self._outputs.publish(cut, [self._epoch(folded, behind_ms, reconciled=reconciled)])
        metrics.PUBLISH_MS.labels(cut.cause).observe((perf_counter() - began) * 1000)
        metrics.BEHIND_MS.labels(cut.partition).set(behind_ms)

    async def _remember_ends(self, partition: int) -> None:
        """Know every table's end, also of those that this cut does not touch."""
        unknown = [t.name for t in TABLES if (t.name, partition) not in self._ends]
        for topic in unknown:
            self._ends[topic, partition] = await self._readback.end_offset(topic, partition)

    def _epoch(self, folded: Folded, behind_ms: int, *, reconciled: bool) -> Record:
        cut, partition = folded.cut, folded.cut.partition
        digests = {topic: raw.digest() for topic, raw in folded.raw.items()}
        ends = {topic.name: self._ends[topic.name, partition] for topic in TABLES}
        fields = epoch_fields(cut, folded.effects, digests, ends, behind_ms, reconciled=reconciled)
        return epoch_record(fields)
