"""The log decides who speaks: take-over, fencing, catching up, urgent cuts; on a log in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from faust.types import TP

from pipeline.cell import Cell
from pipeline.config import CODE_VERSION, SteeringConfig
from pipeline.cut import Cause, Cut, CutSequence
from pipeline.effects import Block, Record
from pipeline.wire.encode import encode
from schemas.registry import APPLIANCE_HEALTH, FLEET_INVENTORY, PLAY_EVENTS, STEERING_CUTS
from tests.cell_world import Log as World
from tests.cell_world import everything
from topologies.cells import Cells
from topologies.chunks import Chunk
from topologies.clock import Clock
from topologies.inbox import Inbox
from topologies.publishing import Folded
from topologies.runner import CellRunner, Phase
from topologies.snapshots import Found

CONFIG = SteeringConfig()
PATIENCE_S = 20.0


class FakeConfigs:
    current_hash = CONFIG.hash()

    async def ensure_published(self) -> None: ...

    async def get(self, config_hash: str) -> SteeringConfig:
        return CONFIG


class FakeStanding:
    """Table topics on which nobody else writes."""

    def __init__(self) -> None:
        self.known, self.verified = False, None
        self.reconciled_count, self.looks = 0, 0

    async def begin(self) -> None:
        self.known = True

    def forget(self) -> None:
        self.known = False

    async def look(self, term: int) -> None:
        self.looks += 1

    def corrections(self, cell: Cell) -> list[Record]:
        return []

    async def reconciled(self, cell: Cell) -> list[Record | Block]:
        self.known = True
        self.reconciled_count += 1
        return []


class FakeLog:
    """The cut log and the publishing side: what is appended comes back at once, unless held."""

    def __init__(self, epoch: int = 0) -> None:
        self.cuts: list[Cut] = []
        self.published: list[tuple[Cut, bool]] = []
        self.looks: list[int] = []  # how often it was looked for what others wrote, when published
        self.standing = FakeStanding()
        self.epoch = epoch
        self.highest = (0, 0)
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

    async def highest_cut(self, partition: int) -> tuple[int, int]:
        return self.highest

    async def publish(
        self, folded: Folded, standing: "FakeStanding", *, reconciled: Cell | None = None
    ) -> None:
        self.published.append((folded.cut, reconciled is not None))
        self.looks.append(standing.looks)

    def causes(self) -> list[Cause]:
        return [cut.cause for cut, _ in self.published]


def cut_of(number: int, term: int, writer: str, inbox: Inbox | None = None) -> Cut:
    offsets = (inbox or Inbox({})).offsets()
    at_ms, config = 1_000 * number, CONFIG.hash()
    return Cut(0, number, term, writer, at_ms, Cause.TICK, offsets, config, CODE_VERSION)


@contextlib.asynccontextmanager
async def running(log: FakeLog, tick_ms: int = 20, begin: int = 0) -> AsyncIterator[CellRunner]:
    """`begin`: the offset of the log's first record; what came before is gone."""
    doubles: Any = {"configs": FakeConfigs(), "publishing": log, "standing": log.standing}
    doubles["snapshots"] = SimpleNamespace(every_cuts=60)
    runner = CellRunner(
        0,
        1,
        writer="me",
        inbox=Inbox({}),
        log_begin=begin,
        found=Found(frozenset()),
        log_end=begin + len(log.cuts),
        clock=Clock(tick_ms),
        on_progress=lambda _: None,
        **doubles,
    )
    for offset, cut in enumerate(log.cuts):
        runner.deliver_cut(cut, begin + offset)
    log.deliver = lambda cut, offset: runner.deliver_cut(cut, begin + offset)
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
    assert log.standing.reconciled_count == 0  # nothing can be there yet


async def test_catching_up_publishes_only_cuts_without_an_epoch_then_takes_over_above() -> None:
    log = FakeLog(epoch=2)
    log.cuts = [cut_of(1, 1, "old"), cut_of(2, 1, "old"), cut_of(3, 1, "old")]
    async with running(log) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
    assert [cut.number for cut, _ in log.published[:2]] == [3, 4]
    takeover, reconciled = log.published[1]
    assert (takeover.cause, takeover.term, reconciled) == (Cause.TAKEOVER, 2, True)
    assert log.standing.reconciled_count == 1


async def test_what_others_wrote_is_seen_before_a_cut_is_published_again() -> None:
    log = FakeLog(epoch=1)
    log.cuts = [cut_of(1, 1, "old"), cut_of(2, 1, "old"), cut_of(3, 1, "old")]
    async with running(log) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
    assert [cut.number for cut, _ in log.published[:3]] == [2, 3, 4]
    assert log.looks[:2] == [1, 2]


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
    theirs = [cut for cut, _ in log.published[said:] if cut.writer == "other"]
    assert [cut.number for cut in theirs] == [number + 1, number + 2]  # no Epoch closed them
    takeover = log.published[said + 2][0]
    assert (takeover.cause, takeover.term, takeover.writer) == (Cause.TAKEOVER, 6, "me")


