"""Whether what stands at the broker still reaches the cells.

Idea: a fetch that is never sent again (seen after rebalances) leaves a cell that goes on making
cuts, only without the rows of one topic; from inside all looks well. So the broker is asked where
its partitions end. A position that lies before the end and has not moved for as long as a cell may
stand still ends the worker, unless the lane is full and holds fetching back itself.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from time import monotonic

import structlog
from aiokafka.errors import KafkaError

from pipeline.errors import LogError
from schemas.registry import INPUTS, STEERING_CUTS
from topologies import metrics
from topologies.cells import Cells
from topologies.readback import Readback
from topologies.runner import CellRunner

log = structlog.get_logger("edgesteer.lag")

_TOPICS = (STEERING_CUTS.name, *(topic.name for topic in INPUTS))


class Lag:
    """Of all cells of a worker. `on_failure`: the worker must exit with that reason."""

    def __init__(
        self,
        cells: Cells,
        readback: Readback,
        stalled_after_s: float,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._cells, self._readback = cells, readback
        self._stalled_after_s, self._on_failure = stalled_after_s, on_failure
        #: (partition, topic) -> a position behind which something waits, and since when.
        self._since: dict[tuple[int, str], tuple[int, float]] = {}

    async def watch(self) -> None:
        """Look ten times in the time that something may stand still. Runs until cancelled. (A
        broker that does not answer is noticed by those who cannot do without it.)"""
        while True:
            await asyncio.sleep(self._stalled_after_s / 10)
            for partition, runner in list(self._cells.runners.items()):
                try:
                    ends = await self._readback.ends(_TOPICS, partition)
                except KafkaError as error:
                    log.warning("lag not known", partition=partition, reason=repr(error))
                    break
                for reason in self.look(runner, ends, monotonic()):
                    self._on_failure(LogError(reason))

    def look(self, runner: CellRunner, ends: Mapping[str, int], now: float) -> Iterator[str]:
        """What of a cell is not fetched any more, in words. `ends`: topic -> where it ends at the
        broker."""
        for topic, end in ends.items():
            position, full = runner.log_next, False
            if topic != STEERING_CUTS.name:
                lane = runner.inbox.lanes[topic]
                position, full = lane.next_offset, lane.is_full
            place = runner.partition, topic
            metrics.LAG.labels(*place).set(max(0, end - position))
            before, since = self._since.get(place, (-1, now))
            if position >= end or full:
                self._since.pop(place, None)
            elif position != before:
                self._since[place] = position, now
            elif now - since > self._stalled_after_s:
                yield (
                    f"{topic}, partition {runner.partition}: at offset {position} for "
                    f"{now - since:.0f} s, though the topic ends at {end}"
                )
