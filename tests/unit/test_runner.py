"""The log decides who speaks: take-over, fencing, catching up, urgent cuts; on a log in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from pipeline.cell import Cell
from pipeline.config import CODE_VERSION, SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.effects import Block, Record
from pipeline.wire.encode import encode
from schemas.registry import APPLIANCE_HEALTH, FLEET_INVENTORY, PLAY_EVENTS
from tests.cell_world import Log as World
from tests.cell_world import everything
from topologies.chunks import Chunk
from topologies.clock import Clock
from topologies.inbox import Inbox
from topologies.publishing import Folded
from topologies.runner import CellRunner, Phase

CONFIG = SteeringConfig()
PATIENCE_S = 20.0


class FakeConfigs:
    current_hash = CONFIG.hash()

    async def ensure_published(self) -> None: ...

    async def get(self, config_hash: str) -> SteeringConfig:
        return CONFIG


class FakeLog:
    """The cut log and the publishing side: what is appended comes back at once, unless held."""

    def __init__(self, epoch: int = 0) -> None:
        self.cuts: list[Cut] = []
        self.published: list[tuple[Cut, bool]] = []
        self.reconciled = 0
        self.epoch = epoch
        self.deliver: Callable[[Cut, int], None] = lambda cut, offset: None
        self.first: list[Cut] = []  # foreign cuts that get into the log before our next one

    def append(self, cut: Cut) -> None:
        self.cuts.append(cut)
        self.deliver(cut, len(self.cuts) - 1)

    async def append_cut(self, cut: Cut) -> None:
        for foreign in self.first:
            self.append(foreign)
        self.first.clear()
        self.append(cut)

    async def last_epoch(self, partition: int) -> int:
        return self.epoch

    async def reconcile(self, cell: Cell) -> list[Record | Block]:
        self.reconciled += 1
        return []

    async def publish(self, folded: Folded, *, reconciled: bool = False) -> None:
        self.published.append((folded.cut, reconciled))

    def causes(self) -> list[Cause]:
        return [cut.cause for cut, _ in self.published]


def cut_of(number: int, term: int, writer: str, inbox: Inbox | None = None) -> Cut:
    offsets = (inbox or Inbox({})).offsets()
    at_ms, config = 1_000 * number, CONFIG.hash()
    return Cut(0, number, term, writer, at_ms, Cause.TICK, offsets, config, CODE_VERSION)


@contextlib.asynccontextmanager
async def running(log: FakeLog, tick_ms: int = 20) -> AsyncIterator[CellRunner]:
    doubles: Any = {"configs": FakeConfigs(), "publishing": log}
    runner = CellRunner(
        0,
        1,
        writer="me",
        inbox=Inbox({}),
        log_next=0,
        log_end=len(log.cuts),
        clock=Clock(tick_ms),
        on_progress=lambda _: None,
        **doubles,
    )
    for offset, cut in enumerate(log.cuts):
        runner.deliver_cut(cut, offset)
    log.deliver = runner.deliver_cut
    task = asyncio.create_task(runner.run())
    try:
        yield runner
        assert not task.done() or task.exception() is None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_an_empty_log_begins_with_a_take_over_of_term_one_and_then_ticks() -> None:
    log = FakeLog()
    async with running(log):
        await until(lambda: len(log.published) >= 4)
    assert [cut.number for cut in log.cuts] == list(range(1, len(log.cuts) + 1))
    assert log.causes()[:2] == [Cause.TAKEOVER, Cause.TICK]
    assert {cut.term for cut in log.cuts} == {1}
    assert log.reconciled == 0  # nothing can be there yet


async def test_catching_up_publishes_only_cuts_without_an_epoch_then_takes_over_above() -> None:
    log = FakeLog(epoch=2)
    log.cuts = [cut_of(1, 1, "old"), cut_of(2, 1, "old"), cut_of(3, 1, "old")]
    async with running(log) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
    assert [cut.number for cut, _ in log.published[:2]] == [3, 4]
    takeover, reconciled = log.published[1]
    assert (takeover.cause, takeover.term, reconciled) == (Cause.TAKEOVER, 2, True)
    assert log.reconciled == 1


async def test_cuts_that_do_not_count_are_ignored_by_every_reader() -> None:
    log = FakeLog(epoch=99)
    log.cuts = [
        cut_of(1, 2, "new"),
        cut_of(2, 1, "zombie"),
        cut_of(4, 2, "new"),
        cut_of(2, 2, "new"),
    ]
    async with running(log) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
        assert runner.last is not None
    takeover = log.published[0][0]
    assert (takeover.number, takeover.term) == (3, 3)


async def test_a_later_term_silences_until_the_partition_is_given_back() -> None:
    log = FakeLog()
    async with running(log) as runner:
        await until(lambda: len(log.published) >= 2)
        number = log.cuts[-1].number
        log.first = [cut_of(number + 1, 5, "other"), cut_of(number + 2, 5, "other")]
        await until(lambda: runner.phase is Phase.SUPERSEDED)
        said = len(log.published)
        await asyncio.sleep(0.1)
        assert len(log.published) == said
        runner.hold()
        runner.release()
        await until(lambda: runner.phase is Phase.LEADING)
    takeover = next(cut for cut, reconciled in log.published[said:])
    assert (takeover.cause, takeover.term, takeover.writer) == (Cause.TAKEOVER, 6, "me")


async def test_a_take_over_that_loses_the_race_tries_above_the_winner() -> None:
    log = FakeLog()
    log.first = [cut_of(1, 1, "faster")]
    async with running(log) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
    assert (log.published[0][0].number, log.published[0][0].term) == (2, 2)


async def test_no_cut_is_made_while_a_rebalance_is_under_way() -> None:
    log = FakeLog()
    async with running(log) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
        runner.hold()
        await asyncio.sleep(0.05)  # one that was under way may still end
        made = len(log.cuts)
        await asyncio.sleep(0.1)
        assert len(log.cuts) == made


async def test_failed_health_is_cut_at_once_and_leaves_the_busy_topics_to_the_tick() -> None:
    log, world = FakeLog(), World()
    world.inventory()
    appliance = everything()[0]
    async with running(log, tick_ms=30) as runner:
        inventory = FLEET_INVENTORY.name
        deliver(runner, inventory, world.keys[inventory], world.values[inventory])
        await until(lambda: len(log.published) >= 3)
        runner._clock = Clock(60_000)  # no tick from here on
        await asyncio.sleep(0.1)
        made = len(log.published)
        deliver(runner, PLAY_EVENTS.name, None, [b"rubbish"])
        deliver(runner, APPLIANCE_HEALTH.name, None, [report(appliance, "OK", runner)])
        await asyncio.sleep(0.05)
        assert len(log.published) == made  # good news waits for the tick
        deliver(runner, APPLIANCE_HEALTH.name, None, [report(appliance, "FAILED", runner)])
        await until(lambda: len(log.published) > made)
    urgent = log.published[-1][0]
    assert urgent.cause is Cause.URGENT
    assert urgent.offsets[APPLIANCE_HEALTH.name] == 2
    assert urgent.offsets[PLAY_EVENTS.name] == 0


def deliver(
    runner: CellRunner, topic: str, keys: list[bytes | None] | None, values: list[bytes | None]
) -> None:
    start = runner.inbox.lanes[topic].next_offset
    end = start + len(values)
    runner.deliver_chunk(Chunk(topic, 0, np.arange(start, end), values, keys, end))


def report(appliance: str, service: str, runner: CellRunner) -> bytes:
    fields = {"appliance": appliance, "at_ms": runner._clock.now_ms(), "service": service}
    counts = ("egress_bps", "connections", "requests", "errors", "ttfb_ms", "retransmits")
    fields |= dict.fromkeys(counts, 0) | {"capacity_bps": 10**10, "cpu": 0.1, "disk": 0.1}
    return encode("Health", fields)


@pytest.mark.parametrize("number, term, writer, counts", [
    (1, 1, "me", False), (2, 1, "me", True), (2, 1, "you", False), (2, 2, "you", True),
    (2, 0, "you", False), (3, 1, "me", False), (3, 9, "you", False),
])  # fmt: skip
def test_which_cut_counts(number: int, term: int, writer: str, counts: bool) -> None:
    assert cut_of(number, term, writer).counts_after(cut_of(1, 1, "me")) is counts
