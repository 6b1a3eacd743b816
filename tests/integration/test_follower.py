"""A follower, a snapshot and the asking commands on a broker, published to as a worker does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.broker.topics import create_topics
from pipeline.cli.main import app
from pipeline.errors import TopicMismatch
from pipeline.follow.follower import Follower, snapshot
from pipeline.follow.lookup import who
from pipeline.follow.reader import TopicReader
from pipeline.follow.table import Applied, SteeringTable
from pipeline.wire.address import parse_address
from pipeline.wire.encode import encode
from pipeline.wire.headers import HEADER, pack_cut
from pipeline.wire.tablehash import format_hash, records_hash
from schemas.registry import (
    LB_WEIGHTS,
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    STEERING_VERDICTS,
)
from tests.brokers import TestBroker
from tests.clients import WAIT_S, producer
from tests.follow_world import Change, choice, group, prefix, weights

pytestmark = pytest.mark.broker

FIRST = [
    weights("eu", "ams", a1=6000, a2=4000),
    group("eu", 1, [choice("ams", 10000, 10000, 10000)]),
    prefix("eu", "203.0.113.0/24", 1),
]


class Worker:
    """Publishes as a worker would: effects with their cut, each acknowledged, then the Epoch."""

    def __init__(self, out: Any, partition: int) -> None:
        self._out, self.partition = out, partition
        self.cut = 0
        self.live: dict[tuple[str, bytes], bytes] = {}

    async def send(self, changes: Sequence[Change], cut: int, term: int = 1) -> dict[str, int]:
        headers = [(HEADER, pack_cut(self.partition, cut, term))]
        ends: dict[str, int] = {}
        for topic, key, value in changes:
            sent = await self._out.send_and_wait(
                topic, value, key, partition=self.partition, headers=headers
            )
            ends[topic] = sent.offset + 1
        return ends

    async def publish(self, changes: Sequence[Change]) -> None:
        self.cut += 1
        ends = await self.send(changes, self.cut)
        for topic, key, value in changes:
            if value is None:
                self.live.pop((topic, key), None)
            else:
                self.live[topic, key] = value
        await self.close(ends)

    async def close(self, ends: dict[str, int]) -> None:
        table_hash = records_hash((key for _, key in self.live), self.live.values())
        epoch = {
            "partition": self.partition,
            "cut": self.cut,
            "term": 1,
            "at_ms": time.time_ns() // 1_000_000,
            "code_version": 1,
            "table_hash": format_hash(table_hash),
            "prefixes": 1,
            "groups": 1,
            "sites": 1,
            "inputs": [],
            "outputs": [{"topic": topic, "end_offset": end} for topic, end in ends.items()],
            "notes": [],
            "behind_ms": 3,
            "reconciled": False,
        }
        key = str(self.partition).encode()
        await self._out.send_and_wait(
            STEERING_EPOCHS.name, encode("Epoch", epoch), key, partition=self.partition
        )


@pytest.fixture(scope="module")
def planned(own_broker: TestBroker) -> TestBroker:
    """The module's broker with the plane's topics, two partitions each."""
    asyncio.run(create_topics(own_broker.settings, partitions=2))
    return own_broker


@pytest.fixture
async def out(planned: TestBroker) -> AsyncIterator[Any]:
    async with producer(planned) as client:
        yield client


@pytest.fixture
async def workers(planned: TestBroker, out: Any) -> list[Worker]:
    """Two cells that go on where earlier tests left off."""
    table = await snapshot(planned.settings)
    made = [Worker(out, 0), Worker(out, 1)]
    for worker in made:
        cell = table.cell(worker.partition)
        worker.cut = cell.cut
        worker.live = {
            (topic, key): value
            for topic in table.topics
            for key, value in cell.records[topic].items()
        }
    return made


def held(table: SteeringTable, partition: int) -> dict[tuple[str, bytes], bytes]:
    cell = table.cell(partition)
    return {
        (topic, key): value for topic in table.topics for key, value in cell.records[topic].items()
    }


async def test_without_topics_it_says_how_to_make_them(broker: TestBroker) -> None:
    with pytest.raises(TopicMismatch, match="edgesteer topics create"):
        async with TopicReader(broker.settings, ["no.such.topic"]):
            pass


async def test_a_snapshot_holds_what_was_published(
    planned: TestBroker, workers: list[Worker]
) -> None:
    await workers[0].publish(FIRST)
    await workers[1].publish([weights("us", "nyc", b1=10000)])
    table = await snapshot(planned.settings)
    for worker in workers:
        assert held(table, worker.partition) == worker.live
        assert table.cell(worker.partition).cut == worker.cut
    assert table.verify() == []


async def test_a_follower_moves_from_whole_cut_to_whole_cut_and_tells(
    planned: TestBroker, workers: list[Worker]
) -> None:
    steps: list[Applied] = []

    async def tell(step: Applied) -> None:
        steps.append(step)

    first = workers[0]
    await first.publish(FIRST)
    async with Follower(planned.settings, tell) as follower:
        assert held(follower.table, 0) == first.live
        began = first.cut
        ends = await first.send([weights("eu", "ams", a1=10000, a2=0)], cut=began + 1)
        await asyncio.sleep(0.2)
        assert follower.table.cell(0).cut == began
        assert held(follower.table, 0) == first.live
        first.cut += 1
        topic, key, value = weights("eu", "ams", a1=10000, a2=0)
        assert value is not None
        first.live[topic, key] = value
        await first.close(ends)
        await follower.wait_for(lambda table: table.cell(0).cut == began + 1, WAIT_S)
        assert held(follower.table, 0) == first.live
        assert follower.table.verify() == []
        assert [(step.previous, step.cut) for step in steps] == [(began, began + 1)]
        assert list(steps[0].changed[LB_WEIGHTS.name]) == [b"ams"]


async def test_l5_a_zombies_records_change_no_live_follower(
    planned: TestBroker, workers: list[Worker]
) -> None:
    first = workers[0]
    await first.publish(FIRST)
    async with Follower(planned.settings) as follower:
        await first.send([weights("eu", "ams", zombie=10000)], cut=max(first.cut - 1, 0), term=0)
        await first.publish([])
        await follower.wait_for(lambda table: table.cell(0).cut == first.cut, WAIT_S)
        assert held(follower.table, 0) == first.live
    await first.publish(FIRST)  # the owner writes over the stale record


async def test_a_wait_that_is_in_vain_ends(planned: TestBroker, workers: list[Worker]) -> None:
    async with Follower(planned.settings) as follower:
        with pytest.raises(TimeoutError):
            await follower.wait_for(lambda _: False, 0.2)


def ask(planned: TestBroker, *args: str) -> Result:
    return CliRunner().invoke(app, [*args, "--broker", planned.settings.bootstrap])


async def asked(planned: TestBroker, *args: str) -> list[Any]:
    result = await asyncio.to_thread(ask, planned, *args, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


async def test_the_commands_answer_from_the_broker(
    planned: TestBroker, workers: list[Worker]
) -> None:
    first = workers[0]
    await first.publish(FIRST)
    (answer,) = await asked(planned, "who", "203.0.113.7")
    assert (answer["prefix"], answer["sites"][0]["site"]) == ("203.0.113.0/24", "ams")
    table = await snapshot(planned.settings)
    plain = who(table, parse_address("203.0.113.7"))
    assert plain is not None
    assert answer["cut"] == plain.cut == first.cut
    epochs = {each["partition"]: each for each in await asked(planned, "epochs")}
    assert epochs[0]["cut"] == first.cut
    assert epochs[0]["hash"] == format_hash(table.cell(0).table_hash)
    assert epochs[0]["behind_ms"] == 3
    (site,) = await asked(planned, "weights", "ams")
    assert site["weights"] == {"a1": 6000, "a2": 4000}


async def test_verdicts_and_dead_letters_are_the_newest_and_can_be_filtered(
    planned: TestBroker, out: Any
) -> None:
    # Times of this hour: what is older than its topic keeps is taken away while we look.
    start_ms = time.time_ns() // 1_000_000 - 1000
    for number in range(40):
        at = {"partition": number % 2, "timestamp_ms": start_ms + number}
        verdict = {
            "at_ms": at["timestamp_ms"],
            "cut": number,
            "kind": "appliance",
            "entity": f"a{number % 4}",
            "from_state": "UP",
            "to_state": "DOWN",
            "reason": "reported_failed",
            "detail": "",
        }
        await out.send_and_wait(STEERING_VERDICTS.name, encode("Verdict", verdict), b"a", **at)
        letter = {
            "at_ms": at["timestamp_ms"],
            "topic": "play.events",
            "partition": 0,
            "offset": number,
            "last_offset": number,
            "count": 1,
            "reason": "undecodable" if number % 2 else "too_old",
            "detail": "",
            "record": bytes(16),
        }
        await out.send_and_wait(
            STEERING_DEAD_LETTERS.name, encode("DeadLetter", letter), b"t", **at
        )
    found = await asked(planned, "verdicts", "--last", "5")
    assert [each["cut"] for each in found] == [35, 36, 37, 38, 39]
    found = await asked(planned, "verdicts", "--last", "3", "--entity", "a1")
    assert [each["cut"] for each in found] == [29, 33, 37]
    found = await asked(planned, "dead-letters", "--last", "2", "--reason", "too_old")
    assert [(each["offset"], each["record"]) for each in found] == [
        (36, "00" * 16),
        (38, "00" * 16),
    ]


async def test_tail_decodes_every_kind_of_record_and_shows_what_does_not_decode(
    planned: TestBroker, out: Any, workers: list[Worker]
) -> None:
    await workers[0].publish([*FIRST, prefix("eu", "2001:db8::/32", 1)])
    topic, key, _ = prefix("eu", "2001:db8::/32", 1)
    await asyncio.sleep(0.01)
    since = time.time_ns() // 1_000_000
    await asyncio.sleep(0.01)
    headers = [(HEADER, pack_cut(0, workers[0].cut, 1))]
    await out.send_and_wait(topic, None, key, partition=0, headers=headers)
    await out.send_and_wait(topic, b"\xc3\x01rubbish", key, partition=0, headers=headers)
    entry, gone, rubbish = await asked(planned, "tail", topic, "--last", "3")
    assert entry["record"] == "PrefixEntry"
    assert entry["value"]["prefix"] == "2001:db8::/32"
    assert entry["key"] == "2001:db8::/32 eu"
    assert (gone["record"], gone["value"]) == ("tombstone", None)
    assert rubbish["record"] == "undecodable"
    assert rubbish["value"]["bytes"] == b"\xc3\x01rubbish".hex()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since / 1000)) + f".{since % 1000:03d}Z"
    later = await asked(planned, "tail", topic, "--from", moment)
    assert [each["record"] for each in later] == ["tombstone", "undecodable"]
    assert await asked(planned, "tail", topic, "--last", "0") == []
    assert len(await asked(planned, "tail", topic, "--from", "-1h")) >= 4
