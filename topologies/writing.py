"""When a cell that leads is written down: every so many cuts, one snapshot at a time.

How a snapshot is made says pipeline/snapshot/chunks.py, where it goes snapshots.py.
"""

import asyncio
from collections.abc import Mapping
from time import perf_counter

from pipeline.cell import Cell
from pipeline.cut import Cut
from pipeline.snapshot.chunks import Chunks, Plan
from topologies import metrics
from topologies.snapshots import Snapshots


class Writing:
    """One cell's snapshots. The next cut waits only until what changed is copied."""

    def __init__(self, partition: int, snapshots: Snapshots, chunks: Chunks) -> None:
        self._partition, self._snapshots, self._chunks = partition, snapshots, chunks
        self._under_way: asyncio.Task[None] | None = None
        self._due_at = 0  # number of a cut

    def lead(self, term: int, number: int, *, at_once: bool) -> None:
        """The cell leads in `term` from the cut of this number on."""
        self._chunks = self._chunks.under(term)
        self._due_at = number + (0 if at_once else self._snapshots.every_cuts)

    def write(
        self, cell: Cell, cut: Cut | None, folded_to: int, verified: Mapping[str, int] | None
    ) -> None:
        """Write the cell down as it is after `cut`, if it is time, the last snapshot is written,
        and the topics are known to hold what the cell published (`verified`). `folded_to`: offset
        of the cut log behind the cut."""
        if self._under_way is not None and self._under_way.done():
            self._under_way.result()  # raises what went wrong
            self._under_way = None
        if self._under_way is not None or verified is None or cut is None:
            return
        if cut.number < self._due_at:
            return
        began = perf_counter()
        plan = self._chunks.plan(cell.to_sections(), cut, folded_to, verified)
        metrics.SNAPSHOT_MS.labels(self._partition).observe((perf_counter() - began) * 1000)
        if plan.commit is not None:  # else it goes on after the next cut
            self._due_at = cut.number + self._snapshots.every_cuts
        self._under_way = asyncio.create_task(self._write(self._chunks, plan))

    async def _write(self, chunks: Chunks, plan: Plan) -> None:
        await self._snapshots.write(self._partition, plan)
        chunks.written(plan)
        if plan.commit is not None:
            await self._snapshots.tell_progress(self._partition, plan.commit)

    def cancel(self) -> None:
        """Leave off."""
        if self._under_way is not None:
            self._under_way.cancel()
