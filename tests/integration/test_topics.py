"""Topics on a real broker: created as the registry says, never changed, and every mistake named."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic

from pipeline.broker.admin import admin_client, await_leaders
from pipeline.broker.topics import (
    Mistake,
    check_topics,
    configuration,
    create_topics,
    partition_count,
    require_topics,
)
from pipeline.errors import BrokerError, TopicMismatch
from schemas.registry import BGP_ROUTES, LB_WEIGHTS, STEERING_EPOCHS, TOPICS
from tests.brokers import TestBroker

pytestmark = pytest.mark.broker


async def lay(broker: TestBroker, name: str, partitions: int, config: dict[str, str]) -> None:
    async with admin_client(broker.settings) as client:
        await client.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        await await_leaders(client, {name})


async def test_created_topics_pass_the_check_and_are_created_once(broker: TestBroker) -> None:
    created = await create_topics(broker.settings, partitions=4, prefix="once.")
    assert created == ["once." + topic.name for topic in TOPICS]
    assert await create_topics(broker.settings, prefix="once.") == []
    assert await check_topics(broker.settings, prefix="once.") == []
    assert await require_topics(broker.settings, prefix="once.") == 4


async def test_a_missing_topic_is_created_with_the_partitions_of_the_others(
    broker: TestBroker,
) -> None:
    await create_topics(broker.settings, partitions=3, prefix="some.")
    async with admin_client(broker.settings) as client:
        await client.delete_topics(["some.bgp.routes"])
        async with asyncio.timeout(30):  # a deletion is acknowledged before it shows
            while "some.bgp.routes" in await client.list_topics():
                await asyncio.sleep(0.05)
    (missing,) = await check_topics(broker.settings, prefix="some.")
    assert (missing.topic, missing.mistake) == ("some.bgp.routes", Mistake.MISSING)
    assert await create_topics(broker.settings, prefix="some.") == ["some.bgp.routes"]
    assert await require_topics(broker.settings, prefix="some.") == 3


@pytest.mark.parametrize(
    ("key", "value", "mistake"),
    [
        ("cleanup.policy", "delete", Mistake.CLEANUP),
        ("min.compaction.lag.ms", "60000", Mistake.COMPACTION_LAG),
        ("max.message.bytes", "1048588", Mistake.MESSAGE_BYTES),
    ],
)
async def test_a_setting_that_would_break_a_law_is_named(
    broker: TestBroker, key: str, value: str, mistake: Mistake
) -> None:
    prefix = f"{mistake}."
    name = prefix + BGP_ROUTES.name
    await lay(broker, name, 4, {**configuration(BGP_ROUTES, 1), key: value})
    await create_topics(broker.settings, prefix=prefix)
    (mismatch,) = await check_topics(broker.settings, prefix=prefix)
    assert (mismatch.topic, mismatch.mistake, mismatch.has) == (name, mistake, value)
    assert key in mismatch.remedy
    with pytest.raises(TopicMismatch, match=name):
        await require_topics(broker.settings, prefix=prefix)


async def test_a_table_compacted_too_soon_for_its_followers_is_named_and_stops_no_worker(
    broker: TestBroker,
) -> None:
    name = "soon." + LB_WEIGHTS.name
    await lay(broker, name, 4, {**configuration(LB_WEIGHTS, 1), "min.compaction.lag.ms": "5000"})
    await create_topics(broker.settings, prefix="soon.")
    (mismatch,) = await check_topics(broker.settings, prefix="soon.")
    assert (mismatch.topic, mismatch.mistake) == (name, Mistake.FOLLOWER_LAG)
    assert await require_topics(broker.settings, prefix="soon.") == 4


async def test_records_kept_shorter_than_needed_are_named_and_longer_is_well(
    broker: TestBroker,
) -> None:
    short, longer = configuration(STEERING_EPOCHS, 1), configuration(LB_WEIGHTS, 1)
    name = "kept." + STEERING_EPOCHS.name
    await lay(broker, name, 2, {**short, "retention.ms": "1000"})
    await lay(broker, "kept." + LB_WEIGHTS.name, 2, {**longer, "max.message.bytes": "20000000"})
    await create_topics(broker.settings, prefix="kept.")
    mismatches = await check_topics(broker.settings, prefix="kept.")
    assert [(each.topic, each.mistake) for each in mismatches] == [(name, Mistake.RETENTION)]


async def test_another_number_of_partitions_is_named(broker: TestBroker) -> None:
    await lay(broker, "odd." + BGP_ROUTES.name, 5, configuration(BGP_ROUTES, 1))
    await create_topics(broker.settings, partitions=4, prefix="odd.")
    (mismatch,) = await check_topics(broker.settings, prefix="odd.")
    assert (mismatch.mistake, mismatch.has, mismatch.needs) == (Mistake.PARTITIONS, "5", "4")
    co_partitioned = await check_topics(broker.settings, partitions=5, prefix="odd.")
    assert {each.mistake for each in co_partitioned} == {Mistake.PARTITIONS}


async def test_a_broker_without_our_topics_has_no_number_of_partitions(
    broker: TestBroker,
) -> None:
    with pytest.raises(TopicMismatch, match="topics create"):
        await partition_count(broker.settings, prefix="never.")


async def test_more_copies_than_brokers_is_refused_in_the_brokers_words(
    broker: TestBroker,
) -> None:
    with pytest.raises(BrokerError, match="replication"):
        await create_topics(broker.settings, replication=100, prefix="many.")


async def test_nobody_there_is_a_broker_error() -> None:
    from pipeline.broker.process import free_ports
    from pipeline.broker.settings import BrokerSettings

    nobody = BrokerSettings(bootstrap=f"127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(BrokerError, match=f"{nobody.bootstrap}: nobody listens there"):
        await check_topics(nobody)


def edgesteer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("edgesteer")
    return subprocess.run([command, *arguments], capture_output=True, text=True, timeout=300)


def test_the_command_creates_checks_and_ends_with_a_truthful_status(
    own_broker: TestBroker,
) -> None:
    to = ("--broker", own_broker.settings.bootstrap)
    before = edgesteer("topics", "check", "--json", *to)
    assert before.returncode == 1
    missing = [json.loads(line) for line in before.stdout.splitlines()]
    assert {each["mistake"] for each in missing} == {"missing"}
    created = edgesteer("topics", "create", "--partitions", "2", "--json", *to)
    assert created.returncode == 0, created.stderr
    names = [json.loads(line)["topic"] for line in created.stdout.splitlines()]
    assert names == [topic.name for topic in TOPICS]
    again = edgesteer("topics", "create", *to)
    assert (again.returncode, again.stdout) == (0, "")
    after = edgesteer("topics", "check", *to)
    assert (after.returncode, after.stdout) == (0, "all topics are as they must be\n")
    other = edgesteer("topics", "check", "--partitions", "3", *to)
    assert other.returncode == 1
    assert "must be 3" in other.stdout
