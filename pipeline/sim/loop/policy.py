"""What stands between the reports and the viewers: one interface for all that is compared."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.layout import CLASSES, Layout
from pipeline.sim.loop.reports import News
from pipeline.sim.loop.routing import nearest_of
from pipeline.sim.loop.tally import ratio, sums

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Policy(Protocol):
    """Told what arrived in each second, in order; answers with the table that it publishes."""

    def decide(self, news: News) -> Followed: ...


class Routes:
    """The routes as one who follows their news knows them."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._valid = layout.candidate >= 0
        self._hops = layout.hops.astype(np.int64)
        self._stands = self._valid.copy()
        self._session = np.ones((layout.sites, layout.size.isps), bool)
        self._site = np.where(self._valid, layout.candidate, 0)

    def fold(self, news: News) -> bool:
        """Take over what changed; whether anything did."""
        routes, sessions = news.get("routes"), news.get("sessions")
        if routes is not None:
            at = routes["network"], routes["candidate"]
            self._hops[at], self._stands[at] = routes["hops"], routes["up"]
        if sessions is not None:
            self._session[sessions["site"], sessions["isp"]] = sessions["up"]
        return routes is not None or sessions is not None

    @property
    def routed(self) -> Bools:
        """bool[B, K]"""
        up: Bools = self._stands & self._session[self._site, self._layout.isp[:, None]]
        return up

    def order(self) -> I64:
        """int64[B, K]: the candidates of each network, nearest first; unrouted ones last."""
        key = self._hops * 100_000 + self._layout.km + (~self.routed) * (1 << 40)
        return np.argsort(key, axis=1, kind="stable")

    def nearest(self) -> I64:
        """int64[B]"""
        return nearest_of(self._layout, self._hops, self.routed)


def all_to(layout: Layout, candidate: I64, served: Bools | None = None) -> F64:
    """share[B, C, K] that sends each network to one candidate; those not `served` to none."""
    networks, width = layout.candidate.shape
    share = np.zeros((networks, CLASSES, width))
    share[np.arange(networks), :, candidate] = 1.0
    if served is not None:
        share[~served] = 0.0
    return share


def by_capacity(layout: Layout, usable: F64 | None = None) -> F64:
    """weight[A] in proportion to `usable` (of all ports where None) within each site."""
    amount = layout.port_bps if usable is None else usable
    total = sums(layout.site, amount, layout.sites)[layout.site]
    return ratio(amount, total)
