"""The whole plane on a broker, with processes that are killed: nothing lost, everything
repeatable."""

import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from pipeline.broker.topics import create_topics
from pipeline.follow.follower import Follower, snapshot
from pipeline.follow.table import SteeringTable
from pipeline.wire.decode import decode
from schemas.registry import (
    INPUTS,
    LB_WEIGHTS,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    STEERING_VERDICTS,
)
from tests.brokers import TestBroker
from tests.plane import Plane, epochs, read_all, refold

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 4
FLEET = ("--for", "28s", "--regions", "2", "--sites", "8", "--appliances", "48")
FLEET += ("--prefixes", "1500", "--rate", "300", "--dirt", "0.01")
PATIENCE_S = 60.0


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
        async with Follower(own_broker.settings) as follower:
            await follower.wait_for(lambda table: len(weights(table)) == 8, PATIENCE_S)
            await losing_one_appliance_moves_only_its_share(own_broker, follower)
            for number in (0, 1):
                await asyncio.sleep(chance.uniform(0.5, 3))
                await plane.kill(number)
            assert await fleet.wait() == 0
            produced = plane.produced()
            await everything_is_accounted_for(own_broker, produced)
            assert follower.table.verify() == []
    await the_log_folds_again_to_the_same_tables(own_broker)


async def losing_one_appliance_moves_only_its_share(broker: TestBroker, follower: Follower) -> None:
    """L6 seen from outside, and the verdict that says why."""
    before = weights(follower.table)
    site, members = max(before.items(), key=lambda item: len(item[1]))
    lost = max(members, key=lambda name: members[name])
    server = broker.settings.bootstrap
    await edgesteer("sim", "fail", lost, "--broker", server)
    await follower.wait_for(lambda table: weights(table)[site][lost] == 0, PATIENCE_S)
    after = weights(follower.table)[site]
    assert sum(after.values()) == 10_000
    assert all(after[name] >= members[name] for name in members if name != lost)
    said = await edgesteer("verdicts", "--entity", lost, "--json", "--broker", server)
    assert json.loads(said.splitlines()[-1])["reason"] == "reported_failed"


async def everything_is_accounted_for(broker: TestBroker, produced: dict[str, int]) -> None:
    """L3: records produced = rows folded + dead letters, per topic."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            left = await read_all(broker, [STEERING_EPOCHS.name], PARTITIONS)
            rows: Counter[str] = Counter()
            refused: Counter[str] = Counter()
            for partition in range(PARTITIONS):
                for epoch in epochs(left, partition).values():
                    for one in epoch["inputs"]:
                        assert one["rows"] == one["folded"] + one["refused"]
                        rows[one["topic"]] += one["rows"]
                        refused[one["topic"]] += one["refused"]
            if sum(rows.values()) >= sum(produced.values()):
                break
            await asyncio.sleep(0.5)
    assert {topic: count for topic, count in rows.items() if count} == produced
    left = await read_all(broker, [STEERING_DEAD_LETTERS.name], PARTITIONS)
    letters = {
        (letter["topic"], letter["partition"], letter["offset"]): letter["count"]
        for partition in range(PARTITIONS)
        for letter in left.decoded(STEERING_DEAD_LETTERS.name, partition)
    }
    told: Counter[str] = Counter()
    for (topic, _, _), count in letters.items():
        told[topic] += count
    assert told == +refused
    assert told.total() > 0  # the fleet was told to send rubbish as well


async def the_log_folds_again_to_the_same_tables(broker: TestBroker) -> None:
    """Every Epoch's hash is that of a fold in which nothing happened; no cut is without an Epoch;
    a follower that starts only now holds the last one."""
    topics = [topic.name for topic in INPUTS]
    topics += [STEERING_CUTS.name, STEERING_CONFIG.name, STEERING_EPOCHS.name]
    left = await read_all(broker, [*topics, STEERING_VERDICTS.name], PARTITIONS)
    late = await snapshot(broker.settings)
    assert late.verify() == []
    takeovers = 0
    for partition in range(PARTITIONS):
        published = {cut: one["table_hash"] for cut, one in epochs(left, partition).items()}
        folded = refold(left, partition, PARTITIONS)
        last = max(published)
        assert sorted(published) == list(range(1, last + 1))
        assert published == {cut: folded[cut] for cut in published}
        assert f"{late.cell(partition).table_hash:016x}" == published[last]
        takeovers += max(cut["term"] for cut in left.decoded(STEERING_CUTS.name, partition))
    assert takeovers > PARTITIONS  # somebody did take over
