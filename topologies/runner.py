"""One cell in operation: folds along its cut log, publishes, and, while it leads, makes the cuts.

    CATCHING_UP   from the newest snapshot (or the log's beginning) fold every cut that the log held
                  when the partition was given to us, silently
    TAKING_OVER   append a cut with term + 1 and wait until the log gives it back as one that counts
    LEADING       tick about once a second, or at once on urgent news; one cut at a time
    SUPERSEDED    somebody's later term counts: fold along, say nothing

A cut of ours is acted on only after it was read back (docs/adr/0001: the log decides who
speaks). Cuts that have no Epoch are published again by whoever takes over, and no others. How cuts
are read and folded says folding.py, when the cell is written down writing.py.
"""

import asyncio
import gc
from collections.abc import Callable
from enum import IntEnum
from time import monotonic, perf_counter

import structlog

from pipeline.config import CODE_VERSION
from pipeline.cut import Cause, Cut
from pipeline.decide.urgent import is_urgent
from pipeline.wire.rows import TopicRows
from schemas.registry import APPLIANCE_HEALTH, FLEET_INVENTORY
from topologies import metrics
from topologies.chunks import Chunk
from topologies.clock import Clock, wait_any
from topologies.configs import Configs
from topologies.folding import Folding
from topologies.inbox import Inbox
from topologies.publishing import Folded, Publishing
from topologies.snapshots import Found, Snapshots
from topologies.standing import Standing
from topologies.writing import Writing

log = structlog.get_logger("edgesteer.cell")

#: What an urgent cut takes: news of the fleet. The busy topics wait for the tick.
URGENT_TOPICS = (FLEET_INVENTORY.name, APPLIANCE_HEALTH.name)
#: Cuts that a superseded cell keeps before it asks which of them are closed.
_UNPUBLISHED_MAX = 5


class Phase(IntEnum):
    CATCHING_UP = 0
    TAKING_OVER = 1
    LEADING = 2
    SUPERSEDED = 3


