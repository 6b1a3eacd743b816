"""When a demo is over, and what it says where its time never began."""

import asyncio
import itertools
from pathlib import Path
from typing import Any, cast

import pytest

import pipeline.demo.run
from pipeline.demo.account import Balance
from pipeline.demo.run import _settle, _until_over


class Fleet:
    """A fleet that goes on, or has ended with a status."""

    log = Path("demo/fleet.log")

    def __init__(self, status: int | None = None) -> None:
        self._status = status

    async def wait(self) -> int:
        if self._status is None:
            await asyncio.Event().wait()
        return cast(int, self._status)


class View:
    """Nobody looks; but after so many looks, records have been folded."""

    def __init__(self, balance: Balance, folded_after: int | None = None) -> None:
        self._balance, self._folded_after, self.looks = balance, folded_after, 0

    def refresh(self) -> None:
        self.looks += 1
        if self.looks == self._folded_after:
            self._balance.folded = 1


async def over(
    seconds: float | None, fleet: Fleet, *, folded_after: int | None = None, stopped: bool = False
) -> list[str]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    if stopped:
        stop.set_result(None)
    watch: asyncio.Future[None] = loop.create_future()
    balance = Balance()
    view = View(balance, folded_after)
    return await _until_over(seconds, stop, cast(Any, watch), cast(Any, fleet), cast(Any, view),
                             balance)  # fmt: skip


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.demo.run, "START_S", 0.3)


async def test_where_nothing_is_ever_folded_the_demo_says_so(impatient: None) -> None:
    (problem,) = await over(0.1, Fleet())
    assert "nothing was folded" in problem
    assert "(demo)" in problem  # where the logs are


async def test_its_time_counts_from_the_first_record_folded() -> None:
    assert await over(0.1, Fleet(), folded_after=1) == []


async def test_a_signal_ends_it_and_is_no_problem(impatient: None) -> None:
    assert await over(None, Fleet(), stopped=True) == []


async def test_a_fleet_that_ends_by_itself_is_one() -> None:
    (problem,) = await over(None, Fleet(status=1))
    assert "ended with status 1" in problem


@pytest.mark.parametrize(("comes", "left"), [((4, 6, 10), 0), ((4, 4, 4), 6)])
async def test_it_waits_while_records_are_accounted_for(
    monkeypatch: pytest.MonkeyPatch, comes: tuple[int, ...], left: int
) -> None:
    balance, folded = Balance(), itertools.chain(comes, itertools.repeat(comes[-1]))

    async def produced(settings: Any, partitions: int) -> int:
        balance.folded = next(folded)
        return 10

    monkeypatch.setattr(pipeline.demo.run, "_produced", produced)
    monkeypatch.setattr(pipeline.demo.run, "SETTLE_S", 0.5)
    watch: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert await _settle(cast(Any, None), 1, balance, cast(Any, watch)) == 10
    assert 10 - balance.folded == left
