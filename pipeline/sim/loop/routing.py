"""Routes of the simulated cell: which network hears of which site, how far away, and how it churns.

Rule: a (network, candidate) is routed while the session of the network's ISP with the site is up
and the route itself stands. Background churn comes in bursts: most changes lengthen or restore an
AS path, some withdraw a route for seconds to a minute, and they fall on few routes again and
again.
Source: measured on the RIS updates of 2016-08-11 16:00 (300 s, 45 peers, 41,212 elements): 5 of 100
are withdrawals; all fall on 1,717 of some 600,000 prefixes; a second brings 137 on average with a
deviation of 156: a Poisson rate that itself is gamma-distributed with shape (137 / 156) ** 2.
Rejected: the updates themselves. Their prefixes are not those of this world, what would be left of
them is how many come when, and that is what is drawn here.
"""

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop.layout import Layout

I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CHURN_PER_S = 137 / (600_000 * 45)  # of each route
_BURST_SHAPE = 0.77
_WITHDRAWALS = 0.05
_RESTLESS = 0.02  # of the routes: where all but a tenth of the changes fall
_ELSEWHERE = 0.1
_GONE_S = (5, 60)
_UNROUTED = np.int64(1) << 40


class Routing:
    """`nearest` int64[B]: the candidate that routing prefers now; `changed`: what changed in the
    last second, for the routes' reports."""

    def __init__(self, layout: Layout, rng: np.random.Generator) -> None:
        self._layout, self._rng = layout, rng
        self._valid = layout.candidate >= 0
        self._session_site = np.where(self._valid, layout.candidate, 0)
        self._isp = layout.isp[:, None]
        self._routes = np.flatnonzero(self._valid.reshape(-1))
        restless = max(1, round(len(self._routes) * _RESTLESS))
        self._restless = rng.choice(self._routes, restless, replace=False)
        self.longer = np.zeros(self._valid.size, bool)  # one AS prepended
        self._back_s: I64 = np.full(self._valid.size, -(1 << 40), np.int64)
        self.session: Bools = np.ones((layout.sites, layout.size.isps), bool)
        self.stands: Bools = self._valid.reshape(-1).copy()
        self.routed: Bools = self._valid.copy()
        self.changed: I64 = np.empty(0, np.int64)
        self.sessions_changed: I64 = np.empty(0, np.int64)
        self.nearest = self._nearest()

    def step(self, second: int, session: Bools) -> Bools:
        """One second; whether each (network, candidate) is routed in it."""
        rng = self._rng
        rate = CHURN_PER_S * len(self._routes) / _BURST_SHAPE
        count = rng.poisson(rate * rng.standard_gamma(_BURST_SHAPE))
        pick = np.where(
            rng.random(count) >= _ELSEWHERE,
            self._restless[rng.integers(len(self._restless), size=count)],
            self._routes[rng.integers(len(self._routes), size=count)],
        )
        gone = rng.random(count) < _WITHDRAWALS
        self._back_s[pick[gone]] = second + rng.integers(*_GONE_S, size=int(gone.sum()))
        self.longer[pick[~gone]] ^= True
        stands = (self._back_s <= second) & self._valid.reshape(-1)
        flipped = np.flatnonzero(stands != self.stands)
        self.changed = np.unique(np.concatenate([pick[~gone], flipped]))
        self.sessions_changed = np.flatnonzero((session != self.session).reshape(-1))
        self.session, self.stands = session, stands
        if len(self.changed) or len(self.sessions_changed):
            self.routed = stands.reshape(self._valid.shape) & session[self._session_site, self._isp]
            self.nearest = self._nearest()
        return self.routed

    def hops(self) -> npt.NDArray[np.int64]:
        """AS-path length of every route, as announced now."""
        longer = self.longer.reshape(self._valid.shape)
        return self._layout.hops.astype(np.int64) + longer

    def _nearest(self) -> I64:
        return nearest_of(self._layout, self.hops(), self.routed)


def nearest_of(layout: Layout, hops: npt.NDArray[np.int64], routed: Bools) -> I64:
    """The candidate of each network with the shortest AS path, then the fewest kilometres."""
    key = np.where(routed, hops * 100_000 + layout.km, _UNROUTED)
    found: I64 = key.argmin(axis=1)
    return found
