"""The viewers: sessions that start, play, stall, change bitrate, move and stop.

Idea: a fixed number of seats, each taken by one session after another, each reporting once per
heartbeat interval at its own moment. So the rate of events is exact, a step touches only the seats
whose moment it is, and all of it is columns.
Rule: clients by Zipf over the prefixes of a region, regions by their share and time of day; a
viewer is sent to the nearest site that has room and spread inside it by weight. Who fails over says
so within two seconds; otherwise a session asks again now and then, as players do, so that load
follows the weights.
Source: traffic per prefix is Zipf, exponent about 1; the evening peak is at 20:30 local time.
Rejected: an event queue (a Python object per event).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.sim.networks import Ground
from pipeline.sim.plant import FAILED, USABLE, Plant

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]
Idx = npt.NDArray[np.intp]

#: The columns of some play events, and of each its client as hi and lo and its region.
Events = dict[str, npt.NDArray[Any]]

START, HEARTBEAT, BITRATE, STALL, STOP, FAILOVER = range(6)
DAY_MS = 86_400_000
PEAK_HOUR = 20.5
ZIPF_EXPONENT, ZIPF_SHIFT = 1.0, 3.0
FILES = 50_000
#: Index of a viewer's class: VOD, LIVE, GAME.
_CLASS_SHARES = np.array([0.74, 0.25, 0.01])
_LENGTH_MS = np.array([300_000, 600_000, 720_000])
_LADDERS_BPS = np.array(
    [
        [3_000_000, 5_000_000, 8_000_000, 16_000_000],
        [3_500_000, 6_000_000, 8_000_000, 12_000_000],
        [15_000_000, 20_000_000, 25_000_000, 35_000_000],
    ]
)
_LADDER_SHARES = np.array([0.15, 0.35, 0.35, 0.15])
MEAN_BPS = float((_CLASS_SHARES[:, None] * _LADDERS_BPS * _LADDER_SHARES).sum())
#: Where the room of a site ends for new viewers.
_FULL = 0.97
_RESTEER, _DRAIN = 0.08, 0.25  # share that asks again at a heartbeat: ever, and while draining
_STALL, _SWITCH = 0.004, 0.03

#: (session, region, prefix, hi, lo, class) of viewers -> appliance each, -1 where there is none.
Steering = Callable[[I64, I32, I32, U64, U64, I32], I32]


def region_shares(weights: F64, lons: F64, at_ms: int) -> F64:
    """Each region's share of all viewers at a time of day."""
    hour = (at_ms % DAY_MS) / 3_600_000 + lons / 15.0
    wave = 0.68 + 0.32 * np.cos((hour - PEAK_HOUR) * (np.pi / 12))
    load = weights * wave
    shares: F64 = load / load.sum()
    return shares


