"""Three regions of one broker share a site: the cells tell each other over capacity.prices, and the
log of each folds again to the same."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.broker.topics import create_topics
from pipeline.feeds.publisher import Publisher
from pipeline.follow.follower import Follower
from pipeline.wire.decode import decode
from schemas.partition import partition_of
from schemas.registry import CAPACITY_PRICES
from tests.brokers import TestBroker
from tests.laws import settled
from tests.plane import Plane, read_all

pytestmark = [pytest.mark.broker, pytest.mark.slow]

REGIONS, PARTITIONS = ("eu", "us", "ap"), 8
GBPS = 10**9
NETS = 4
SECONDS, PATIENCE_S = 40, 60.0


def fleet() -> dict[str, Any]:
    spot = {"lat": 1, "lon": 1}
    sites = [{"id": "x", "region": "eu", "also": ["us", "ap"], **spot}]
    sites += [{"id": f"{region}-own", "region": region, **spot} for region in REGIONS]
    appliances = [
        {"id": f"{one['id']}-a0", "site": one["id"], "capacity_bps": "30G"} for one in sites
    ]
    regions = [{"id": region, **spot} for region in REGIONS]
    return {"region": regions, "site": sites, "appliance": appliances}


async def edgesteer(broker: TestBroker, *args: str) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipeline.cli.main", *args, "--json"),
        *("--broker", broker.settings.bootstrap),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.splitlines()]


async def routes(publisher: Publisher, region: str) -> None:
    for hops, site in enumerate(("x", f"{region}-own"), 1):
        for net in range(NETS):
            route = {"site": site, "peer": "192.0.2.1", "peer_asn": 64500}
            route |= {"prefix": f"20.{net}.0.0/16", "as_path": " ".join(["64500"] * hops)}
            await publisher.route(region, route)


async def a_second(publisher: Publisher, region: str, gbps: int) -> None:
    for site in ("x", f"{region}-own"):
        report = {"appliance": f"{site}-a0", "egress_bps": GBPS, "capacity_bps": 30 * GBPS}
        await publisher.health(region, report)
    for net in range(NETS):
        play = {"session": net, "event": "HEARTBEAT", "client": f"20.{net}.1.9", "file": 1}
        play |= {"appliance": f"{region}-own-a0", "traffic_class": "VOD", "bitrate_bps": GBPS}
        await publisher.play(region, play | {"bytes": gbps * GBPS // 8 // NETS})


async def test_three_cells_divide_a_site_over_the_broker(
    own_broker: TestBroker, tmp_path: Path
) -> None:
    assert len({partition_of(region, PARTITIONS) for region in REGIONS}) == len(REGIONS)
    await create_topics(own_broker.settings, PARTITIONS)
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps(fleet()))
    demand = dict(zip(REGIONS, (6, 10, 20), strict=True))
    async with Plane(own_broker, tmp_path, workers=1):
        await edgesteer(own_broker, "fleet", "apply", str(file))
        async with Publisher(own_broker.settings) as publisher:
            for region in REGIONS:
                await routes(publisher, region)
            async with Follower(own_broker.settings):
                for _ in range(SECONDS):
                    for region in REGIONS:
                        await a_second(publisher, region, demand[region])
                    await asyncio.sleep(1)
        await settled(own_broker, PARTITIONS)
    left = await read_all(own_broker, [CAPACITY_PRICES.name], PARTITIONS)
    told = [
        (partition, *decode(record.value))
        for partition, records in left.records[CAPACITY_PRICES.name].items()
        for record in records
    ]
    assert all(partition == partition_of(one["to"], PARTITIONS) for partition, _, one in told)
    claims = {one["region"]: one for _, name, one in told if name == "CapacityClaim"}
    grants = {one["to"]: one["share"] for _, name, one in told if name == "CapacityGrant"}
    assert set(claims) == set(grants) == {"us", "ap"}
    assert claims["ap"]["want_bps"] > claims["us"]["want_bps"] > 0
    assert 0 < grants["us"] < grants["ap"] < 10_000 - grants["us"]
    (last,) = [one for one in await edgesteer(own_broker, "replay") if "cuts" in one]
    assert last["different"] == last["inputs_incomplete"] == 0
    assert last["equal"] > 0
