"""One cell in operation: reads the cut log, folds, publishes, and, while it leads, makes the cuts.

    CATCHING_UP   from the newest snapshot (or the log's beginning) fold every cut that the log held
                  when the partition was given to us, silently
    TAKING_OVER   append a cut with term + 1 and wait until the log gives it back as one that counts
    LEADING       tick about once a second, or at once on urgent news; one cut at a time
    SUPERSEDED    somebody's later term counts: fold along, say nothing

A cut of ours is acted on only after it was read back (docs/adr/0001: the log decides who
speaks). Cuts that have no Epoch are published again by whoever takes over, and no others. While it
leads, the cell is written down every so many cuts (snapshots.py), which the next cut waits for only
until what changed is copied.
"""

import asyncio
import gc
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from time import monotonic, perf_counter

import structlog

from pipeline.cell import Cell, step
from pipeline.config import CODE_VERSION, SteeringConfig
from pipeline.cut import Cause, Cut, CutSequence
from pipeline.decide.urgent import is_urgent
from pipeline.snapshot.chunks import Chunks, Plan
from pipeline.wire.rows import TopicRows
from schemas.registry import APPLIANCE_HEALTH, BGP_ROUTES, FLEET_INVENTORY
from topologies import metrics
from topologies.chunks import Chunk
from topologies.clock import Clock, wait_any
from topologies.configs import Configs
from topologies.heap import give_back
from topologies.inbox import Inbox
from topologies.observed import observe
from topologies.publishing import Folded, Publishing
from topologies.snapshots import Found, Snapshots
from topologies.standing import Standing

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


class CellRunner:
    """Owns one Cell and everything that happens to it."""

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
        self.partition, self.partitions = partition, partitions
        self.inbox, self.log_end = inbox, log_end
        self.phase = Phase.CATCHING_UP
        self.moved_at = monotonic()  # when anything last came or was folded
        self.cell = found.cell or Cell(partition, partitions)
        self.last = found.commit.cut if found.commit else None  # that was folded
        self.log_next = found.commit.log_next if found.commit else log_begin
        self._folded_to = self.log_next  # offset of the cut log behind the last cut folded
        self._whole = log_begin == 0 or found.commit is not None
        self._sequence = CutSequence(whole=self._whole, last=self.last)
        self._before = (0, 0)  # number and term of the last cut of a log that holds none any more
        self._given_back = 0  # times, by rebalances: somebody may have led in between
        self._led_after = 0  # of these times: the last one after which a cut of ours counted
        #: Folded and made by others: published again by us unless an Epoch closes it meanwhile.
        self._unpublished: list[Folded] = []
        #: A cut of other code was folded: what it published is not what it would by this code.
        self._other_code = self.last is not None and self.last.code_version != CODE_VERSION
        self._snapshots, self._standing, self._chunks = snapshots, standing, found.chunks
        self._writing: asyncio.Task[None] | None = None  # a snapshot
        self._snapshot_due_at = 0  # number of a cut
        self._writer, self._clock = writer, clock
        self._configs, self._publishing, self._on_progress = configs, publishing, on_progress
        self._waiting: deque[tuple[Cut, int]] = deque()  # read, not folded; each with its offset
        self._news = asyncio.Event()  # a cut or rows came
        self._urgent = asyncio.Event()
        self._released = asyncio.Event()  # cleared while a rebalance is under way
        self._released.set()

    # what the consumer brings -------------------------------------------------------------------

    def deliver_chunk(self, chunk: Chunk) -> None:
        """Input rows came."""
        self.moved_at = monotonic()
        self.inbox.append(chunk)
        if chunk.topic == APPLIANCE_HEALTH.name and self.phase is Phase.LEADING:
            rows = self.inbox.lanes[chunk.topic].decode()
            if rows is not None and self._is_urgent(rows):
                self._urgent.set()
        self._news.set()

    def deliver_cut(self, cut: Cut, offset: int) -> None:
        """A record of the cut log came; one that was seen before (a refetch) is dropped."""
        if offset >= self.log_next:
            self.log_next = offset + 1
            self._waiting.append((cut, offset))
            self._news.set()

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

    def needed(self, topic: str) -> int:
        """The offset up to which rows of `topic` are waited for; 0 when none are."""
        return self._waiting[0][0].offsets.get(topic, 0) if self._waiting else 0

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
            if self._writing is not None:
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
        self._chunks = self._chunks.under(cut.term)
        # The state that other code left was brought up to date by this code: from now on it is
        # what the snapshot says, not what one folds from before.
        self._snapshot_due_at = cut.number + (0 if self._other_code else self._snapshots.every_cuts)
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
        """Write the cell down, if it is time, the last snapshot is written, and the topics are
        known to hold what the cell published."""
        verified, cut = self._standing.verified, self.last
        if self._writing is not None and self._writing.done():
            self._writing.result()  # raises what went wrong
            self._writing = None
        if self._writing is not None or verified is None or cut is None:
            return
        if cut.number < self._snapshot_due_at:
            return
        began = perf_counter()
        plan = self._chunks.plan(self.cell.to_sections(), cut, self._folded_to, verified)
        metrics.SNAPSHOT_MS.labels(self.partition).observe((perf_counter() - began) * 1000)
        if plan.commit is not None:  # else it goes on after the next cut
            self._snapshot_due_at = cut.number + self._snapshots.every_cuts
        self._writing = asyncio.create_task(self._write(self._chunks, plan))

    async def _write(self, chunks: Chunks, plan: Plan) -> None:
        await self._snapshots.write(self.partition, plan)
        chunks.written(plan)
        if plan.commit is not None:
            await self._snapshots.tell_progress(self.partition, plan.commit)

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

    async def _read_one(self) -> Folded | None:
        """Take the next cut from the log; fold it if it counts."""
        while not self._waiting:
            await self._wait_for_news()
        cut, offset = self._waiting[0]
        if not self._sequence.take(cut):
            metrics.CUTS_IGNORED.labels(self.partition).inc()
            self._waiting.popleft()
            return None
        while not self.inbox.reached(cut.offsets):
            await self._wait_for_news()
        self._waiting.popleft()
        config = await self._configs.get(cut.config_hash)
        folded = self._fold(cut, config)
        self.last, self.moved_at, self._folded_to = cut, monotonic(), offset + 1
        self._other_code |= cut.code_version != CODE_VERSION
        self._on_progress(self)
        await asyncio.sleep(0)  # a long log must not keep the consumer's callbacks waiting
        return folded

    def _fold(self, cut: Cut, config: SteeringConfig) -> Folded:
        rows, raw = self.inbox.take(cut.offsets)
        began = perf_counter()
        effects = step(self.cell, rows, cut, config)
        observe(self.cell, cut, effects, perf_counter() - began)
        folded = Folded.of(cut, config, effects, raw)
        del rows, raw
        give_back(effects.epoch.rows.get(BGP_ROUTES.name, 0))
        return folded

    def _is_urgent(self, rows: TopicRows) -> bool:
        reports = rows.frames.get("Health")
        return reports is not None and is_urgent(self.cell.fleet, self.cell.health, reports)

    async def _wait_for_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        metrics.PHASE.labels(self.partition).set(phase)
