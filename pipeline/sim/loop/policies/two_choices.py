"""The nearest site, and within it the less loaded of two appliances drawn at random.

Source: power of two choices (Mitzenmacher 1996); Netflix's edge load balancer draws two and takes
the one whose server-reported utilisation is lower (DOMAIN). Probes that are too old are not used
(Prequal); here a report is, after three of its periods.
Rule: of n appliances that report OK and were heard, each pair is as likely; an appliance gets those
pairs in which it is the less loaded, ties by halves. Where only one is left it gets everything,
where none is left all get the same.
"""

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.faults import OK
from pipeline.sim.loop.layout import Layout
from pipeline.sim.loop.policy import Routes, all_to
from pipeline.sim.loop.reports import HEALTH_S, News
from pipeline.sim.loop.tally import sums

EXPIRY_S = 3 * HEALTH_S


class TwoChoices:
    """Knows the newest load of every appliance."""

    def __init__(self, layout: Layout) -> None:
        self._layout, self._routes, self._second = layout, Routes(layout), 0
        self._share = all_to(layout, self._routes.nearest())
        self._load = np.zeros(len(layout.site))
        self._ok = np.ones(len(layout.site), bool)
        self._heard_s = np.zeros(len(layout.site), np.int64)

    def decide(self, news: News) -> Followed:
        self._second += 1
        if self._routes.fold(news):
            self._share = all_to(self._layout, self._routes.nearest())
        told = news.get("health")
        if told is not None:
            which = told["appliance"]
            self._load[which] = told["load"]
            self._ok[which] = told["service"] == OK
            self._heard_s[which] = self._second
        drawn = self._ok & (self._second - self._heard_s <= EXPIRY_S)
        return Followed(self._share, chances(self._layout, self._load, drawn))


def chances(
    layout: Layout, load: npt.NDArray[np.float64], drawn: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Chance of each appliance to be the less loaded of two that are drawn at its site."""
    unknown = (sums(layout.site, drawn, layout.sites) == 0)[layout.site]
    drawn, load = drawn | unknown, np.where(unknown, 0.0, load)
    which = np.flatnonzero(drawn)
    which = which[np.lexsort((load[which], layout.site[which]))]
    site = layout.site[which]
    count = np.bincount(site, minlength=layout.sites)[site]
    first = np.searchsorted(site, site)
    key = np.column_stack([site, load[which]])
    new = np.ones(len(which), bool)
    new[1:] = (key[1:] != key[:-1]).any(axis=1)
    start = np.flatnonzero(new)
    size = np.diff(np.append(start, len(which)))
    ties = np.repeat(size, size)
    behind = count - (np.repeat(start, size) - first) - ties  # more loaded
    pairs = count * (count - 1) / 2
    wins = behind + (ties - 1) / 2
    out = np.zeros(len(load))
    out[which] = np.where(count > 1, wins / np.maximum(pairs, 1), 1.0)
    return out
