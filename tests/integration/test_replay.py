"""What workers did on a broker, recorded and folded again: every Epoch is equal, twice, and the
broker's topics are as they were before."""

import asyncio
import json
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.broker.topics import create_topics
from pipeline.feeds.reports import now_ms
from pipeline.follow.follower import Follower
from pipeline.follow.reader import TopicReader
from pipeline.replay.beginnings import beginnings
from schemas.registry import TOPICS
from tests.brokers import TestBroker
from tests.plane import Plane, cuts_later

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 4
FLEET = ("--regions", "2", "--sites", "8", "--appliances", "30")
FLEET += ("--prefixes", "800", "--rate", "200", "--dirt", "0.01")
PATIENCE_S = 120.0


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.cli.main", *args]


async def edgesteer(*args: str) -> tuple[int, list[dict[str, Any]], str]:
    """Status, the objects on stdout, and stderr."""
    process = await asyncio.create_subprocess_exec(
        *command(*args, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, [json.loads(line) for line in out.splitlines()], err.decode()


async def ends(broker: TestBroker) -> dict[Any, int]:
    async with TopicReader(broker.settings, [topic.name for topic in TOPICS]) as reader:
        return await reader.ends()


async def test_what_workers_did_folds_again_to_the_same(
    own_broker: TestBroker, tmp_path: Path
) -> None:
    """L2 through a file: with a worker killed on the way, from a moment in the middle, for one
    region alone, and straight from the broker."""
    await create_topics(own_broker.settings, PARTITIONS)
    often = ("--snapshot-every", "3")
    async with Plane(own_broker, tmp_path, workers=2, options=often) as plane:
        fleet = plane.fleet(*FLEET)
        await fleet.start()
        async with Follower(own_broker.settings) as follower:
            cells = range(PARTITIONS)
            await follower.wait_for(
                lambda table: any(table.cell(cell).cut >= 4 for cell in cells), PATIENCE_S
            )
            await plane.kill(0)
            await cuts_later(follower, cells, 4, PATIENCE_S)
            assert await fleet.stop() == 0
            await every_cell_goes_on_behind_a_snapshot(own_broker, follower)
    before = await ends(own_broker)
    broker, file = ("--broker", own_broker.settings.bootstrap), tmp_path / "whole.rec"
    whole = await a_recording_is_equal_twice(broker, file)
    await a_part_is_equal(broker, whole, tmp_path / "part.rec")
    await a_part_begins_with_a_snapshot(broker, tmp_path / "late.rec")
    await what_is_not_there_is_refused(broker, tmp_path / "none.rec")
    await an_interrupt_leaves_a_whole_file_or_none(broker, tmp_path / "interrupted.rec")
    status, (*_, last), said = await edgesteer("replay", *broker)
    assert status == 0, said
    assert last["cuts"] == last["equal"] > 4 * PARTITIONS
    assert await ends(own_broker) == before  # nothing was written anywhere


async def every_cell_goes_on_behind_a_snapshot(broker: TestBroker, follower: Follower) -> None:
    """Until each cell has a snapshot, and then has made a cut: the second to be closed from now,
    for the first may be under way."""
    cells = range(PARTITIONS)
    async with asyncio.timeout(PATIENCE_S):
        while len(await beginnings(broker.settings, cells, now_ms())) < PARTITIONS:
            await asyncio.sleep(0.5)
    await cuts_later(follower, cells, 2, PATIENCE_S)


async def a_recording_is_equal_twice(broker: tuple[str, ...], file: Path) -> dict[str, Any]:
    """What is said of the recording."""
    status, (made,), said = await edgesteer("record", "--from", "-1h", *broker, str(file))
    assert (status, made["lead_in"]) == (0, 0), said
    assert made["records"]["play.events"] > 0
    assert not file.with_name(file.name + ".part").exists()
    for _ in range(2):
        status, (*_, last), said = await edgesteer("replay", str(file))
        assert status == 0, said
        assert (last["different"], last["inputs_incomplete"]) == (0, 0)
        assert last["equal"] == last["cuts"] == made["cuts"] - last["without_epoch"]
        assert last["without_epoch"] <= PARTITIONS  # the cut at which a worker ended
    return made


async def a_part_is_equal(broker: tuple[str, ...], whole: dict[str, Any], file: Path) -> None:
    """From the middle of the run to its end, and only the cell of one region."""
    _, inventory, _ = await edgesteer("tail", "fleet.inventory", "--last", "500", *broker)
    region = next(one["value"]["region"] for one in inventory if one["record"] == "Region")
    first = min(datetime.fromisoformat(cell["first"]) for cell in whole["cells"].values())
    newest = max(datetime.fromisoformat(cell["last"]) for cell in whole["cells"].values())
    span = ("--from", (first + (newest - first) / 2).isoformat(), "--to", newest.isoformat())
    status, (made,), said = await edgesteer(
        "record", *span, "--regions", region, *broker, str(file)
    )
    assert status == 0, said
    assert len(made["cells"]) == 1
    status, (*_, last), said = await edgesteer("replay", str(file))
    assert (status, last["lead_in"]) == (0, made["lead_in"]), said
    assert last["equal"] == last["cuts"] > 0


async def a_part_begins_with_a_snapshot(broker: tuple[str, ...], file: Path) -> None:
    """The last cuts alone: from the snapshot before them, and what came after that."""
    _, epochs, _ = await edgesteer("epochs", *broker)
    newest = min(epoch["at"] for epoch in epochs)
    status, (made,), said = await edgesteer("record", "--from", newest, *broker, str(file))
    assert status == 0, said
    assert len(made["cells"]) == PARTITIONS
    assert all(cell["snapshot_cut"] > 0 for cell in made["cells"].values())
    status, (*_, last), said = await edgesteer("replay", "--lead-in", str(file))
    assert (status, last["different"], last["inputs_incomplete"]) == (0, 0, 0), said
    assert last["equal"] == last["cuts"] > 0


async def what_is_not_there_is_refused(broker: tuple[str, ...], file: Path) -> None:
    status, _, said = await edgesteer(
        "record", "--from", "2001-01-01", "--to", "2001-01-02", *broker, str(file)
    )
    assert (status, "no cut from 2001-01-01" in said) == (1, True)
    status, _, said = await edgesteer(
        "record", "--from", "-1h", "--regions", "atlantis", *broker, str(file)
    )
    assert (status, "no region atlantis in the inventory; there are: " in said) == (2, True)
    assert list(file.parent.glob("none*")) == []


async def an_interrupt_leaves_a_whole_file_or_none(broker: tuple[str, ...], file: Path) -> None:
    part = file.with_name(file.name + ".part")
    process = await asyncio.create_subprocess_exec(
        *command("record", "--from", "-1h", *broker, str(file)), stdout=asyncio.subprocess.DEVNULL
    )
    while process.returncode is None and not part.exists():
        await asyncio.sleep(0.002)
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
    status = await process.wait()
    assert status in (0, 130)
    assert (file.exists(), part.exists()) == (status == 0, False)
