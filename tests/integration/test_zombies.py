"""What a zombie sends after others have taken over its cells is overwritten at sight: nobody has to
take over again for it (docs/adr/0009)."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from pipeline.broker.topics import create_topics
from pipeline.follow.follower import Follower
from pipeline.wire.headers import HEADER, pack_cut, unpack_cut
from schemas.registry import STEERING_CUTS, TABLES
from tests.brokers import TestBroker
from tests.clients import producer
from tests.plane import Left, Plane, read_all

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 1
FLEET = ("--regions", "1", "--sites", "6", "--appliances", "24", "--prefixes", "600")
FLEET += ("--rate", "50")
TABLE_NAMES = [topic.name for topic in TABLES]
PATIENCE_S = 120.0

Key = tuple[str, int, bytes]


async def test_a_zombies_records_are_overwritten_without_a_take_over(
    own_broker: TestBroker, tmp_path: Path
) -> None:
    await create_topics(own_broker.settings, PARTITIONS)
    async with (
        Plane(own_broker, tmp_path, workers=1) as plane,
        Follower(own_broker.settings) as follower,
    ):
        fleet = plane.fleet(*FLEET)
        await fleet.start()
        await follower.wait_for(lambda table: full(table.cell(0).records), PATIENCE_S)
        await plane.kill(0)
        cut = follower.table.cell(0).cut
        await follower.wait_for(lambda table: table.cell(0).cut > cut + 2, PATIENCE_S)
        before = await terms(own_broker)
        assert min(before.values()) > 1
        sent = await haunt(own_broker)
        await overwritten(own_broker, sent, before)
        assert await terms(own_broker) == before
        assert follower.table.verify() == []
        assert follower.table.cell(0).dropped["old_cut"] >= len(sent)
        await fleet.stop()


def full(records: dict[str, dict[bytes, bytes]]) -> bool:
    return all(records[topic] for topic in TABLE_NAMES)


async def haunt(broker: TestBroker) -> dict[Key, bytes | None]:
    """Write under the first term, as one who was frozen since, on each table topic: another value
    for a key, the end of one, and a key that its owner has deleted. What was written."""
    left = await read_all(broker, TABLE_NAMES, PARTITIONS)
    sent: dict[Key, bytes | None] = {}
    for topic in TABLE_NAMES:
        live = {one.key: one.value for one in last_of(left, topic).values() if one.value}
        gone = next((one.key for one in last_of(left, topic).values() if not one.value), b"")
        changed, ended, *_ = sorted(live)
        sent[topic, 0, changed] = live[ended]
        sent[topic, 0, ended] = None
        sent[topic, 0, gone or changed[:-3] + b"\xff" + changed[-2:]] = live[ended]
    async with producer(broker) as out:
        for (topic, partition, key), value in sent.items():
            header = [(HEADER, pack_cut(partition, 2, 1))]
            await out.send_and_wait(topic, value, key, partition=partition, headers=header)
    return sent


async def overwritten(
    broker: TestBroker, sent: dict[Key, bytes | None], terms: dict[int, int]
) -> None:
    """Until the last record of each key is one of the present term."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            left = await read_all(broker, TABLE_NAMES, PARTITIONS)
            stand = [last_of(left, topic)[key] for topic, _, key in sent]
            if all(term_of(record) == terms[0] for record in stand):
                return
            await asyncio.sleep(0.5)


def last_of(left: Left, topic: str) -> dict[bytes, Any]:
    """Key -> last record of cell 0."""
    return {record.key: record for record in left.records[topic][0]}


def term_of(record: Any) -> int:
    return unpack_cut(dict(record.headers)[HEADER])[2]


async def terms(broker: TestBroker) -> dict[int, int]:
    left = await read_all(broker, [STEERING_CUTS.name], PARTITIONS)
    found: dict[int, int] = defaultdict(int)
    for cell in range(PARTITIONS):
        cuts = left.decoded(STEERING_CUTS.name, cell)
        found[cell] = max(cut["term"] for cut in cuts)
    return found
