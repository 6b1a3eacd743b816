"""A recorded world published again on a broker, under a prefix: a follower holds what was published
then, commands answer from it, and no live topic is touched."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.broker.admin import admin_client
from pipeline.broker.settings import BrokerSettings
from pipeline.broker.topics import check_topics, create_topics
from pipeline.cli.main import app
from pipeline.errors import IsolationError, TopicMismatch
from pipeline.follow.follower import Follower, snapshot
from pipeline.follow.reader import TopicReader
from pipeline.replay.into import WRITTEN
from pipeline.wire.tablehash import format_hash
from schemas.registry import CAPACITY_PRICES, TOPICS
from tests.brokers import TestBroker
from tests.cell_world import make_log
from tests.clients import WAIT_S
from tests.plane import read_all
from tests.recorded import epochs_of, write, write_shared
from tests.shared_world import PARTITIONS, SharedWorld

pytestmark = pytest.mark.broker

CUTS = 24


@pytest.fixture(scope="module")
def planned(own_broker: TestBroker) -> TestBroker:
    """The module's broker with the plane's topics, which nobody writes to."""
    asyncio.run(create_topics(own_broker.settings, partitions=2))
    return own_broker


@pytest.fixture(scope="module")
def epochs() -> list[dict[str, Any]]:
    return epochs_of(make_log(3, CUTS))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, epochs: list[dict[str, Any]]) -> Path:
    return write(tmp_path_factory.mktemp("recorded") / "log", make_log(3, CUTS), epochs)


def run(planned: TestBroker, *args: str | Path) -> Result:
    given = [*map(str, args), "--broker", planned.settings.bootstrap, "--json"]
    return CliRunner().invoke(app, given)


async def edgesteer(planned: TestBroker, *args: str | Path) -> list[Any]:
    """The objects on stdout of a command that ends well."""
    result = await asyncio.to_thread(run, planned, *args)
    assert result.exit_code == 0, (result.output, result.exception)
    return [json.loads(line) for line in result.stdout.splitlines()]


def under(planned: TestBroker, prefix: str) -> BrokerSettings:
    return planned.settings.model_copy(update={"topics": prefix})


async def live_ends(planned: TestBroker) -> dict[Any, int]:
    async with TopicReader(planned.settings, [topic.name for topic in TOPICS]) as reader:
        return await reader.ends()


async def names_under(planned: TestBroker, prefix: str) -> set[str]:
    async with admin_client(planned.settings) as client:
        return {name for name in await client.list_topics() if name.startswith(prefix)}


async def test_a_follower_of_the_replay_holds_what_was_published_then(
    planned: TestBroker, file: Path, epochs: list[dict[str, Any]]
) -> None:
    before = await live_ends(planned)
    given = ("replay", file, "--into", "again.", "--speed", "max")
    (summary,) = await edgesteer(planned, *given)
    assert (summary["equal"], summary["cuts"]) == (CUTS, CUTS)
    names = {"again." + topic.name for topic in WRITTEN}
    assert set(summary["written"]) == names
    assert await names_under(planned, "again.") == names
    partitions = 1  # the recording's, not the live topics'
    assert await check_topics(planned.settings, partitions, "again.", WRITTEN) == []
    table = await snapshot(under(planned, "again."))
    assert table.verify() == []
    assert table.cell(0).cut == CUTS
    assert format_hash(table.cell(0).table_hash) == epochs[-1]["table_hash"]
    assert await live_ends(planned) == before
    assert set(before.values()) == {0}


async def test_what_cells_tell_each_other_stands_where_those_that_are_told_would_read_it(
    planned: TestBroker, tmp_path: Path
) -> None:
    before = await live_ends(planned)
    world = SharedWorld()
    world.run(30, {"eu": 6, "us": 10, "ap": 20})
    then = [told for one in world.cells.values() for made in one.effects for told in made.prices]
    assert {partition for partition, _ in then} == {one.partition for one in world.cells.values()}
    file = write_shared(tmp_path / "shared", world)
    (summary,) = await edgesteer(planned, "replay", file, "--into", "shared.", "--speed", "max")
    assert summary["equal"] == summary["cuts"] == 30 * len(world.cells)
    topic = "shared." + CAPACITY_PRICES.name
    assert summary["written"][topic] == len(then)
    left = await read_all(planned, [topic], PARTITIONS)
    for partition in range(PARTITIONS):
        found = sorted((one.key, one.value) for one in left.records[topic][partition])
        assert found == sorted((one.key, one.value) for where, one in then if where == partition)
    assert await live_ends(planned) == before


async def test_commands_answer_from_the_topics_under_the_prefix(
    planned: TestBroker, file: Path, epochs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await edgesteer(planned, "replay", file, "--into", "asked.", "--speed", "max")
    there = ("--topics", "asked.")
    (epoch,) = await edgesteer(planned, "epochs", *there)
    assert (epoch["cut"], epoch["hash"]) == (CUTS, epochs[-1]["table_hash"])
    (answer,) = await edgesteer(planned, "who", "20.0.0.9", *there)
    assert answer["cut"] == CUTS
    assert len(await edgesteer(planned, "table", *there)) == epochs[-1]["prefixes"]
    assert len(await edgesteer(planned, "groups", *there)) == epochs[-1]["groups"]
    assert len(await edgesteer(planned, "weights", *there)) == epochs[-1]["sites"]
    assert len(await edgesteer(planned, "verdicts", "--last", "3", *there)) == 3
    assert len(await edgesteer(planned, "dead-letters", "--last", "3", *there)) == 3
    (cut,) = await edgesteer(planned, "tail", "steering.cuts", "--last", "1", *there)
    assert (cut["topic"], cut["value"]["number"]) == ("steering.cuts", CUTS)
    assert len(await edgesteer(planned, "tail", "steering.cuts", "--from", "-1h", *there)) == CUTS
    monkeypatch.setenv("EDGESTEER_TOPICS", "asked.")
    assert await edgesteer(planned, "epochs") == [epoch]
    monkeypatch.setenv("EDGESTEER_TOPICS", "nowhere.")
    result = await asyncio.to_thread(run, planned, "epochs")
    assert isinstance(result.exception, TopicMismatch)
    assert "replay FILE --into nowhere." in str(result.exception)


async def test_topics_that_hold_records_are_not_written_to_and_can_be_deleted(
    planned: TestBroker, file: Path
) -> None:
    given = ("replay", file, "--into", "twice.", "--speed", "max")
    await edgesteer(planned, *given)
    refused = await asyncio.to_thread(run, planned, *given)
    assert isinstance(refused.exception, TopicMismatch)
    assert "topics delete --prefix twice." in str(refused.exception)
    live = await names_under(planned, "")
    deleted = await edgesteer(planned, "topics", "delete", "--prefix", "twice.")
    gone = {one["topic"] for one in deleted}
    assert gone == {"twice." + topic.name for topic in WRITTEN}
    assert await names_under(planned, "") == live - gone
    assert await edgesteer(planned, "topics", "delete", "--prefix", "twice.") == []
    await edgesteer(planned, *given)


@pytest.mark.parametrize("prefix", ["", "steering.", "lb", "."])
async def test_nothing_is_deleted_without_a_prefix_of_its_own(
    planned: TestBroker, prefix: str
) -> None:
    before = await names_under(planned, "")
    refused = await asyncio.to_thread(run, planned, "topics", "delete", "--prefix", prefix)
    assert isinstance(refused.exception, IsolationError)
    unnamed = await asyncio.to_thread(run, planned, "topics", "delete")
    assert unnamed.exit_code == 2
    assert await names_under(planned, "") == before


async def test_an_interrupted_replay_leaves_whole_cuts(
    planned: TestBroker, file: Path, epochs: list[dict[str, Any]]
) -> None:
    """At twice the speed it takes twelve seconds; a follower that saw three cuts ends it."""
    await create_topics(planned.settings, 1, prefix="ended.", topics=WRITTEN)
    command = [sys.executable, "-m", "pipeline.cli.main", "replay", str(file), "--into", "ended."]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--speed",
        "2",
        "--broker",
        planned.settings.bootstrap,
        stderr=asyncio.subprocess.PIPE,
    )
    async with Follower(under(planned, "ended.")) as follower:
        await follower.wait_for(lambda table: table.cell(0).cut >= 3, WAIT_S)
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
        assert process.returncode == 130, said
    table = await snapshot(under(planned, "ended."))
    assert table.verify() == []
    reached = table.cell(0).cut
    assert 3 <= reached < CUTS
    assert format_hash(table.cell(0).table_hash) == epochs[reached - 1]["table_hash"]