def peak_shares(weights: F64, lons: F64) -> F64:
    """Each region's largest share over the day."""
    day = [region_shares(weights, lons, at) for at in range(0, DAY_MS, DAY_MS // 96)]
    peak: F64 = np.max(day, axis=0)
    return peak


class Demand:
    """Who the viewers of each region are: popularity over its prefixes."""

    def __init__(self, rng: np.random.Generator, ground: Ground) -> None:
        regions = len(ground.regions)
        self.weights = np.array([area.weight for area in ground.regions])
        self.lons = np.array([area.lon for area in ground.regions])
        self.prefixes: list[I32] = []
        self._cumulative: list[F64] = []
        popularity = np.zeros(len(ground.prefixes))
        for region in range(regions):
            mine = np.flatnonzero(ground.prefix_region == region).astype(np.int32)
            mine = rng.permutation(mine)
            if region == 0:  # the documentation networks are popular ones
                rest = mine[mine > 1]
                mine = np.concatenate([rest[:4], np.array([0, 1], dtype=np.int32), rest[4:]])
            weight = 1.0 / (np.arange(mine.size) + ZIPF_SHIFT) ** ZIPF_EXPONENT
            weight /= weight.sum()
            popularity[mine] = weight
            self.prefixes.append(mine)
            self._cumulative.append(np.cumsum(weight))
        #: of each prefix within its region
        self.popularity = popularity

    def draw(self, region: I32, uniform: F64) -> I32:
        """A prefix for each viewer of a region."""
        out = np.empty(region.size, dtype=np.int32)
        for number, mine in enumerate(self.prefixes):
            here = region == number
            rank = np.searchsorted(self._cumulative[number], uniform[here], side="right")
            out[here] = mine[np.minimum(rank, mine.size - 1)]
        return out

    def site_peak_bps(self, ground: Ground, nearest: I32, sessions: int) -> F64:
        """What each site is asked at its region's peak when everybody goes to the nearest."""
        peak = peak_shares(self.weights, self.lons) * sessions * MEAN_BPS
        weights = self.popularity * peak[ground.prefix_region]
        asked = np.bincount(nearest, weights=weights, minlength=len(ground.sites.names))
        return asked.astype(np.float64)


class Router:
    """Which appliance takes a viewer: by the nearest site with room, then by weight. `choices`: the
    sites of each prefix, nearest first, -1 none."""

    def __init__(self, choices: I32, plant: Plant) -> None:
        self._choices, self._plant = choices, plant
        self.service = np.zeros(len(plant.names), dtype=np.uint8)
        self.refresh(np.zeros(len(plant.names)))

    def refresh(self, load_bps: F64) -> None:
        """Take note of the load and of changed services."""
        plant = self._plant
        usable = plant.capacity_bps * USABLE[self.service]
        sites = plant.site_start.size - 1
        load = np.bincount(plant.site, weights=load_bps * (usable > 0), minlength=sites)
        room = np.bincount(plant.site, weights=usable, minlength=sites)
        self._site_full = load >= room * _FULL
        self._cumulative, self._base, self._total = [], [], []
        for bit in (1, 2, 4):
            mine = np.where(plant.serves & bit, usable, 0.0)
            running = np.concatenate([[0.0], np.cumsum(mine)])
            self._cumulative.append(running[1:])
            self._base.append(running[plant.site_start[:-1]])
            self._total.append(running[plant.site_start[1:]] - running[plant.site_start[:-1]])

    def route(self, prefix: I32, traffic_class: I32, uniform: F64) -> I32:
        """The appliance of each viewer; -1 where no site of its list can serve it at all."""
        choices = self._choices[prefix]
        can = np.zeros(choices.shape, dtype=bool)
        for index in range(3):
            here = traffic_class == index
            can[here] = self._total[index][choices[here]] > 0
        can &= choices >= 0
        free = can & ~self._site_full[choices]
        rank = np.where(free.any(axis=1), free.argmax(axis=1), can.argmax(axis=1))
        site = np.where(can.any(axis=1), choices[np.arange(rank.size), rank], -1)
        appliance = np.full(prefix.size, -1, dtype=np.int32)
        for index in range(3):
            here = (traffic_class == index) & (site >= 0)
            total = self._base[index][site[here]] + uniform[here] * self._total[index][site[here]]
            appliance[here] = np.searchsorted(self._cumulative[index], total, side="right")
        return np.minimum(appliance, self.service.size - 1)


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
        self._next_session = 1
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
        due = np.arange(self._slot[phase_step], self._slot[phase_step + 1])
        at_ms = begin + self.phase_ms[due]
        moved: list[Idx] = []
        while self._urgent and self._urgent[0][0] <= step:
            moved.append(self._urgent.pop(0)[1])
        lost = np.concatenate(moved) if moved else np.empty(0, dtype=np.intp)
        lost = lost[~self.fresh[lost]]
        if lost.size:
            due = np.concatenate([due, lost])
            late = np.full(lost.size, step * self._step_ms + self._step_ms - 1)
            at_ms = np.maximum(np.concatenate([at_ms, late]), self.last_ms[due])
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
        kind[lost] = FAILOVER
        kind[ended] = STOP
        kind[fresh] = START
        again = draw[1] < np.where(USABLE[service] == 0, _DRAIN, _RESTEER)
        ask = lost | fresh | (again & ~ended)
        before = at.copy()
        self.appliance[due[ask]] = self._steer(due[ask])
        changed = self.appliance[due]
        served = np.where(lost | fresh, changed, before)
        gone = (at_ms - self.last_ms[due]).astype(np.int64)
        stalled = np.where(kind == STALL, (draw[2] * 3000).astype(np.int64), 0)
        stalled = np.where(kind == FAILOVER, np.minimum(gone, 400), stalled)
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
        self.bitrate_bps[change] = self._bitrates(self.traffic_class[change])
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
        sort = np.searchsorted(np.cumsum(_CLASS_SHARES)[:-1], draw[2], "right").astype(np.int32)
        self.region[seats], self.prefix[seats], self.traffic_class[seats] = region, prefix, sort
        self.hi[seats], self.lo[seats] = clients(rng, ground, prefix)
        self.file[seats] = (FILES ** draw[3]).astype(np.int32)
        self.bitrate_bps[seats] = self._bitrates(sort)
        length = rng.standard_exponential(count) * _LENGTH_MS[sort]
        self.end_ms[seats] = at_ms + 1000 + length.astype(np.int64)
        self.session[seats] = self._next_session + np.arange(count)
        self._next_session += count
        self.last_ms[seats] = at_ms
        self.fresh[seats] = True
        self.appliance[seats] = -1

    def _bitrates(self, sort: I32) -> I64:
        step = np.searchsorted(np.cumsum(_LADDER_SHARES)[:-1], self._rng.random(sort.size), "right")
        return _LADDERS_BPS[sort, step].astype(np.int64)

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


def clients(rng: np.random.Generator, ground: Ground, prefix: I32) -> tuple[U64, U64]:
    """An address (hi, lo) inside each prefix. A prefix's viewers live in at most eight /24 or /48
    blocks of it, most of them in the first."""
    prefixes = ground.prefixes
    start, bits, is_ipv4 = prefixes.start[prefix], prefixes.bits[prefix], prefixes.is_ipv4[prefix]
    draw = rng.random((2, prefix.size))
    spare = np.where(is_ipv4, 24, 48) - bits.astype(np.int64)
    blocks = np.left_shift(np.int64(1), np.minimum(spare, 3))
    block = (draw[0] ** 2 * blocks).astype(np.uint64)
    # blocks lie apart: the block's number fills the bits right behind the prefix
    base = start | (block << (64 - bits.astype(np.int64) - np.minimum(spare, 3)).astype(np.uint64))
    host = (draw[1] * 254 + 1).astype(np.uint64)
    hi = np.where(is_ipv4, np.uint64(0), base | (host & np.uint64(0xF)))
    lo = np.where(is_ipv4, np.uint64(0xFFFF << 32) | (base >> np.uint64(32)) | host, host)
    return hi, lo
