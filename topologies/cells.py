"""The cells of one worker: which partitions it has, and what reaches which.

Faust tells which partitions are ours by asking where to read on (`seek_offsets`). A partition that
stayed ours through a rebalance goes on from its inbox's position; a new one starts from its newest
snapshot, or at the beginning of its log; one that went away is forgotten with everything it knew.
"""

import asyncio
import gc
from collections.abc import Callable, Collection
from time import monotonic

import structlog
from faust.types import TP

from pipeline.cut import Cut
from pipeline.errors import LogError, WireError
from pipeline.wire.decode import decode
from schemas.registry import INPUTS, STEERING_CUTS
from topologies import metrics
from topologies.chunks import Chunk
from topologies.clock import Clock
from topologies.configs import Configs
from topologies.inbox import Inbox
from topologies.publishing import Publishing
from topologies.runner import CellRunner, Phase
from topologies.snapshots import Snapshots

log = structlog.get_logger("edgesteer.cells")

#: A cell that leads folds a cut a second; one that has not moved for this long never will (a fetch
#: that was never sent again after a rebalance, a group without a leader): a restart mends it.
STALLED_AFTER_S = 60.0


class Cells:
    """All runners of this worker. Everything happens on the main event loop."""

    def __init__(
        self,
        partitions: int,
        *,
        writer: str,
        clock: Clock,
        configs: Configs,
        publishing: Publishing,
        snapshots: Snapshots,
        on_failure: Callable[[BaseException], None],
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        """`on_failure`: a runner cannot go on, or has not for `stalled_after_s` (the worker must
        exit with that reason)."""
        self.partitions = partitions
        self.runners: dict[int, CellRunner] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._paused: set[TP] = set()
        self._writer, self._clock = writer, clock
        self._configs, self._publishing, self.on_failure = configs, publishing, on_failure
        self._snapshots, self._restoring = snapshots, set[int]()
        self.consumer: object = None  # Faust's consumer, known once the app has started
        self._stalled_after_s = stalled_after_s
        self._undecided_since: float | None = monotonic()  # who has what, in the group
        #: Partition -> records of its changelog that are still to be read; known once the app has
        #: started.
        self.changelog_left: Callable[[], dict[int, int]] = dict
        self._changelog_left: dict[int, int] = {}  # when last looked at

    # assignment ---------------------------------------------------------------------------------

    def hold(self) -> None:
        """A rebalance begins: no new cuts until it is known who has what."""
        log.info("rebalance begins", cells=sorted(self.runners))
        self._undecided_since = self._undecided_since or monotonic()
        for runner in self.runners.values():
            runner.hold()

    def keep(self, assigned: Collection[TP]) -> set[int]:
        """Forget every cell that is not among `assigned`; the cells that are."""
        mine = {tp.partition for tp in assigned if tp.topic == STEERING_CUTS.name}
        for partition in sorted(set(self.runners) - mine):
            self._forget(partition)
        if not mine:
            self._undecided_since = None
        return mine

    async def seek_offsets(self, assigned: set[TP]) -> dict[TP, int]:
        """Where to read on for every assigned partition; starts and ends runners accordingly."""
        new = sorted(self.keep(assigned) - set(self.runners))
        if new:
            await self._begin(new)
        self._undecided_since = None
        self._paused.clear()
        for runner in self.runners.values():
            runner.release()
            self._throttle(runner)
        return self.positions(assigned)

    def positions(self, assigned: Collection[TP]) -> dict[TP, int]:
        """Where to read on for those of `assigned` whose cells are there."""
        offsets: dict[TP, int] = {}
        for tp in assigned:
            if (runner := self.runners.get(tp.partition)) is not None:
                lanes = runner.inbox.lanes
                cuts = tp.topic == STEERING_CUTS.name
                offsets[tp] = runner.log_next if cuts else lanes[tp.topic].next_offset
        return offsets

    async def _begin(self, partitions: list[int]) -> None:
        consumer = self.consumer
        logs = {p: TP(STEERING_CUTS.name, p) for p in partitions}
        inputs = [TP(topic.name, p) for topic in INPUTS for p in partitions]
        earliest = await consumer.earliest_offsets(*logs.values(), *inputs)  # type: ignore[attr-defined]
        ends = await consumer.highwaters(*logs.values())  # type: ignore[attr-defined]
        self._restoring = set(partitions)
        log.info("restoring cells", partitions=partitions)
        for partition, tp in logs.items():
            found = await self._snapshots.find(partition, self.partitions, earliest[tp])
            self._restoring.discard(partition)
            self._undecided_since = monotonic()  # it takes its time, but goes on
            starts = {one.topic: earliest[one] for one in inputs if one.partition == partition}
            if found.commit is not None:
                starts |= found.commit.cut.offsets
            runner = CellRunner(
                partition,
                self.partitions,
                writer=self._writer,
                inbox=Inbox(starts),
                log_begin=earliest[tp],
                log_end=ends[tp],
                found=found,
                clock=self._clock,
                configs=self._configs,
                publishing=self._publishing,
                snapshots=self._snapshots,
                standing=self._publishing.standing(
                    partition, found.commit.verified if found.commit else None
                ),
                on_progress=self._throttle,
            )
            self.runners[partition] = runner
            task = asyncio.create_task(runner.run(), name=f"cell-{partition}")
            task.add_done_callback(self._ended)
            self._tasks[partition] = task
        log.info("given cells", partitions=partitions)

    def _forget(self, partition: int) -> None:
        log.info("cell taken away", partition=partition)
        self._tasks.pop(partition).cancel()
        del self.runners[partition]
        gc.unfreeze()  # see CellRunner: what the cell held may be in cycles

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("cell failed", cell=task.get_name(), error=repr(failure))
            self.on_failure(failure)

    def stalled(self, after_s: float) -> list[str]:
        """What stands still for longer than `after_s`, in words; empty when all is well."""
        now = monotonic()
        undecided_s = now - (self._undecided_since or now)
        group = [f"the group has given no cells for {undecided_s:.0f} s"]
        return (group if undecided_s > after_s else []) + [
            f"cell {runner.partition} ({runner.phase.name.lower()}) has not moved for "
            f"{now - runner.moved_at:.0f} s"
            for runner in self.runners.values()
            if runner.phase is not Phase.SUPERSEDED and now - runner.moved_at > after_s
        ]

    def note_recovery(self) -> None:
        """A long changelog that is still being read is no standing still: cells come after it."""
        left, before = self.changelog_left(), self._changelog_left
        reads_on = any(
            count < before.get(partition, count + 1) for partition, count in left.items()
        )
        if reads_on and self._undecided_since is not None:
            self._undecided_since = monotonic()
        self._changelog_left = left

    async def watch(self) -> None:
        """Report a failure when something stands still. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._stalled_after_s / 10)
            self.note_recovery()
            for reason in self.stalled(self._stalled_after_s):
                self.on_failure(LogError(reason))

    async def stop(self) -> None:
        """End all runners and wait until they have ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # rows and cuts ------------------------------------------------------------------------------

    def on_chunk(self, chunk: Chunk) -> None:
        """Rows came; those of a partition that is not ours any more are dropped (its new owner
        reads them)."""
        runner = self.runners.get(chunk.partition)
        if runner is not None:
            runner.deliver_chunk(chunk)
            self._throttle(runner)

    def on_cut(self, partition: int, offset: int, value: bytes) -> None:
        """A record of the cut log came. One that is no cut does not count, for any reader."""
        runner = self.runners.get(partition)
        if runner is None:
            return
        try:
            name, record = decode(value)
            cut = Cut.from_record(record) if name == "Cut" else None
        except WireError:
            cut = None
        if cut is None:
            log.error("no cut", topic=STEERING_CUTS.name, partition=partition, offset=offset)
            metrics.CUTS_IGNORED.labels(partition).inc()
        else:
            runner.deliver_cut(cut, offset)

    def _throttle(self, runner: CellRunner) -> None:
        """Pause lanes that hold much more than the next cut needs, resume the others."""
        paused = 0
        for topic, lane in runner.inbox.lanes.items():
            tp = TP(topic, runner.partition)
            enough = lane.is_full and lane.next_offset > runner.needed(topic)
            paused += enough
            if enough and tp not in self._paused:
                self._paused.add(tp)
                self.consumer.pause_partitions({tp})  # type: ignore[attr-defined]
            elif not enough and tp in self._paused:
                self._paused.discard(tp)
                self.consumer.resume_partitions({tp})  # type: ignore[attr-defined]
        metrics.PAUSED.labels(runner.partition).set(paused)
        metrics.INBOX_BYTES.labels(runner.partition).set(runner.inbox.held_bytes)

    # answers ------------------------------------------------------------------------------------

    def readiness(self) -> dict[int, str]:
        """Partition -> phase, in words; all `leading` means ready."""
        words = {
            partition: f"reading its changelog: {left:,} records left"
            for partition, left in sorted(self.changelog_left().items())
            if left > 0
        }
        words |= dict.fromkeys(sorted(self._restoring), "restoring its snapshot")
        for partition, runner in sorted(self.runners.items()):
            phase = runner.phase.name.lower()
            if runner.phase is Phase.CATCHING_UP:
                phase += f": cut log at {runner.log_next} of {runner.log_end}"
            words[partition] = phase
        return words
