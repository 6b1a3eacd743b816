"""From the effects of a step to acknowledged records, closed by the Epoch.

Order: lb.weights, groups, prefixes; beside them verdicts, dead letters; and last the Epoch with the
end offset of every table partition: a follower that has read up to there holds the whole cut.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter

from pipeline.cell import Cell, reconcile
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.effects import Block, Effects, Record
from pipeline.wire.encode import encode
from pipeline.wire.rows import Refused
from schemas.registry import (
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    STEERING_VERDICTS,
    TABLES,
)
from topologies import metrics
from topologies.clock import Clock
from topologies.inbox import Raw
from topologies.outputs import Outputs
from topologies.readback import Readback

RECORD_BYTES_MAX = 4096  # of a dead letter's copy


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
        reports = [*_verdicts(cut, effects), *_dead_letters(folded)]
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
        cut, raw, draft = folded.cut, folded.raw, folded.effects.epoch
        record = {
            "partition": cut.partition,
            "cut": cut.number,
            "term": cut.term,
            "at_ms": cut.at_ms,
            "code_version": cut.code_version,
            "table_hash": f"{draft.table_hash:016x}",
            "prefixes": draft.prefixes,
            "groups": draft.groups,
            "sites": draft.sites,
            "inputs": [
                {
                    "topic": topic,
                    "rows": rows,
                    "folded": draft.folded.get(topic, 0),
                    "refused": len(folded.effects.refused.get(topic, ())),
                    "digest": raw[topic].digest() if topic in raw else "",
                }
                for topic, rows in sorted(draft.rows.items())
            ],
            "outputs": [
                {"topic": topic.name, "end_offset": self._ends[topic.name, cut.partition]}
                for topic in TABLES
            ],
            "notes": [
                {"name": name, "count": count} for name, count in sorted(draft.notes.items())
            ],
            "behind_ms": behind_ms,
            "reconciled": reconciled,
        }
        key = str(cut.partition).encode()
        return Record(STEERING_EPOCHS.name, key, encode("Epoch", record))


def _verdicts(cut: Cut, effects: Effects) -> Iterable[Record]:
    for row in effects.verdicts:
        record = {
            "at_ms": cut.at_ms,
            "cut": cut.number,
            "kind": row.kind,
            "entity": row.entity,
            "from_state": row.from_state,
            "to_state": row.to_state,
            "reason": row.reason,
            "detail": row.detail,
        }
        yield Record(STEERING_VERDICTS.name, row.entity.encode(), encode("Verdict", record))


def _dead_letters(folded: Folded) -> Iterable[Record]:
    """One letter a record; beyond `dead_letters_max` of one topic and Reason, one letter stands for
    all the rest (bounded, and still accounted for: its count says how many)."""
    limit = folded.config.publish.dead_letters_max
    for topic, refused in sorted(folded.effects.refused.items()):
        by_reason: dict[str, list[Refused]] = {}
        for one in sorted(refused, key=lambda one: one.offset):
            by_reason.setdefault(one.reason, []).append(one)
        for group in by_reason.values():
            for one in group[:limit]:
                yield _dead_letter(folded.cut, topic, [one], folded.raw)
            if group[limit:]:
                yield _dead_letter(folded.cut, topic, group[limit:], folded.raw)


def _dead_letter(cut: Cut, topic: str, refused: list[Refused], raw: Mapping[str, Raw]) -> Record:
    first = refused[0]
    record = {
        "at_ms": cut.at_ms,
        "topic": topic,
        "partition": cut.partition,
        "offset": first.offset,
        "last_offset": refused[-1].offset,
        "count": len(refused),
        "reason": str(first.reason),
        "detail": first.detail,
        "record": raw[topic].at(first.offset)[:RECORD_BYTES_MAX],
    }
    return Record(STEERING_DEAD_LETTERS.name, topic.encode(), encode("DeadLetter", record))
