"""Small simulated cells for tests of the closed loop."""

from collections.abc import Sequence

import numpy as np

from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.layout import CLASSES, Layout, Size, build
from pipeline.sim.loop.policy import all_to, by_capacity
from pipeline.sim.loop.reports import News
from pipeline.sim.loop.scenario import Fault, Scenario
from pipeline.sim.loop.world import World

SMALL = Size(2, 2, 2, 3, 24, 40, 50_000)


def small(seed: int = 1) -> Layout:
    return build(seed, SMALL)


def quiet(*faults: Fault, length_s: int = 600, load: float = 1.0) -> Scenario:
    return Scenario("test", "Test", "Says.", length_s, 30, load, faults=faults)


def settled(layout: Layout, scenario: Scenario, seed: int = 1) -> tuple[World, Followed]:
    """A world with everybody at the nearest site, and the table that put them there."""
    world = World(layout, scenario, seed)
    table = Followed(all_to(layout, world.routing.nearest), by_capacity(layout))
    world.settle(table)
    return world, table


def by_hand(port_bps: Sequence[Sequence[float]], candidate: Sequence[Sequence[int]]) -> Layout:
    """Sites with appliances of these ports (disks and connections without limit), one network a
    row of `candidate`; all in one metro and of one ISP, links without limit."""
    sites, networks = len(port_bps), len(candidate)
    site = np.repeat(np.arange(sites, dtype=np.int32), [len(one) for one in port_bps])
    port = np.array([bps for one in port_bps for bps in one], dtype=np.float64)
    shape = (networks, len(candidate[0]))
    names = [f"s{number}" for number in range(sites)]
    return Layout(
        size=Size(1, sites, 0, 1, networks, len(site), 1000),
        metro=np.zeros(networks, np.int32),
        isp=np.zeros(networks, np.int32),
        lat=np.full(networks, 50.0),
        lon=np.full(networks, 8.0),
        popularity=np.full(networks, 1 / networks),
        candidate=np.array(candidate, np.int32),
        hops=np.broadcast_to(np.arange(1, shape[1] + 1, dtype=np.int32), shape),
        km=np.zeros(shape, np.int32),
        rtt_us=np.full(shape, 5000),
        local=np.ones(shape, bool),
        site_names=names,
        site_metro=np.zeros(sites, np.int32),
        site_isp=np.full(sites, -1, np.int32),
        site_lat=np.full(sites, 50.0),
        site_lon=np.full(sites, 8.0),
        names=[f"s{at}-a{nth}" for nth, at in enumerate(site.tolist())],
        site=site,
        port_bps=port,
        disk_bps=port * 1e6,
        connections=port * 1e6,
        link_bps=np.full(2 * sites, 1e13),
    )


def heard(layout: Layout, now_ms: int = 0, **columns: object) -> News:
    """Every appliance reports that it is well and half loaded, but for `columns`."""
    count = len(layout.site)
    told = {
        "appliance": np.arange(count),
        "service": np.zeros(count, np.uint8),
        "egress_bps": (layout.port_bps / 2).astype(np.int64),
        "capacity_bps": layout.port_bps.astype(np.int64),
        "load": np.full(count, 0.5),
        "ttfb_ms": np.full(count, 20),
    }
    told |= {name: np.asarray(column) for name, column in columns.items()}
    return News(now_ms, {"health": [told]})


def plays(network: Sequence[int], octets: Sequence[int]) -> dict[str, np.ndarray]:
    """Heartbeats of these networks."""
    return {"network": np.array(network), "bytes": np.array(octets)}


def even(layout: Layout) -> Followed:
    """Everybody to all candidates alike."""
    networks, width = layout.candidate.shape
    share = np.broadcast_to((layout.candidate >= 0)[:, None, :], (networks, CLASSES, width))
    return Followed(share / share.sum(axis=2, keepdims=True), by_capacity(layout))
