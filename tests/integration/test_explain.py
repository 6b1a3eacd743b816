"""What workers answered on a broker, explained from its log and from a recording: the same, and the
records are where they are said to be."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.broker.topics import create_topics
from pipeline.follow.follower import Follower
from pipeline.follow.table import SteeringTable
from schemas.registry import STEERING_PREFIXES
from tests.brokers import TestBroker
from tests.plane import Plane, shares

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 4
FLEET = ("--regions", "2", "--sites", "8", "--appliances", "30")
FLEET += ("--prefixes", "800", "--rate", "200", "--dirt", "0.01")
PATIENCE_S = 120.0
SINCE = "-1h"


async def edgesteer(*args: str) -> tuple[int, Any, str]:
    """Status, what is on stdout, and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipeline.cli.main", *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    found = [json.loads(line) for line in out.splitlines()] if "--json" in args else out.decode()
    return process.returncode or 0, found, err.decode()


def served(answer: Any) -> list[Any]:
    """What `who` and `explain` both say."""
    sites = [
        (one["site"], one["share"], [(each["appliance"], each["weight"]) for each in parts])
        for one in answer["sites"]
        for parts in (one["appliances"],)
    ]
    passed = [(one["site"], one["rank"], one["reason"]) for one in answer["passed_over"]]
    return [answer["prefix"], answer["group"], answer["partition"], sites, passed]


async def test_a_client_whose_site_failed_is_explained(
    own_broker: TestBroker, tmp_path: Path
) -> None:
    await create_topics(own_broker.settings, PARTITIONS)
    broker = ("--broker", own_broker.settings.bootstrap)
    async with Plane(own_broker, tmp_path, workers=2) as plane:
        fleet = plane.fleet(*FLEET)
        await fleet.start()
        async with Follower(own_broker.settings) as follower:

            def filled(table: SteeringTable) -> bool:
                cells = [table.cell(cell) for cell in range(PARTITIONS)]
                held = sum(bool(cell.records[STEERING_PREFIXES.name]) for cell in cells)
                return held >= 1 and max(cell.cut for cell in cells) >= 5

            await follower.wait_for(filled, PATIENCE_S)
            address = "203.0.113.7"
            _, (before,), said = await edgesteer("who", address, "--json", *broker)
            site = before["sites"][0]["site"]
            status, _, said = await edgesteer("sim", "fail", site, *broker)
            assert status == 0, said
            await follower.wait_for(lambda table: not shares(table).get(site), PATIENCE_S)
        assert await fleet.stop() == 0
    _, (after,), said = await edgesteer("who", address, "--json", *broker)
    assert site not in [one["site"] for one in after["sites"]], said
    found = await explained(address, broker, after)
    await the_failure_is_named(found, site, broker)
    await a_recording_says_the_same(address, found, tmp_path / "log.rec", broker)


async def explained(address: str, broker: tuple[str, ...], answer: Any) -> Any:
    """The explanation of the cut that `who` answered from."""
    _, epochs, _ = await edgesteer("epochs", "--json", *broker)
    (at,) = [one["at"] for one in epochs if one["partition"] == answer["partition"]]
    asked = ("explain", address, "--at", at, "--since", SINCE, "--json")
    status, (found,), said = await edgesteer(*asked, *broker)
    assert status == 0, said
    assert served(found) == served(answer)
    assert (found["cut"], found["agrees"]) == (answer["cut"], True)
    return found


async def the_failure_is_named(found: Any, site: str, broker: tuple[str, ...]) -> None:
    """The move away from the site rests on the reports that its appliances sent."""
    moves = [one for one in found["moves"] if any(each["site"] == site for each in one["moved"])]
    assert moves, found["moves"]
    (failed,) = [one for one in found["passed_over"] if one["site"] == site]
    assert failed["reason"] == "no_capacity"
    records = [one["records"]["change"] for one in failed["appliances"]]
    _, reports, _ = await edgesteer("tail", "appliance.health", "--last", "5000", "--json", *broker)
    places = {(one["partition"], one["offset"]): one for one in reports}
    for appliance, record in zip(failed["appliances"], records, strict=True):
        report = places[record["partition"], record["offset"]]["value"]
        assert (report["appliance"], report["service"]) == (appliance["appliance"], "FAILED")


async def a_recording_says_the_same(
    address: str, found: Any, file: Path, broker: tuple[str, ...]
) -> None:
    status, _, said = await edgesteer("record", str(file), "--from", "-1h", *broker)
    assert status == 0, said
    asked = ("explain", address, str(file), "--at", found["asked"], "--since", SINCE, "--json")
    status, (again,), said = await edgesteer(*asked)
    assert status == 0, said
    assert again == found