class CellRunner(Folding):
    """One cell and everything that happens to it."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        *,
        writer: str,
        inbox: Inbox,
        log_begin: int,
        log_end: int,
        found: Found,
        clock: Clock,
        configs: Configs,
        publishing: Publishing,
        snapshots: Snapshots,
        standing: Standing,
        on_progress: Callable[["CellRunner"], None],
    ) -> None:
        """`log_begin`, `log_end`: the first offset of the cut log, and its end when the partition
        was given to us. `found`: the snapshot to begin from, if there is one; `inbox` begins where
        its cut ends. `on_progress` is called after every fold (to resume fetching)."""
        super().__init__(
            partition, partitions, inbox=inbox, log_begin=log_begin, found=found, configs=configs
        )
        self.log_end, self._on_progress = log_end, on_progress
        self.phase = Phase.CATCHING_UP
        self._before = (0, 0)  # number and term of the last cut of a log that holds none any more
        self._given_back = 0  # times, by rebalances: somebody may have led in between
        self._led_after = 0  # of these times: the last one after which a cut of ours counted
        #: Folded and made by others: published again by us unless an Epoch closes it meanwhile.
        self._unpublished: list[Folded] = []
        #: A cut of other code was folded: what it published is not what it would by this code.
        self._other_code = self.last is not None and self.last.code_version != CODE_VERSION
        self._writing, self._standing = Writing(partition, snapshots, found.chunks), standing
        self._writer, self._clock, self._publishing = writer, clock, publishing
        self._urgent = asyncio.Event()
        self._released = asyncio.Event()  # cleared while a rebalance is under way
        self._released.set()

    # what the consumer brings -------------------------------------------------------------------

    def deliver_chunk(self, chunk: Chunk) -> None:
        """Input rows came: perhaps urgent news."""
        super().deliver_chunk(chunk)
        if chunk.topic == APPLIANCE_HEALTH.name and self.phase is Phase.LEADING:
            rows = self.inbox.lanes[chunk.topic].decode()
            if rows is not None and self._is_urgent(rows):
                self._urgent.set()

    def hold(self) -> None:
        """A rebalance has begun: make no new cuts until `release`."""
        self._released.clear()

    def release(self) -> None:
        """The partition is ours: still, or again, and then whoever superseded us has lost it."""
        if not self._released.is_set():
            self._given_back += 1
            if self.phase is Phase.SUPERSEDED:
                self._enter(Phase.TAKING_OVER)
        self._released.set()
        self.moved_at = monotonic()
        self._news.set()

    # life ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live until cancelled. Raises KafkaError and LogError: the worker then exits."""
        try:
            await self._catch_up()
            while True:
                await self._released.wait()
                if self.phase is Phase.TAKING_OVER:
                    await self._take_over()
                elif self.phase is Phase.LEADING:
                    await self._lead()
                else:
                    await self._follow()
        finally:
            self._writing.cancel()

    async def _catch_up(self) -> None:
        began, cuts = perf_counter(), 0
        if self.log_end > self.log_next:
            log.info(
                "folding the log", partition=self.partition, begin=self.log_next, end=self.log_end,
                after_cut=self.last.number if self.last else 0,
            )  # fmt: skip
        last_epoch = await self._publishing.last_epoch(self.partition)
        while self.log_next < self.log_end or self._waiting:
            folded = await self._read_one()
            if folded is not None:
                cuts += 1
                if folded.cut.number > last_epoch:
                    self._unpublished.append(folded)
        if self.last is None and not self._whole:
            self._before = await self._publishing.highest_cut(self.partition)
        self._enter(Phase.TAKING_OVER)
        seconds = round(perf_counter() - began, 2)
        log.info("caught up", partition=self.partition, cuts=cuts, seconds=seconds)

    async def _follow(self) -> None:
        """Fold what the leader decides, and know what it would leave unpublished if it died."""
        if not self._waiting:
            await self._wait_for_news()  # also that the partition was given back
            return
        folded = await self._read_one()
        if folded is not None:
            self._unpublished.append(folded)
            if len(self._unpublished) > _UNPUBLISHED_MAX:
                await self._forget_published()

    async def _forget_published(self) -> None:
        last_epoch = await self._publishing.last_epoch(self.partition)
        self._unpublished = [one for one in self._unpublished if one.cut.number > last_epoch]

    async def _take_over(self) -> None:
        await self._forget_published()
        for folded in self._unpublished:
            await self._publish_again(folded)
        self._unpublished = []
        fresh = self.last is None and self._whole
        _, term = (self.last.number, self.last.term) if self.last else self._before
        cut = self._next_cut(Cause.TAKEOVER, term=term + 1)
        taken = await self._append_and_read_back(cut)
        if taken is None:
            return  # another cut counted first: its term is in self.last now, try above it
        if fresh:
            await self._standing.begin()
        else:
            await self._put_right(taken)
        await self._publishing.publish(
            taken, self._standing, reconciled=None if fresh else self.cell
        )
        self._enter(Phase.LEADING)
        # The state that other code left was brought up to date by this code: from now on it is
        # what the snapshot says, not what one folds from before.
        self._writing.lead(cut.term, cut.number, at_once=self._other_code)
        self._other_code = False
        self._snapshot()
        # What a cell holds stays: the collector need not walk it, which took 70 ms with a million
        # prefixes, in which no urgent cut could be made. (Cells thaws it when a cell goes away.)
        gc.freeze()

    async def _publish_again(self, folded: Folded) -> None:
        """What a cut of somebody else's says, if this code made it. Where other code came before
        it, its table is no change to what stands on the topics: the take-over, which puts that
        right, speaks for it."""
        if folded.cut.code_version != CODE_VERSION:
            return
        log.info("published again", partition=self.partition, cut=folded.cut.number)
        if self._other_code:
            await self._publishing.report(folded)
        else:
            # What the one before wrote since our snapshot, for cuts that Epochs closed, is seen by
            # nobody yet. An Epoch that ends before it would have a follower that reads all of it at
            # once take it for late.
            await self._standing.look(folded.cut.mark)
            await self._publishing.publish(folded, self._standing)

    async def _lead(self) -> None:
        """Wait for the next tick or urgent news, then make one cut and see it through."""
        assert self.last is not None
        urgent = await wait_any(
            self._urgent, self._clock.until_tick_s(self.partition, self.partitions)
        )
        self._urgent.clear()
        if not self._released.is_set():
            return
        cut = self._next_cut(Cause.URGENT if urgent else Cause.TICK, term=self.last.term)
        folded = await self._append_and_read_back(cut)
        if folded is not None:
            if cut.cause is Cause.TICK:
                await self._standing.look(cut.mark)
                folded.effects.tables += self._standing.corrections(self.cell)
            await self._publishing.publish(folded, self._standing)
            self._snapshot()
            return
        log.warning("superseded", partition=self.partition, by=self.last.writer)
        # Whoever led while a rebalance was under way has lost the partition to us again.
        given_back = self._given_back > self._led_after
        self._enter(Phase.TAKING_OVER if given_back else Phase.SUPERSEDED)

    async def _put_right(self, taken: Folded) -> None:
        """Make what is published at a take-over leave just the cell's tables on the topics."""
        if self._other_code or not self._standing.known:
            taken.effects.tables = await self._standing.reconciled(self.cell)
        else:
            await self._standing.look(taken.cut.mark)
            taken.effects.tables += self._standing.corrections(self.cell)

    def _snapshot(self) -> None:
        self._writing.write(self.cell, self.last, self._folded_to, self._standing.verified)

    # steps --------------------------------------------------------------------------------------

    def _next_cut(self, cause: Cause, *, term: int) -> Cut:
        offsets = self.inbox.offsets()
        if cause is Cause.URGENT and self.last is not None:
            fresh = {topic: offsets[topic] for topic in URGENT_TOPICS}
            offsets = {**self.last.offsets, **fresh}
        now_ms = self._clock.now_ms()
        return Cut(
            partition=self.partition,
            number=(self.last.number if self.last else self._before[0]) + 1,
            term=term,
            writer=self._writer,
            at_ms=max(now_ms, self.last.at_ms) if self.last else now_ms,
            cause=cause,
            offsets=offsets,
            config_hash=self._configs.current_hash,
            code_version=CODE_VERSION,
        )

    async def _append_and_read_back(self, cut: Cut) -> Folded | None:
        """Append `cut`, then read until a cut with its number counts; None if that is not ours, or
        is read only after the partition was given back: others may have led and published since.
        What is not published then is among the unpublished."""
        given_back = self._given_back
        await self._configs.ensure_published()
        await self._publishing.append_cut(cut)
        while self.last is None or self.last.number < cut.number:
            folded = await self._read_one()
            if folded is not None:
                if folded.cut == cut and given_back == self._given_back:
                    self._led_after = given_back
                    return folded
                self._unpublished.append(folded)
        self._standing.forget()
        return None

    def _progressed(self, cut: Cut) -> None:
        self._other_code |= cut.code_version != CODE_VERSION
        self._on_progress(self)

    def _is_urgent(self, rows: TopicRows) -> bool:
        reports = rows.frames.get("Health")
        return reports is not None and is_urgent(self.cell.fleet, self.cell.health, reports)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        metrics.PHASE.labels(self.partition).set(phase)
