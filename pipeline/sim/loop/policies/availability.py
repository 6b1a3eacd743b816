"""Nearest with availability, up or down, without hysteresis: Apache Traffic Control.

Source (DOMAIN, read at 991a4243): Traffic Monitor asks each cache every 6,000 ms and judges it by
that one sample (health/cache.go EvalAggregate); thresholds as shipped: available bandwidth above
1,750,000 kbit/s, query time below 1,000 ms; a poll without an answer is unavailable. Traffic Router
polls the monitor every second. It picks the cache group of the coverage zone, then that of the
nearest group with an available cache; inside a group a consistent hash in which every cache has
the same 1,000 replicas. Coverage zones are files of an operator (every 3 h): routes do not matter.
Rule here: the sample is the newest report; none since the last poll (and its time-out of 2 s) is
a poll without an answer. Nothing available anywhere: no answer (503).
Not taken over: load average (the world has none). Where a port is not much larger than the
bandwidth threshold, that counts as a tenth of it, or such a cache could never be available.
"""

import numpy as np

from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.faults import DRAINING, FAILED
from pipeline.sim.loop.layout import Layout
from pipeline.sim.loop.policy import Bools, all_to, by_capacity
from pipeline.sim.loop.reports import HEALTH_S, News
from pipeline.sim.loop.tally import sums

POLL_S, TIMEOUT_S = 6, 2
_FREE_BPS, _FREE_SHARE = 1_750_000_000.0, 0.1
_QUERY_MS = 1_000


class Availability:
    """Every appliance is polled at its own second of six."""

    def __init__(self, layout: Layout) -> None:
        size = len(layout.site)
        self._layout, self._second = layout, 0
        self._heard_s = np.zeros(size, np.int64)
        self._good = np.ones(size, bool)  # by the newest report
        self._available = np.ones(size, bool)  # as of the last poll
        self._turn = np.arange(size) % POLL_S
        self._table = self._route()

    def decide(self, news: News) -> Followed:
        self._second += 1
        told = news.get("health")
        if told is not None:
            which = told["appliance"]
            free = told["capacity_bps"] - told["egress_bps"]
            enough = np.minimum(_FREE_BPS, _FREE_SHARE * told["capacity_bps"])
            out = (told["service"] == DRAINING) | (told["service"] == FAILED)
            self._good[which] = (free > enough) & (told["ttfb_ms"] < _QUERY_MS) & ~out
            self._heard_s[which] = self._second
        polled = self._turn == self._second % POLL_S
        answered = self._second - self._heard_s <= HEALTH_S + TIMEOUT_S
        now = np.where(polled, self._good & answered, self._available)
        if (now != self._available).any():
            self._available = now
            self._table = self._route()
        return self._table

    def _route(self) -> Followed:
        """Each network to its nearest site with anything available."""
        layout = self._layout
        open_site = sums(layout.site, self._available, layout.sites + 1) > 0
        able: Bools = open_site[layout.candidate] & (layout.candidate >= 0)
        some: Bools = able.max(axis=1)
        share = all_to(layout, able.argmax(axis=1), some)
        return Followed(share, by_capacity(layout, self._available.astype(np.float64)))
