"""From the effects of a step to acknowledged records, closed by the Epoch.

Order: lb.weights, groups, prefixes, sites; beside them verdicts, dead letters; and last the Epoch
with the end offset of every table partition: a follower that has read up to there holds the whole
cut.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from pipeline.cell import Cell
from pipeline.closing import dead_letter_records, epoch_fields, epoch_record, verdict_records
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.effects import Block, Effects, Record
from pipeline.wire.digest import Raw
from topologies import metrics
from topologies.clock import Clock
from topologies.heap import give_back
from topologies.outputs import Outputs
from topologies.readback import Readback
from topologies.standing import Standing


@dataclass(frozen=True, slots=True)
class Folded:
    """A cut that was folded: what it wants published; of the raw records it took the digests, by
    topic, and the dead letters (the records themselves would be kept until all is sent)."""

    cut: Cut
    effects: Effects
    digests: Mapping[str, str]
    letters: Sequence[Record]

    @classmethod
    def of(
        cls, cut: Cut, config: SteeringConfig, effects: Effects, raw: Mapping[str, Raw]
    ) -> "Folded":
        """From the raw records, by topic."""
        digests = {topic: one.digest() for topic, one in raw.items()}
        letters = dead_letter_records(cut, effects, raw, config.publish.dead_letters_max)
        return cls(cut, effects, digests, list(letters))


class Publishing:
    """Turns effects into records; one for all cells of a worker."""

    def __init__(self, outputs: Outputs, readback: Readback, clock: Clock) -> None:
        self._outputs, self._readback, self._clock = outputs, readback, clock

    async def last_epoch(self, partition: int) -> int:
        """Number of the last cut of `partition` that an Epoch closed; 0 when there is none."""
        return await self._readback.last_epoch(partition)

    async def highest_cut(self, partition: int) -> tuple[int, int]:
        """Number and term of the last cut that any effect tells of; (0, 0) when there is none."""
        return await self._readback.highest_cut(partition)

    def standing(self, partition: int, verified: Mapping[str, int] | None) -> Standing:
        """What stands on the table topics of a cell that begins here."""
        return Standing(partition, self._readback, verified)

    async def append_cut(self, cut: Cut) -> None:
        await self._outputs.append_cut(cut)

    async def publish(
        self, folded: Folded, standing: Standing, *, reconciled: Cell | None = None
    ) -> None:
        """Send everything, then the Epoch; returns when all of it is acknowledged. `reconciled`:
        the cell, at a take-over that compared its tables with the topics: what others wrote since
        it did is put right before the Epoch, so that nobody sees a mixture."""
        began = perf_counter()
        cut, effects = folded.cut, folded.effects
        written, _ = await asyncio.gather(  # nobody needs an order between the two
            self._outputs.publish(cut, effects.tables), self.report(folded)
        )
        await standing.wrote(written, cut.mark)
        if reconciled is not None:
            await standing.look(cut.mark)
            late = standing.corrections(reconciled)
            await standing.wrote(await self._outputs.publish(cut, late), cut.mark)
        behind_ms = max(0, self._clock.now_ms() - cut.at_ms)
        ends = await standing.ends()
        compared = reconciled is not None
        fields = epoch_fields(cut, effects, folded.digests, ends, behind_ms, reconciled=compared)
        await self._outputs.publish(cut, [epoch_record(fields)])
        give_back(sum(len(one) if isinstance(one, Block) else 1 for one in effects.tables))
        metrics.PUBLISH_MS.labels(cut.cause).observe((perf_counter() - began) * 1000)
        metrics.BEHIND_MS.labels(cut.partition).set(behind_ms)

    async def report(self, folded: Folded) -> None:
        """Send verdicts, dead letters and what other cells are told; returns when all are
        acknowledged."""
        cut, effects = folded.cut, folded.effects
        await self._outputs.publish(cut, [*verdict_records(cut, effects), *folded.letters])
        await self._outputs.tell(cut, effects.prices)
