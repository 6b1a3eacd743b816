"""Greedy detours, anew every 30 s: Edge Fabric.

Source (DOMAIN; SIGCOMM 2017): every 30 s, from scratch, the load of each interface is projected
without any detour; where it is above 95 % of capacity, prefixes are moved to their best alternate
until it is not. Order of the prefixes: IPv4 first, then by routing preference, then a
deterministic tie-break (here all are IPv4, and their number decides). Rates are averages of the
last two minutes. Sessions
that are down have no routes.
Rule here: interfaces are sites (what their appliances' ports carry that were heard in the last
30 s) and their links; alternates in the order of routing; a prefix is detoured whole. Between
appliances by inventory capacity, among those that were heard (where none was, among all). Known
to it and not to the plane: which link a prefix would take (Edge Fabric's routers know).
"""

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.faults import OK
from pipeline.sim.loop.layout import Layout
from pipeline.sim.loop.policy import Routes, all_to, by_capacity
from pipeline.sim.loop.reports import News
from pipeline.sim.loop.tally import sums

PERIOD_S, WINDOW_S, LIMIT = 30, 120, 0.95
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Detour:
    """Demand by network in four buckets of 30 s."""

    def __init__(self, layout: Layout) -> None:
        self._layout, self._routes, self._second = layout, Routes(layout), 0
        self._buckets = np.zeros((WINDOW_S // PERIOD_S, len(layout.metro)))
        self._link_bps = layout.link_bps.copy()
        self._heard_s = np.zeros(len(layout.site), np.int64)
        self._ok = np.ones(len(layout.site), bool)
        links = layout.candidate * 2 + ~layout.local
        self._link_of = np.where(layout.candidate >= 0, links, 0)
        self._table = Followed(all_to(layout, self._routes.nearest()), by_capacity(layout))

    def decide(self, news: News) -> Followed:
        self._second += 1
        self._routes.fold(news)
        if (told := news.get("health")) is not None:
            self._heard_s[told["appliance"]] = self._second
            self._ok[told["appliance"]] = told["service"] == OK
        if (links := news.get("links")) is not None:
            self._link_bps[links["link"]] = links["capacity_bps"]
        if (plays := news.get("plays")) is not None:
            now = self._second // PERIOD_S % len(self._buckets)
            np.add.at(self._buckets[now], plays["network"], plays["bytes"] * 8.0)
        if self._second % PERIOD_S == 0:
            self._compute()
            self._buckets[self._second // PERIOD_S % len(self._buckets)] = 0
        return self._table

    def _compute(self) -> None:
        layout = self._layout
        up = self._ok & (self._second - self._heard_s <= PERIOD_S)
        ports = np.where(up, layout.port_bps, 0.0)
        limit = LIMIT * np.concatenate([sums(layout.site, ports, layout.sites), self._link_bps])
        seen_s = min(self._second, WINDOW_S)
        demand = self._buckets.sum(axis=0) / seen_s
        order = self._routes.order()
        choice = detours(
            np.take_along_axis(self._routes.routed, order, axis=1),
            np.take_along_axis(layout.candidate.astype(np.int64), order, axis=1),
            layout.sites + np.take_along_axis(self._link_of, order, axis=1),
            demand,
            limit,
        )
        candidate = order[np.arange(len(order)), choice]
        dark = (sums(layout.site, up, layout.sites) == 0)[layout.site]
        weight = by_capacity(layout, np.where(dark, layout.port_bps, ports))
        self._table = Followed(all_to(layout, candidate), weight)


def detours(routed: Bools, site: I64, link: I64, demand: F64, limit: F64) -> I64:
    """int64[B]: which of its routes (by rank) each network takes. `site` and `link` int64[B, K] are
    the interfaces on the way, `limit` says what each may carry; all have the same numbers."""
    choice = np.zeros(len(demand), np.int64)
    load = sums(site[:, 0], demand, len(limit)) + sums(link[:, 0], demand, len(limit))
    over = load > limit
    hit = np.flatnonzero((over[site[:, 0]] | over[link[:, 0]]) & (demand > 0))
    for network in hit.tolist():
        here, amount = (site[network, 0], link[network, 0]), demand[network]
        if not (load[here[0]] > limit[here[0]] or load[here[1]] > limit[here[1]]):
            continue
        away = routed[network] & (site[network] != here[0])
        for to in (site[network], link[network]):
            away &= load[to] + amount <= limit[to]
        if not away.any():
            continue
        choice[network] = rank = int(away.argmax())
        for one in here:
            load[one] -= amount
        load[site[network, rank]] += amount
        load[link[network, rank]] += amount
    return choice
