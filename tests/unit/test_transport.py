"""Who may begin cells when Faust asks where to read on: no broker."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from schemas.registry import PLAY_EVENTS, STEERING_CUTS
from topologies.transport import CellConsumer

CUTS, PLAYS = TP(STEERING_CUTS.name, 3), TP(PLAY_EVENTS.name, 3)
CHANGELOG = TP("edgesteer-cells-changelog", 3)


class Cells:
    """Restoring the cell takes until it is told so."""

    def __init__(self) -> None:
        self.begun, self.asked = 0, 0
        self.may_end = asyncio.Event()

    async def seek_offsets(self, assigned: set[TP]) -> dict[TP, int]:
        self.begun += 1
        await self.may_end.wait()
        return dict.fromkeys(assigned, 7)

    def positions(self, assigned: set[TP]) -> dict[TP, int]:
        self.asked += 1
        return dict.fromkeys(assigned, 7) if self.may_end.is_set() else {}


class Consumer:
    """What `perform_seek` uses of Faust's."""

    def __init__(self, cells: Cells) -> None:
        self.flow_active = True
        self.transport = cells
        self.app = SimpleNamespace(flow_control=SimpleNamespace(suspend=lambda: None))
        self.sought: list[dict[TP, int]] = []

    def stop_flow(self) -> None:
        self.flow_active = False

    def assignment(self) -> set[TP]:
        return {CUTS, PLAYS, CHANGELOG}

    def _is_changelog_tp(self, tp: TP) -> bool:
        return tp == CHANGELOG

    async def seek_wait(self, offsets: dict[TP, int]) -> None:
        self.sought.append(offsets)

    async def perform_seek(self) -> None:
        await CellConsumer.perform_seek(cast(Any, self))


@pytest.fixture
def cells() -> Cells:
    return Cells()


async def test_cells_are_begun_once_though_the_fetcher_asks_as_well(cells: Cells) -> None:
    consumer = Consumer(cells)
    recovery = asyncio.create_task(consumer.perform_seek())
    await asyncio.sleep(0)
    await consumer.perform_seek()  # the fetcher, which found the flow stopped
    assert (cells.begun, cells.asked, consumer.sought) == (1, 1, [{}])
    cells.may_end.set()
    await recovery
    assert consumer.sought == [{}, {CUTS: 7, PLAYS: 7}]
    assert not consumer.flow_active  # recovery makes it run again


async def test_what_the_fetcher_threw_away_is_read_again(cells: Cells) -> None:
    consumer = Consumer(cells)
    cells.may_end.set()
    await consumer.perform_seek()
    await consumer.perform_seek()  # before recovery has made the flow run
    assert consumer.sought == [{CUTS: 7, PLAYS: 7}] * 2
    assert cells.begun == 1
