"""The world: layout, viewers, machines and faults, moved on second by second by a table.

Everything a policy may learn of it comes through `reports.py`; what the score is made of is read
here directly (`Second`), as nobody in the world can.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop import knee
from pipeline.sim.loop.crowd import Crowd, Followed, Means
from pipeline.sim.loop.faults import Conditions, Script
from pipeline.sim.loop.layout import (
    BITRATE_BPS,
    CLASS_SHARE,
    CONNECTIONS,
    DISK_SHARE,
    WATCH_S,
    Layout,
)
from pipeline.sim.loop.routing import Routing
from pipeline.sim.loop.scenario import Scenario
from pipeline.sim.loop.tally import ratio, sums

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Second:
    """One second as it was. load float64[A], link_load float64[links]: asked as a share of what
    they can; egress_bps float64[A], link_bps float64[links]: sent; delivered_bps, stalled
    float64[B, C, K]; waiting float64[B, C]; hoped_bps: all there would be to deliver; nearest
    int64[B]: the candidate that routing holds nearest."""

    conditions: Conditions
    means: Means
    load: F64
    port_load: F64
    disk_load: F64
    link_load: F64
    egress_bps: F64
    link_bps: F64
    delivered_bps: F64
    stalled: F64
    waiting: F64
    hoped_bps: float
    nearest: I64


class World:
    """`seed` decides who comes when, and which routes change: the same for every policy."""

    def __init__(self, layout: Layout, scenario: Scenario, seed: int) -> None:
        arrivals, routes = np.random.SeedSequence([seed, 2]).spawn(2)
        self.layout, self.scenario = layout, scenario
        self.script = Script(layout, scenario)
        self.crowd = Crowd(layout)
        self.routing = Routing(layout, np.random.Generator(np.random.PCG64(routes)))
        self._rng = np.random.Generator(np.random.PCG64(arrivals))
        peak = layout.popularity[:, None] * layout.size.viewers * scenario.load
        self._usual: F64 = peak * CLASS_SHARE
        links = layout.candidate * 2 + ~layout.local  # PEERING inside the metro, else BACKBONE
        self.link_of = np.where(layout.candidate >= 0, links, 2 * layout.sites)

    def settle(self, table: Followed) -> None:
        """Begin with the viewers that there would be, seated by `table`."""
        begin = self.script.at(-self.scenario.warm_up_s)
        self.crowd.settle(self._usual * begin.demand, table)

    def step(self, second: int, table: Followed) -> Second:
        """One second in which clients follow `table`."""
        crowd, now = self.crowd, self.script.at(second)
        routed = self.routing.step(second, now.session)
        crowd.cut_off(now.alive, routed)
        means, _ = self._means(now, routed)
        if now.leaving.any():
            crowd.change_networks(now.leaving, now.coming)
        rate = self._usual * now.demand / WATCH_S
        crowd.arrive(self._rng.poisson(rate).astype(np.float64) + now.extra)
        crowd.find_seats(table, means)
        crowd.ask_again(table, means, 1.0)
        means, loads = self._means(now, routed)
        delivered = self._delivered(means)
        hoped = float((crowd.hoped * BITRATE_BPS).sum())
        egress = self._egress(means, delivered)
        link_bps = sums(self.link_of, delivered.sum(axis=1), 2 * self.layout.sites + 1)[:-1]
        waiting = crowd.waiting.copy()
        stalled = crowd.leave(means, 1.0)
        return Second(
            now, means, *loads, egress, link_bps, delivered, stalled, waiting, hoped,
            self.routing.nearest,
        )  # fmt: skip

    def _means(self, now: Conditions, routed: Bools) -> tuple[Means, tuple[F64, F64, F64, F64]]:
        """How well things go, given who sits where."""
        layout, crowd = self.layout, self.crowd
        wanted = crowd.wanted_bps()
        port = wanted.sum(axis=0) / layout.port_bps
        disk = (wanted * DISK_SHARE[:, None]).sum(axis=0) / (layout.disk_bps * now.disk)
        connections = CONNECTIONS * crowd.at.sum(axis=0) / layout.connections
        load = np.maximum(np.maximum(port, disk), connections)
        works = 1.0 - now.failing
        near_us = layout.rtt_us[:, :1].min()
        quality = knee.served(load) * works
        if now.cable.any():
            quality *= knee.survives(now.cable, near_us, BITRATE_BPS[0])
        accepts = now.alive * (1.0 - knee.refused(load)) * works
        sent = crowd.seated * BITRATE_BPS[None, :, None] * crowd.sent(quality)
        into = sums(self.link_of, sent.sum(axis=1), 2 * layout.sites + 1)
        link_load = into[:-1] / (layout.link_bps * now.link)
        reach = np.append(knee.fits(link_load), 1.0)[self.link_of]
        if now.noise.any():
            lost = np.append(now.noise, 0.0)[self.link_of]
            reach *= knee.survives(lost, layout.rtt_us, BITRATE_BPS[0])
        return Means(accepts, quality, reach, routed), (load, port, disk, link_load)

    def _delivered(self, means: Means) -> F64:
        crowd = self.crowd
        quality = crowd.quality(means)
        sent: F64 = crowd.seated * BITRATE_BPS[None, :, None] * quality
        return sent

    def _egress(self, means: Means, delivered: F64) -> F64:
        """What each appliance sends that arrives: its part of its site's, by class."""
        crowd = self.crowd
        good = crowd.at * means.quality
        whole = crowd.by_chair(good)[crowd.chair]
        share = ratio(good, whole)
        sent: F64 = (share * crowd.by_site(delivered)[crowd.chair]).sum(axis=0)
        return sent
