"""The whole plane on a broker, with processes that are killed: nothing lost, everything
repeatable."""

import asyncio
import json
import random
import sys
from pathlib import Path

import pytest

from pipeline.broker.topics import create_topics
from pipeline.follow.follower import Follower, snapshot
from pipeline.follow.table import Applied, SteeringTable
from pipeline.wire.decode import decode
from schemas.registry import INPUTS, LB_WEIGHTS
from tests.brokers import TestBroker
from tests.laws import TOPICS, counting, nothing_is_unaccounted, settled, the_log_folds_again
from tests.plane import Left, Plane, cuts_later, read_all

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 4
FLEET = ("--regions", "2", "--sites", "8", "--appliances", "48")
FLEET += ("--prefixes", "1500", "--rate", "300", "--dirt", "0.01")
PATIENCE_S = 120.0


def weights(table: SteeringTable) -> dict[str, dict[str, int]]:
    """Site -> appliance -> weight, over all cells."""
    found = {}
    for _, _, value in table.items(LB_WEIGHTS.name):
        record = decode(value)[1]
        found[record["site"]] = {one["appliance"]: one["weight"] for one in record["appliances"]}
    return found


async def edgesteer(*args: str) -> str:
    """Run a command as a person would; its stdout."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.cli.main", *args, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_killed_workers_lose_nothing_and_the_log_repeats(
    own_broker: TestBroker, tmp_path: Path
) -> None:
    """L2 (without snapshots: the log is folded from its beginning), L3, L5, and followers'
    hashes."""
    await create_topics(own_broker.settings, PARTITIONS)
    chance = random.Random(20)
    async with Plane(own_broker, tmp_path, workers=2) as plane:
        fleet = plane.fleet(*FLEET)
        await fleet.start()
        history = History()
        async with Follower(own_broker.settings, history.take) as follower:
            await follower.wait_for(lambda table: len(weights(table)) == 8, PATIENCE_S)
            await losing_one_appliance_moves_only_its_share(own_broker, follower, history)
            for number in (0, 1):
                await asyncio.sleep(chance.uniform(0.5, 3))
                await plane.kill(number)
            await cuts_later(follower, range(PARTITIONS), 2, PATIENCE_S)
            assert await fleet.stop() == 0
            await settled(own_broker, PARTITIONS)
            assert follower.table.verify() == []
    left = await read_all(own_broker, TOPICS, PARTITIONS)
    everything_is_accounted_for(left, plane.produced())
    the_log_folds_again(left, await snapshot(own_broker.settings), PARTITIONS)
    terms = [max(cut.term for cut in counting(left, cell)) for cell in range(PARTITIONS)]
    assert sum(terms) > PARTITIONS  # somebody did take over


class History(dict[str, list[dict[str, int]]]):
    """Site -> its weights, each time that they were published."""

    async def take(self, step: Applied) -> None:
        for site, value in step.changed.get(LB_WEIGHTS.name, {}).items():
            if value is not None:
                told = {one["appliance"]: one["weight"] for one in decode(value)[1]["appliances"]}
                self.setdefault(site.decode(), []).append(told)


async def losing_one_appliance_moves_only_its_share(
    broker: TestBroker, follower: Follower, history: History
) -> None:
    """L6 seen from outside, and the verdict that says why."""
    site, members = max(weights(follower.table).items(), key=lambda item: len(item[1]))
    lost = max(members, key=lambda name: members[name])
    server = broker.settings.bootstrap
    await edgesteer("sim", "fail", lost, "--broker", server)
    await follower.wait_for(lambda table: weights(table)[site][lost] == 0, PATIENCE_S)
    gone = next(at for at, told in enumerate(history[site]) if told[lost] == 0)
    # Weights lean in other cuts.
    before, after = history[site][gone - 1] if gone else members, history[site][gone]
    assert sum(after.values()) == 10_000
    assert all(after[name] >= before[name] for name in members if name != lost)
    said = await edgesteer("verdicts", "--entity", lost, "--json", "--broker", server)
    assert json.loads(said.splitlines()[-1])["reason"] == "reported_failed"


def everything_is_accounted_for(left: Left, produced: dict[str, int]) -> None:
    """L3, and that what stands in the topics is what the fleet says it produced."""
    stand = {
        topic.name: sum(len(records) for records in left.records[topic.name].values())
        for topic in INPUTS
    }
    assert {topic: count for topic, count in stand.items() if count} == produced
    assert nothing_is_unaccounted(left, PARTITIONS).total() > 0  # rubbish was sent as well