async def test_one_given_back_before_it_knew_that_it_was_superseded_leads_again() -> None:
    log = FakeLog()
    async with running(log) as runner:
        await until(lambda: len(log.published) >= 2)
        runner.hold()
        await asyncio.sleep(0.05)
        log.first = [cut_of(log.cuts[-1].number + 1, 5, "in between")]
        runner.release()
        await until(lambda: any(cut.term == 6 for cut, _ in log.published))
        assert runner.phase is Phase.LEADING


async def test_a_cut_of_ours_that_is_read_after_others_have_led_is_not_published_late() -> None:
    log = FakeLog()
    async with running(log) as runner:
        await until(lambda: len(log.published) >= 2)
        deliver, unread = log.deliver, list[tuple[Cut, int]]()
        log.deliver = lambda cut, offset: unread.append((cut, offset))
        await until(lambda: len(unread) == 1)  # frozen now; the session ends, another one leads
        said, late = len(log.published), unread[0][0].number
        log.append(cut_of(late + 1, 5, "other"))
        log.epoch = late + 1
        runner.hold()
        runner.release()
        log.deliver = deliver
        for cut, offset in unread:
            deliver(cut, offset)
        await until(lambda: runner.phase is Phase.LEADING and len(log.published) > said)
    takeover = log.published[said][0]
    assert (takeover.cause, takeover.number, takeover.term) == (Cause.TAKEOVER, late + 2, 6)


async def test_a_log_without_its_beginning_is_taken_on_trust_and_reconciled() -> None:
    log = FakeLog(epoch=99)
    log.cuts = [cut_of(41, 2, "zombie"), cut_of(70, 3, "old"), cut_of(71, 3, "old")]
    async with running(log, begin=500) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
    takeover, reconciled = log.published[0]
    assert (takeover.number, takeover.term, reconciled) == (72, 4, True)


async def test_a_log_that_holds_nothing_any_more_goes_on_above_what_was_published() -> None:
    log = FakeLog()
    log.highest = (1234, 7)
    async with running(log, begin=500) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
    takeover, reconciled = log.published[0]
    assert (takeover.number, takeover.term, reconciled) == (1235, 8, True)


async def test_a_take_over_that_loses_the_race_tries_above_the_winner() -> None:
    log = FakeLog()
    log.first = [cut_of(1, 1, "faster")]
    async with running(log) as runner:
        await until(lambda: runner.phase is Phase.LEADING)
    assert [(cut.number, cut.term) for cut, _ in log.published[:2]] == [(1, 1), (2, 2)]


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


def test_a_sequence_trusts_until_two_cuts_have_followed_each_other() -> None:
    sequence = CutSequence(whole=False)
    cuts = [(7, 1, "z"), (5, 1, "z"), (9, 2, "a"), (10, 2, "a"), (12, 2, "a"), (11, 2, "a")]
    taken = [sequence.take(cut_of(*cut)) for cut in cuts]
    assert taken == [True, False, True, True, False, True]


def test_a_whole_log_begins_with_number_one() -> None:
    sequence = CutSequence(whole=True)
    assert [sequence.take(cut_of(number, 1, "a")) for number in (2, 1, 2)] == [False, True, True]


def test_a_record_that_is_no_cut_does_not_count_and_ends_nobody() -> None:
    doubles: Any = {"clock": Clock(), "configs": None, "publishing": None, "snapshots": None}
    failures: list[BaseException] = []
    cells = Cells(1, writer="me", on_failure=failures.append, **doubles)
    heard: list[int] = []
    cells.runners[0] = cast(Any, SimpleNamespace(deliver_cut=lambda cut, at: heard.append(at)))
    cells.on_cut(0, 1, b"rubbish")
    cells.on_cut(0, 2, encode("Config", {"hash": "", "config": ""}))
    cells.on_cut(0, 3, encode("Cut", cut_of(1, 1, "me").to_record()))
    assert (heard, failures) == ([3], [])


def test_a_worker_that_is_left_with_nothing_forgets_its_cells() -> None:
    doubles: Any = {"clock": Clock(), "configs": None, "publishing": None, "snapshots": None}
    cells = Cells(3, writer="me", on_failure=lambda _: None, **doubles)
    ended: list[int] = []
    for cell in range(3):
        cells.runners[cell] = cast(Any, SimpleNamespace())
        task = SimpleNamespace(cancel=lambda cell=cell: ended.append(cell))
        cells._tasks[cell] = cast(Any, task)
    assert cells.keep({TP(STEERING_CUTS.name, 1), TP(PLAY_EVENTS.name, 1)}) == {1}
    assert (set(cells.runners), ended) == ({1}, [0, 2])
    assert cells.keep(set()) == set()
    assert (set(cells.runners), ended) == (set(), [0, 2, 1])
