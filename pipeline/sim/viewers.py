"""The viewers: sessions that start, play, stall, change bitrate, move and stop.

Idea: a fixed number of seats, each taken by one session after another, each reporting once per
heartbeat interval at its own moment. So the rate of events is exact, a step touches only the seats
whose moment it is, and all of it is columns.
Rule: a viewer is sent to the nearest site that has room and spread inside it by weight. Who fails
over says so within two seconds; otherwise a session asks again now and then, as players do, so that
load follows the weights.
Rejected: an event queue (a Python object per event).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.sim.demand import FILES, LENGTHS_MS, Demand, bitrates, classes, clients, region_shares
from pipeline.sim.networks import Ground
from pipeline.sim.plant import FAILED, USABLE
from pipeline.sim.router import Router, Steering

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Idx = npt.NDArray[np.intp]

#: The columns of some play events, and of each its client as hi and lo and its region.
Events = dict[str, npt.NDArray[Any]]

START, HEARTBEAT, BITRATE, STALL, STOP, FAILOVER = range(6)
_RESTEER, _DRAIN = 0.08, 0.25  # share that asks again at a heartbeat: ever, and while draining
_STALL, _SWITCH = 0.004, 0.03


class Viewers:
    """All seats. `step` moves time on by one step and returns the events of it as columns."""

    def __init__(
        self,
        rng: np.random.Generator,
        ground: Ground,
        demand: Demand,
        router: Router,
        seats: int,
        heartbeat_ms: int,
        step_ms: int,
        now_ms: int,
    ) -> None:
        self._rng, self._ground, self._demand, self._router = rng, ground, demand, router
        self._period, self._step_ms = heartbeat_ms, step_ms
        self.phase_ms = np.sort(rng.integers(heartbeat_ms, size=seats))
        slots = np.arange(0, heartbeat_ms + step_ms, step_ms)
        self._slot = np.searchsorted(self.phase_ms, slots)
        self._next_session = now_ms // 1000 << 20  # unlike those of an earlier run
        self.session = np.zeros(seats, dtype=np.int64)
        self.region = np.zeros(seats, dtype=np.int32)
        self.prefix = np.zeros(seats, dtype=np.int32)
        self.hi = np.zeros(seats, dtype=np.uint64)
        self.lo = np.zeros(seats, dtype=np.uint64)
        self.file = np.zeros(seats, dtype=np.int32)
        self.traffic_class = np.zeros(seats, dtype=np.int32)
        self.bitrate_bps = np.zeros(seats, dtype=np.int64)
        self.appliance = np.full(seats, -1, dtype=np.int32)
        self.end_ms = np.zeros(seats, dtype=np.int64)
        self.last_ms = np.zeros(seats, dtype=np.int64)
        self.fresh = np.zeros(seats, dtype=bool)
        self._urgent: list[tuple[int, Idx]] = []
        #: None: by the world's own idea of who is near and has room.
        self.steering: Steering | None = None
        everyone = np.arange(seats)
        self._seat(everyone, np.full(seats, now_ms, dtype=np.int64))
        self.appliance[:] = self._steer(everyone)
        self.fresh[:] = False
        self._settle(now_ms)

    def skip(self, from_ms: int, to_ms: int) -> None:
        """Nobody watched in between: every session goes on as if no time had passed."""
        self.end_ms += to_ms - from_ms
        self._settle(to_ms)

    def _settle(self, now_ms: int) -> None:
        """Each session's last report was at its last moment before now."""
        self.last_ms[:] = now_ms - 1 - (now_ms - 1 - self.phase_ms) % self._period

    def load_bps(self, appliances: int) -> F64:
        """What each appliance sends now."""
        on = (self.appliance >= 0) & ~self.fresh
        return np.bincount(
            self.appliance[on], weights=self.bitrate_bps[on], minlength=appliances
        ).astype(np.float64)

    def counts(self, appliances: int) -> I64:
        """How many sessions each appliance has."""
        return np.bincount(self.appliance[self.appliance >= 0], minlength=appliances)

    def abandon(self, appliances: Idx, now_ms: int) -> None:
        """These have failed: their viewers notice within half a second to two seconds."""
        lost = np.flatnonzero(np.isin(self.appliance, appliances) & ~self.fresh)
        after = self._rng.integers(500, 2000, size=lost.size)
        due = now_ms + after
        for step in np.unique(due // self._step_ms).tolist():
            self._urgent.append((step, lost[due // self._step_ms == step]))
        self._urgent.sort(key=lambda entry: entry[0])

    def step(self, step: int, pressure: F64) -> Events:
        """The events of one step (number `step` since 1970). `pressure`: utilisation of each
        appliance as of the last refresh; where it is near 1, players stall."""
        phase_step = step % (self._period // self._step_ms)
        begin = step * self._step_ms - phase_step * self._step_ms
        first, last = self._slot[phase_step], self._slot[phase_step + 1]
        due = np.arange(first, last)
        at_ms = begin + self.phase_ms[due]
        while self._urgent and self._urgent[0][0] <= step:
            lost = self._urgent.pop(0)[1]
            # but for those that speak anyway, or have moved or gone since
            stuck = self._router.service[self.appliance[lost]] == FAILED
            lost = lost[stuck & ~self.fresh[lost] & ((lost < first) | (lost >= last))]
            due = np.concatenate([due, lost])
            now_ms = (step + 1) * self._step_ms - 1
            at_ms = np.concatenate([at_ms, np.maximum(self.last_ms[lost], now_ms)])
        return self._events(due, at_ms, pressure)

    def _events(self, due: Idx, at_ms: I64, pressure: F64) -> Events:
        rng, count = self._rng, due.size
        draw = rng.random((3, count))
        fresh = self.fresh[due]
        ended = ~fresh & (self.end_ms[due] <= at_ms)
        at = self.appliance[due]
        service = np.where(at >= 0, self._router.service[at], FAILED)
        lost = ~fresh & ~ended & (service == FAILED)
        stall = draw[0] < _STALL + np.clip(pressure[at] - 0.97, 0, 0.5)
        switch = draw[0] > 1 - _SWITCH
        kind = np.full(count, HEARTBEAT)
        kind[switch] = BITRATE
        kind[stall] = STALL
        kind[lost] = np.where(at[lost] >= 0, FAILOVER, STALL)  # who had none has left none
        kind[ended] = STOP
        kind[fresh] = START
        again = draw[1] < np.where(USABLE[service] == 0, _DRAIN, _RESTEER)
        ask = lost | fresh | (again & ~ended)
        before = at.copy()
        self.appliance[due[ask]] = self._steer(due[ask])
        changed = self.appliance[due]
        served = np.where(fresh | (before < 0), changed, before)  # FAILOVER names what it left
        gone = (at_ms - self.last_ms[due]).astype(np.int64)
        stalled = np.where(kind == STALL, (draw[2] * 3000).astype(np.int64), 0)
        stalled = np.where(lost, np.minimum(gone, 400), stalled)
        bitrate = self.bitrate_bps[due]
        received = np.where(fresh, 0, bitrate * np.maximum(gone - stalled, 0) // 8000)
        columns: Events = {
            "session": self.session[due],
            "at_ms": at_ms,
            "event": kind,
            "hi": self.hi[due],
            "lo": self.lo[due],
            "appliance": served,
            "file": self.file[due],
            "traffic_class": self.traffic_class[due],
            "bytes": received,
            "bitrate_bps": bitrate,
            "startup_ms": np.where(fresh, 150 + (draw[2] ** 3 * 4000).astype(np.int64), 0),
            "stall_ms": stalled,
            "region": self.region[due],
        }
        self.last_ms[due] = at_ms
        self.fresh[due[fresh]] = False
        change = due[kind == BITRATE]
        self.bitrate_bps[change] = bitrates(self.traffic_class[change], rng.random(change.size))
        self._seat(due[ended], at_ms[ended])
        served_at_all = served >= 0
        return {name: column[served_at_all] for name, column in columns.items()}

    def _seat(self, seats: Idx, at_ms: I64) -> None:
        """New sessions take these seats; each says START at its next moment."""
        if not seats.size:
            return
        rng, count = self._rng, seats.size
        demand, ground = self._demand, self._ground
        shares = np.cumsum(region_shares(demand.weights, demand.lons, int(at_ms[0])))
        draw = rng.random((5, count))
        region = np.minimum(np.searchsorted(shares, draw[0], "right"), shares.size - 1)
        region = region.astype(np.int32)
        prefix = demand.draw(region, draw[1])
        sort = classes(draw[2])
        self.region[seats], self.prefix[seats], self.traffic_class[seats] = region, prefix, sort
        self.hi[seats], self.lo[seats] = clients(rng, ground, prefix)
        self.file[seats] = (FILES ** draw[3]).astype(np.int32)
        self.bitrate_bps[seats] = bitrates(sort, draw[4])
        length = rng.standard_exponential(count) * LENGTHS_MS[sort]
        self.end_ms[seats] = at_ms + 1000 + length.astype(np.int64)
        self.session[seats] = self._next_session + np.arange(count)
        self._next_session += count
        self.last_ms[seats] = at_ms
        self.fresh[seats] = True
        self.appliance[seats] = -1

    def _steer(self, seats: Idx) -> I32:
        router, sort = self._router, self.traffic_class[seats]
        uniform = self._rng.random(seats.size)
        own = router.route(self.prefix[seats], sort, uniform)
        if self.steering is None:
            return own
        told = self.steering(
            self.session[seats], self.region[seats], self.prefix[seats],
            self.hi[seats], self.lo[seats], sort,
        )  # fmt: skip
        # nobody stays with an appliance that does not answer, whatever the table says
        answers = (told >= 0) & (router.service[told] != FAILED)
        return np.where(answers, told, own)
