"""Feeds on a real broker: what is published arrives, in its partition, in order, and readable."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.broker.settings import BrokerSettings
from pipeline.broker.topics import create_topics
from pipeline.errors import BrokerError, TopicMismatch, UsageError
from pipeline.feeds.inventory import read_inventory, site_regions
from pipeline.feeds.publisher import Publisher
from pipeline.follow.reader import TopicReader
from pipeline.wire.columns import decode_chunk
from pipeline.wire.encode import encode
from schemas.partition import partition_of
from schemas.registry import BGP_ROUTES, PLAY_EVENTS
from tests import mrt_files as mrt
from tests.brokers import TestBroker

pytestmark = pytest.mark.broker

PARTITIONS = 4
EXAMPLE = Path(__file__).parents[2] / "docs" / "fleet.example.toml"
PLAY = {"session": 7, "event": "START", "client": "8.8.8.8", "appliance": "c1"}


async def everything(settings: BrokerSettings, topic: str) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    async with TopicReader(settings, [topic]) as reader:
        await reader.from_begin()
        async for fetched in reader.until(await reader.ends()):
            for place, records in fetched.items():
                found.setdefault(place.partition, []).extend(records)
    return found


async def test_reports_arrive_in_the_partition_of_their_region(broker: TestBroker) -> None:
    await create_topics(broker.settings, PARTITIONS, prefix="reports.")
    async with Publisher(broker.settings, prefix="reports.") as publisher:
        for number, region in enumerate(("eu-west", "sa-east", "us-east")):
            await publisher.play(region, PLAY | {"session": number})
        with pytest.raises(UsageError):
            await publisher.publish(PLAY_EVENTS.name, "eu-west", b"k", b"rubbish")
    found = await everything(broker.settings, "reports." + PLAY_EVENTS.name)
    where = {record.key: partition for partition, records in found.items() for record in records}
    assert where == {
        b"%d" % number: partition_of(region, PARTITIONS)
        for number, region in enumerate(("eu-west", "sa-east", "us-east"))
    }


async def test_many_rows_arrive_in_order_and_decode_as_columns(broker: TestBroker) -> None:
    await create_topics(broker.settings, PARTITIONS, prefix="rows.")
    event = {"at_ms": 1, "event": "START", "client": bytes(16), "appliance": "c" * 200, "file": 1}
    event |= {"traffic_class": "VOD", "bytes": 1, "bitrate_bps": 1, "startup_ms": 1, "stall_ms": 1}
    count = 10_000
    values = [encode("PlayEvent", event | {"session": number}) for number in range(count)]
    keys = [b"%d" % number for number in range(count)]
    async with Publisher(broker.settings, prefix="rows.") as publisher:
        await publisher.send_rows(PLAY_EVENTS.name, 2, keys, values)
    (records,) = (await everything(broker.settings, "rows." + PLAY_EVENTS.name)).values()
    assert [record.key for record in records] == keys
    offsets = np.array([record.offset for record in records], dtype=np.int64)
    rows = decode_chunk(PLAY_EVENTS.name, [record.value for record in records], offsets, keys)
    assert rows.frames["PlayEvent"].get_column("session").to_list() == list(range(count))


async def test_what_cannot_be_published_is_an_error(broker: TestBroker) -> None:
    with pytest.raises(TopicMismatch):
        async with Publisher(broker.settings, prefix="nowhere."):
            pass
    with pytest.raises(BrokerError):
        async with Publisher(BrokerSettings(bootstrap="127.0.0.1:1")):
            pass


def command(broker: TestBroker, *args: str) -> tuple[int, list[dict[str, Any]], str]:
    code = "from pipeline.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *args, "--broker", broker.settings.bootstrap, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


async def test_a_fleet_and_its_routes_end_to_end(own_broker: TestBroker, tmp_path: Path) -> None:
    settings = own_broker.settings
    await create_topics(settings, PARTITIONS)

    status, lines, _ = command(own_broker, "fleet", "apply", str(EXAMPLE), "--dry-run")
    assert (status, lines[-1]["added"], lines[-1]["published"]) == (0, 12, False)
    assert await read_inventory(settings) == {}
    status, lines, _ = command(own_broker, "fleet", "apply", str(EXAMPLE))
    assert (status, lines[-1]["added"]) == (0, 12)
    status, lines, _ = command(own_broker, "fleet", "apply", str(EXAMPLE))
    assert lines == [
        {"added": 0, "changed": 0, "removed": 0, "unchanged": 12, "published": True}]  # fmt: skip

    updates = tmp_path / "updates.gz"
    updates.write_bytes(
        gzip.compress(
            mrt.state_change(5, 6)
            + mrt.bgp4mp(mrt.update(b"", mrt.attributes(), mrt.nlri("8.8.8.0/24", "10.0.0.0/8")))
            + mrt.bgp4mp(mrt.update(mrt.nlri("8.8.8.0/24")))
        )
    )
    status, _, said = command(own_broker, "feed", "mrt", str(updates), "--peer", "*=nowhere")
    assert (status, "ams2, fra1, gru1" in said) == (2, True)
    status, lines, _ = command(own_broker, "feed", "mrt", str(updates), "--peer", "65001=gru1")
    assert (status, lines[-1]["announced"], lines[-1]["withdrawn"]) == (0, 1, 1)
    found = await everything(settings, BGP_ROUTES.name)
    assert list(found) == [partition_of("sa-east", PARTITIONS)]
    key = f"gru1|{mrt.PEER}|8.8.8.0/24|0".encode()
    (records,) = found.values()
    assert [record.key for record in records] == [f"gru1|{mrt.PEER}|session".encode(), key, key]


async def test_a_site_that_moves_is_in_one_region_only(
    own_broker: TestBroker, tmp_path: Path
) -> None:
    settings = own_broker.settings
    await create_topics(settings, PARTITIONS)
    file = tmp_path / "fleet.json"
    regions = ("eu-west", "sa-east", "us-east")
    assert len({partition_of(region, PARTITIONS) for region in regions}) > 1
    for region in (*regions, *regions):
        entries = [{"id": each, "lat": 1, "lon": 1} for each in regions]
        site = {"id": "m1", "region": region, "lat": 1, "lon": 1}
        file.write_text(json.dumps({"region": entries, "site": [site]}))
        status, _, said = command(own_broker, "fleet", "apply", str(file), "--prune")
        assert status == 0, said
        current = await read_inventory(settings)
        assert site_regions(current) == {"m1": (region,)}
        assert len(current) == len(regions) + 1
