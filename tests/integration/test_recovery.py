"""Workers that are killed go on from their snapshots, not from the beginning of the log."""

import asyncio
import signal
from pathlib import Path

import pytest

from pipeline.broker.topics import create_topics
from pipeline.follow.follower import Follower, snapshot
from schemas.registry import (
    CELLS_CHANGELOG,
    INPUTS,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_EPOCHS,
)
from tests.brokers import TestBroker
from tests.plane import Plane, epochs, read_all, refold

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2
FLEET = ("--regions", "2", "--sites", "8", "--appliances", "48")
FLEET += ("--prefixes", "1500", "--rate", "300")
PATIENCE_S = 120.0


async def until_logged(path: Path, words: str, times: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while path.read_text().count(words) < times:
            await asyncio.sleep(0.1)


async def test_a_killed_worker_goes_on_from_its_snapshot(
    own_broker: TestBroker, tmp_path: Path
) -> None:
    await create_topics(own_broker.settings, PARTITIONS)
    options = ("--snapshot-every", "5")
    async with Plane(own_broker, tmp_path, workers=1, options=options) as plane:
        fleet, log = plane.fleet(*FLEET), tmp_path / "w0.log"
        await fleet.start()
        async with Follower(own_broker.settings) as follower:
            await until_logged(log, "snapshot written", 6)
            await plane.kill(0)
            await until_logged(log, "restored", PARTITIONS)
            await until_logged(log, "snapshot written", 10)
            # Without what it has on disk a worker has what the changelog has.
            await plane.workers[0].stop(signal.SIGKILL)
            await asyncio.to_thread(_remove, tmp_path / "w0")
            await plane.workers[0].start()
            await until_logged(log, "restored", 2 * PARTITIONS)
            assert await fleet.stop() == 0
            cut = follower.table.cell(0).cut
            await follower.wait_for(lambda table: table.cell(0).cut > cut + 2, PATIENCE_S)
            assert follower.table.verify() == []
    assert "snapshot not used" not in log.read_text()
    topics = [topic.name for topic in INPUTS]
    topics += [STEERING_CUTS.name, STEERING_CONFIG.name, STEERING_EPOCHS.name]
    left = await read_all(own_broker, topics, PARTITIONS)
    late = await snapshot(own_broker.settings)
    for partition in range(PARTITIONS):
        published = {cut: one["table_hash"] for cut, one in epochs(left, partition).items()}
        folded = refold(left, partition, PARTITIONS)
        assert published == {cut: folded[cut] for cut in published}
        assert sorted(published) == list(range(1, max(published) + 1))
        assert f"{late.cell(partition).table_hash:016x}" == published[max(published)]
    held = await read_all(own_broker, [CELLS_CHANGELOG.name], PARTITIONS)
    assert all(held.records[CELLS_CHANGELOG.name][one] for one in range(PARTITIONS))


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
