"""A topic that is not fetched any more is noticed; one that is, or that waits for room, is not."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from aiokafka.errors import KafkaTimeoutError

from pipeline.errors import LogError
from schemas.registry import INPUTS, PLAY_EVENTS, STEERING_CUTS
from topologies.lag import Lag

AFTER_S = 60.0
PATIENCE_S = 20.0


def runner_at(position: int = 5, is_full: bool = False, partition: int = 3) -> Any:
    lane = SimpleNamespace(next_offset=position, is_full=is_full)
    inbox = SimpleNamespace(lanes={topic.name: lane for topic in INPUTS})
    return SimpleNamespace(partition=partition, log_next=position, inbox=inbox)


def lag() -> Lag:
    return Lag(cast(Any, None), cast(Any, None), AFTER_S, lambda failure: None)


def test_a_position_that_stands_before_the_end_is_named_after_the_time() -> None:
    watch, ends = lag(), {STEERING_CUTS.name: 9, PLAY_EVENTS.name: 5}
    assert [list(watch.look(runner_at(), ends, now)) for now in (100, 150, 160)] == [[], [], []]
    assert list(watch.look(runner_at(), ends, 161)) == [
        "steering.cuts, partition 3: at offset 5 for 61 s, though the topic ends at 9"
    ]


def test_one_that_moves_or_has_nothing_to_read_is_well() -> None:
    watch, ends = lag(), {PLAY_EVENTS.name: 1000}
    for second in range(0, 1000, 50):
        assert list(watch.look(runner_at(position=second), ends, second)) == []
    assert list(watch.look(runner_at(position=1000), ends, 5000)) == []
    assert list(watch.look(runner_at(position=1000), {PLAY_EVENTS.name: 1001}, 5001)) == []


def test_a_full_lane_holds_fetching_back_itself() -> None:
    watch, ends = lag(), {PLAY_EVENTS.name: 1000}
    full = runner_at(is_full=True)
    assert [list(watch.look(full, ends, now)) for now in (0, 100, 200)] == [[], [], []]
    assert list(watch.look(runner_at(), ends, 201)) == []  # from now on it should move


async def test_the_broker_is_asked_of_every_cell_until_it_says_what_is_missing() -> None:
    async def ends(topics: Any, partition: int) -> dict[str, int]:
        asked.append(partition)
        if len(asked) == 1:
            raise KafkaTimeoutError  # it is asked again
        return {PLAY_EVENTS.name: 9}

    asked: list[int] = []
    told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    cells = cast(Any, SimpleNamespace(runners={3: runner_at(), 4: runner_at(9, partition=4)}))
    readback = cast(Any, SimpleNamespace(ends=ends))
    watching = asyncio.create_task(Lag(cells, readback, 0.05, told.set_result).watch())
    async with asyncio.timeout(PATIENCE_S):
        assert isinstance(await told, LogError)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert set(asked) == {3, 4}
