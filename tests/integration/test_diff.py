"""Moments of a broker's log are compared without a file, and nothing is written anywhere."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.broker.topics import create_topics
from pipeline.cli.common import iso
from pipeline.config import SteeringConfig
from pipeline.follow.reader import TopicReader
from pipeline.wire.encode import encode
from schemas.registry import STEERING_CONFIG, STEERING_CUTS, TOPICS
from tests import diffworld
from tests.brokers import TestBroker
from tests.clients import producer
from tests.diffworld import CUTS, moment

pytestmark = [pytest.mark.broker, pytest.mark.slow]


async def edgesteer(*args: str) -> tuple[int, list[dict[str, Any]], str]:
    """Status, the objects on stdout, and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipeline.cli.main", *args, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, [json.loads(line) for line in out.splitlines()], err.decode()


async def publish(broker: TestBroker) -> None:
    """The log of tests/diffworld.py, in which near fails at the fifteenth cut."""
    made, config = diffworld.log(failed=range(15, CUTS + 1)), SteeringConfig()
    fields = {"hash": config.hash(), "config": config.canonical()}
    records: list[tuple[str, bytes | None, bytes | None]] = [
        (STEERING_CONFIG.name, config.hash().encode(), encode("Config", fields))
    ]
    for topic, values in made.values.items():
        records += [(topic, *one) for one in zip(made.keys[topic], values, strict=True)]
    records += [(STEERING_CUTS.name, b"0", encode("Cut", cut.to_record())) for cut in made.cuts]
    async with producer(broker) as client:
        for topic, key, value in records:
            await client.send_and_wait(topic, value, key, partition=0)


async def test_two_moments_of_a_log_on_a_broker(own_broker: TestBroker, tmp_path: Path) -> None:
    await create_topics(own_broker.settings, 1)
    await publish(own_broker)
    async with TopicReader(own_broker.settings, [topic.name for topic in TOPICS]) as reader:
        before = await reader.ends()
    broker, html = ("--broker", own_broker.settings.bootstrap), tmp_path / "page.html"
    status, (*rows, last), said = await edgesteer(
        "diff", f"@{iso(moment(14))}", f"@{iso(moment(CUTS))}", *broker, "--html", str(html)
    )
    assert status == 0, said
    moves = {(one["from"], one["to"]): one["moved_bps"] for one in rows if one["kind"] == "move"}
    assert moves == {("near", "far"): 6_240_000_000, ("near", None): 3_000_000_000}
    assert last["a"]["cells"]["0"]["cut"] == 14
    assert html.exists()
    async with TopicReader(own_broker.settings, [topic.name for topic in TOPICS]) as reader:
        assert await reader.ends() == before
