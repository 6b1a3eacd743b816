"""What the edge says of itself: late, sometimes not at all, by clocks that are off.

Idea: a report is made from what is measured, at the world's rhythm (health every 5 s, links every
10 s, a heartbeat of every (network, class, site) every 10 s, each path every 60 s), and then lies
in a queue until it arrives. A policy sees what has arrived (`News`), nothing else.
Rule: LOSS of all reports are lost; the rest takes DELAY_S on average (exponential, whole seconds).
Clocks are off by 150 ms (standard deviation), one in a hundred by up to 20 s. Dead machines say
nothing. A heartbeat stands for a part (one of SAMPLES) of the viewers of a cohort at a site: it
carries their bytes and bitrates and is said of one of the site's appliances, by lot in proportion
to who sits where, so that evidence falls on appliances as it would. Whoever is without a seat says
nothing.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop import knee
from pipeline.sim.loop.layout import BITRATE_BPS, CLASSES, CONNECTIONS
from pipeline.sim.loop.world import Second, World

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
#: Equally long columns by name.
Columns = dict[str, npt.NDArray[Any]]

HEALTH_S, LINK_S, HEARTBEAT_S, PATH_S = 5, 10, 10, 60
LOSS, DELAY_S, _DELAY_MAX_S = 0.005, 0.5, 10
_DRIFT_MS, _FAR_OFF_MS, _FAR_OFF = 150.0, 20_000.0, 0.01
_REQUESTS_PER_S = 0.8  # of each session: segments of one to two seconds
_ERRORS = 0.002
_PACKETS = 700  # of a segment
_SOME = 0.01  # fewer viewers than this say nothing
_STALL_MIN_MS = 200
#: Heartbeats of each (network, class, site), said of appliances that lie evenly over the site's
#: viewers: two or three a second of an appliance. (Of a real one come hundreds.)
SAMPLES = 8
HEARTBEAT, STALL = 1, 3


@dataclass(slots=True)
class News:
    """What arrived in one second; each kind as columns, absent where nothing came.

    health: appliance, at_ms, service, egress_bps, capacity_bps, cpu, disk, load, connections,
    requests, errors, ttfb_ms, retransmits. links: link, at_ms, used_bps, capacity_bps, drops.
    plays: network, class, appliance, at_ms, bytes, bitrate_bps, event, stall_ms. paths: network,
    candidate, at_ms, rtt_us, loss. routes: network, candidate, hops, up. sessions: site, isp,
    up."""

    now_ms: int
    kinds: dict[str, list[Columns]] = field(default_factory=dict)

    def get(self, kind: str) -> Columns | None:
        """All rows of a kind, in the order of their arrival."""
        parts = self.kinds.get(kind)
        if not parts:
            return None
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Reporter:
    """Measures the world each second and hands out what has arrived."""

    def __init__(self, world: World, seed: int, start_ms: int) -> None:
        self._world, self._layout, self._start_ms = world, world.layout, start_ms
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 3])))
        appliances = len(self._layout.site)
        self._drift_ms = self._rng.normal(0, _DRIFT_MS, appliances)
        far = self._rng.random(appliances) < _FAR_OFF
        self._drift_ms[far] = self._rng.uniform(-_FAR_OFF_MS, _FAR_OFF_MS, int(far.sum()))
        self._due: dict[int, dict[str, list[Columns]]] = {}
        self._owed = np.zeros_like(world.crowd.seated)  # bits delivered and not yet reported
        self._probed = False
        self._pairs = np.flatnonzero(self._layout.candidate.reshape(-1) >= 0)

    def news(self, second: int) -> News:
        """What has arrived by the beginning of this second."""
        return News(self._ms(second), self._due.pop(second, {}))

    def measure(self, second: int, seen: Second) -> None:
        """Everybody whose turn it is reports the second that has just passed."""
        at_ms = self._ms(second + 1) - 1
        self._owed += seen.delivered_bps
        self._health(second, at_ms, seen)
        self._links(second, at_ms, seen)
        self._plays(second, at_ms, seen)
        self._paths(second, at_ms, seen)
        self._routes(second)

    def _ms(self, second: int) -> int:
        return self._start_ms + second * 1000

    def _send(self, second: int, kind: str, columns: Columns, lossy: bool = True) -> None:
        """Put reports made in `second` into the queue."""
        count = len(next(iter(columns.values())))
        late = np.minimum(self._rng.exponential(DELAY_S, count), _DELAY_MAX_S).astype(np.int64)
        if lossy:
            late[self._rng.random(count) < LOSS] = -1
        else:
            late[:] = 0
        for delay in np.unique(late[late >= 0]).tolist():
            rows = late == delay
            arrives = self._due.setdefault(second + 1 + delay, {})
            arrives.setdefault(kind, []).append(
                {name: column[rows] for name, column in columns.items()}
            )

    def _health(self, second: int, at_ms: int, seen: Second) -> None:
        now, layout = seen.conditions, self._layout
        which = np.flatnonzero((np.arange(len(layout.site)) + second) % HEALTH_S == 0)
        noise = self._rng.random((3, len(which)))
        which, noise = which[now.alive[which]], noise[:, now.alive[which]]
        viewers = self._world.crowd.at.sum(axis=0)[which]
        load = seen.load[which]
        requests = (viewers * _REQUESTS_PER_S * HEALTH_S).astype(np.int64)
        failing = _ERRORS * 2 * noise[1] + knee.refused(load)
        columns: Columns = {
            "appliance": which,
            "at_ms": at_ms + self._drift_ms[which].astype(np.int64),
            "service": now.service[which],
            "egress_bps": (seen.egress_bps[which] * (0.99 + 0.02 * noise[0])).astype(np.int64),
            "capacity_bps": layout.port_bps[which].astype(np.int64),
            "cpu": np.round(np.minimum(0.04 + 0.6 * seen.port_load[which], 1.0), 4),
            "disk": np.round(np.minimum(seen.disk_load[which], 1.0), 4),
            "load": load,
            "connections": (CONNECTIONS * viewers).astype(np.int64),
            "requests": requests,
            "errors": (requests * failing).astype(np.int64),
            "ttfb_ms": knee.first_byte_ms(load).astype(np.int64),
            "retransmits": (
                requests * (0.2 + 4 * np.clip(load - 0.9, 0, 1) + _PACKETS * now.cable[which])
            ).astype(np.int64),
        }
        heard = now.heard[which]
        self._send(second, "health", {name: column[heard] for name, column in columns.items()})

    def _links(self, second: int, at_ms: int, seen: Second) -> None:
        layout = self._layout
        which = np.flatnonzero((np.arange(len(layout.link_bps)) + second) % LINK_S == 0)
        capacity = layout.link_bps[which] * seen.conditions.link[which]
        asked = seen.link_load[which] * capacity
        columns: Columns = {
            "link": which,
            "at_ms": np.full(len(which), at_ms),
            "used_bps": np.minimum(seen.link_bps[which], capacity).astype(np.int64),
            "capacity_bps": capacity.astype(np.int64),
            "drops": (np.maximum(asked - capacity, 0) / 12_000).astype(np.int64),
        }
        self._send(second, "links", columns)

    def _plays(self, second: int, at_ms: int, seen: Second) -> None:
        crowd, layout = self._world.crowd, self._layout
        networks, classes, width = crowd.seated.shape
        due = np.flatnonzero((np.arange(networks * classes) + second) % HEARTBEAT_S == 0)
        all_owed, seated = self._owed.reshape(-1, width), crowd.seated.reshape(-1, width)
        row, place = np.nonzero((all_owed[due] >= 8 * SAMPLES) & (seated[due] > _SOME))
        row = due[row]
        network, klass = np.divmod(row.repeat(SAMPLES), classes)
        candidate = place.repeat(SAMPLES)
        appliance = self._whose(klass, layout.candidate[network, candidate])
        good = seen.means.quality[appliance] * seen.means.reach[network, candidate]
        part = np.maximum(good, 1e-9).reshape(-1, SAMPLES)
        part /= part.sum(axis=1, keepdims=True)
        octets = (all_owed[row, place][:, None] / 8 * part).astype(np.int64)
        all_owed[row, place] -= octets.sum(axis=1) * 8.0
        stall_ms = ((1.0 - good) * HEARTBEAT_S * 1000).astype(np.int64)
        stalls = stall_ms >= _STALL_MIN_MS
        asked = seated[row, place].repeat(SAMPLES) * BITRATE_BPS[klass] / SAMPLES
        columns: Columns = {
            "network": network,
            "class": klass,
            "appliance": appliance,
            "at_ms": np.full(len(network), at_ms),
            "bytes": octets.reshape(-1),
            "bitrate_bps": asked.astype(np.int64),
            "event": np.where(stalls, STALL, HEARTBEAT),
            "stall_ms": np.where(stalls, stall_ms, 0),
        }
        arrives = seen.conditions.played[appliance]
        self._send(second, "plays", {name: column[arrives] for name, column in columns.items()})

    def _whose(self, klass: I64, site: npt.NDArray[np.integer]) -> I64:
        """An appliance of the site for each heartbeat, SAMPLES of them lying evenly over where its
        viewers of the class sit."""
        at, layout = self._world.crowd.at, self._layout
        running = np.cumsum(at, axis=1)
        before = np.concatenate([np.zeros((CLASSES, 1)), running], axis=1)
        first = np.searchsorted(layout.site, np.arange(layout.sites + 1))
        low, high = before[klass, first[site]], before[klass, first[site + 1]]
        nth = np.arange(len(klass)) % SAMPLES
        aim = low + (nth + self._rng.random(len(klass))) / SAMPLES * (high - low)
        found = np.empty(len(klass), np.int64)
        for one in range(CLASSES):
            mine = klass == one
            found[mine] = np.searchsorted(running[one], aim[mine], side="right")
        return np.clip(found, first[site], first[site + 1] - 1)

    def _paths(self, second: int, at_ms: int, seen: Second) -> None:
        pairs = self._pairs[second % PATH_S :: PATH_S] if self._probed else self._pairs
        self._probed = True  # all at the beginning: the probes have always run
        network, candidate = np.divmod(pairs, self._layout.candidate.shape[1])
        up = self._world.routing.routed[network, candidate]
        noise = self._rng.random((2, len(pairs)))
        rtt = self._layout.rtt_us[network, candidate] * (0.99 + 0.025 * noise[0])
        lost = np.append(seen.conditions.noise, 0.0)[self._world.link_of[network, candidate]]
        columns: Columns = {
            "network": network,
            "candidate": candidate,
            "at_ms": np.full(len(pairs), at_ms),
            "rtt_us": rtt.astype(np.int64),
            "loss": np.round(np.minimum(0.01 * noise[1] ** 4 + lost, 1.0), 5),
        }
        self._send(second, "paths", {name: column[up] for name, column in columns.items()})

    def _routes(self, second: int) -> None:
        """Routing's own news: a second late, never lost (a session repeats what is lost)."""
        routing, layout = self._world.routing, self._layout
        width = layout.candidate.shape[1]
        if len(routing.changed):
            network, candidate = np.divmod(routing.changed, width)
            self._send(
                second, "routes",
                {
                    "network": network,
                    "candidate": candidate,
                    "hops": routing.hops()[network, candidate],
                    "up": routing.stands[routing.changed],
                },
                lossy=False,
            )  # fmt: skip
        if len(routing.sessions_changed):
            site, isp = np.divmod(routing.sessions_changed, layout.size.isps)
            up = routing.session[site, isp]
            self._send(second, "sessions", {"site": site, "isp": isp, "up": up}, lossy=False)
