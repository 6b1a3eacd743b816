"""The running simulation on a real broker: everything arrives, it obeys, it ends as it should."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import TopicPartition

from pipeline.broker.topics import create_topics
from pipeline.errors import BrokerError
from pipeline.sim.control import entities, send
from pipeline.sim.run import RunOptions, Simulation
from pipeline.sim.size import SimSize
from pipeline.wire.decode import decode
from schemas.partition import partition_of
from schemas.registry import APPLIANCE_HEALTH, INPUTS
from tests.brokers import TestBroker
from tests.clients import WAIT_S, reader

pytestmark = pytest.mark.broker

PARTITIONS = 4
SIZE = SimSize(regions=2, sites=8, appliances=24, prefixes=600, rate=100)
ARGS = ("--regions=2", "--sites=8", "--appliances=24", "--prefixes=600", "--rate=100")


@pytest.fixture
async def plane(own_broker: TestBroker) -> AsyncIterator[TestBroker]:
    await create_topics(own_broker.settings, PARTITIONS)
    yield own_broker


def partitions(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(PARTITIONS)]


async def ends(broker: TestBroker) -> Counter[str]:
    """How many records each input topic has had."""
    found: Counter[str] = Counter()
    every = [each for topic in INPUTS for each in partitions(topic.name)]
    async with reader(broker, *every) as consumer:
        for partition, end in (await consumer.end_offsets(every)).items():
            found[partition.topic] += end
    return found


async def test_every_record_is_counted_and_lies_where_its_region_belongs(
    plane: TestBroker,
) -> None:
    before = await ends(plane)
    simulation = Simulation(
        plane.settings, RunOptions(7, SIZE, duration_ms=3000, dirt=0.05), lambda _: None
    )
    await simulation.run()
    summary = simulation.summary
    assert await ends(plane) - before == summary.produced
    fed = {topic.name for topic in INPUTS if topic.writer != "workers"}
    assert set(summary.produced) == fed
    assert summary.produced["play.events"] >= 200  # about 100 a second; a busy machine starts late
    assert summary.running_ms == 3000
    assert summary.dirt.total() > 0
    home = {region: partition_of(region, PARTITIONS) for region in ("eu", "na")}
    async with reader(plane, *partitions("fleet.inventory")) as consumer:
        for partition, records in (await consumer.getmany(timeout_ms=5000)).items():
            for record in records:
                if not record.key.startswith(b"dirt"):
                    assert home[decode(record.value)[1]["region"]] == partition.partition


async def seen(consumer: Any, appliance: str, service: str) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        while True:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    _, report = decode(record.value)
                    if (report["appliance"], report["service"]) == (appliance, service):
                        return dict(report)


async def test_it_obeys_commands_and_reports_them_in_health(plane: TestBroker) -> None:
    lines: list[str] = []
    simulation = Simulation(plane.settings, RunOptions(1, SIZE), lines.append)
    running = asyncio.create_task(simulation.run())
    health = partitions(APPLIANCE_HEALTH.name)
    async with reader(plane, *health) as consumer:
        await consumer.seek_to_end(*health)
        async with asyncio.timeout(WAIT_S):
            while simulation.summary.running_ms == 0:
                await asyncio.sleep(0.05)
        fleet = await entities(plane.settings)
        name = fleet["fra-ix1"][0]
        for action, service in (("FAIL", "FAILED"), ("DRAIN", "DRAINING"), ("RECOVER", "OK")):
            await send(plane.settings, action, name, 0)
            await seen(consumer, name, service)
        await send(plane.settings, "FAIL", "no-such-thing", 0)
        async with asyncio.timeout(WAIT_S):
            while not any(line.startswith("ignored") for line in lines):
                await asyncio.sleep(0.05)
    simulation.stop()
    await running
    assert simulation.summary.commands == 3


async def run_command(broker: TestBroker, *args: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "pipeline.cli.main", "sim", *args],
        env={**os.environ, "EDGESTEER_BROKER": broker.settings.bootstrap},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_its_summary_and_status_0(
    plane: TestBroker, number: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.cli.main", "sim", "run", "--json", *ARGS,
        env={**os.environ, "EDGESTEER_BROKER": plane.settings.bootstrap},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_S):
        while b"the fleet is up" not in await process.stderr.readline():
            assert process.returncode is None
        process.send_signal(number)
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["produced"]["fleet.inventory"] > 0


async def test_commands_check_the_inventory_and_say_what_to_look_at(plane: TestBroker) -> None:
    started = await run_command(plane, "run", "--for=100ms", "--json", *ARGS)
    assert started.returncode == 0, started.stderr
    told = await run_command(plane, "fail", "fra-ix1", "--json")
    said = json.loads(told.stdout)
    assert (told.returncode, said["action"], said["entity"]) == (0, "FAIL", "fra-ix1")
    assert len(said["appliances"]) > 1
    told = await run_command(plane, "drain", said["appliances"][0])
    assert told.returncode == 0 and "edgesteer verdicts" in told.stdout
    wrong = await run_command(plane, "recover", "fra-ix9")
    assert wrong.returncode == 1 and "did you mean" in wrong.stderr and not wrong.stdout


async def test_what_cannot_be_is_wrong_usage(plane: TestBroker) -> None:
    wrong = await run_command(plane, "run", "--appliances=5", "--sites=40")
    assert wrong.returncode == 2 and "5 appliances" in wrong.stderr


async def test_without_a_broker_it_fails_with_a_sentence() -> None:
    from pipeline.broker.process import free_ports
    from pipeline.broker.settings import BrokerSettings

    nobody = BrokerSettings.model_validate({"bootstrap": f"127.0.0.1:{free_ports(1)[0]}"})
    with pytest.raises(BrokerError):
        await Simulation(nobody, RunOptions(1, SIZE), lambda _: None).run()
