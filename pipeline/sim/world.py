"""A seeded world: fleet, routes, viewers and what goes wrong, as a function of virtual time.

    world = World(seed=1, size=SimSize(), start_ms=0)
    world.inventory(), world.routes(), world.roll_call()      # what is there at the start
    world.tick(now_ms)                                         # everything that happened up to now
    world.command("FAIL", "fra-ix1-a03", now_ms)               # and what a person does to it

Rule: time moves in steps of STEP_MS, and each subsystem draws from a stream of its own, so the
records depend on the seed, the time and the commands, and not on how often `tick` is called.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError
from pipeline.feeds import keys
from pipeline.sim import encode, networks, plant, telemetry
from pipeline.sim.demand import Demand
from pipeline.sim.rib import Rib
from pipeline.sim.router import Router, Steering
from pipeline.sim.size import SimSize
from pipeline.sim.telemetry import HEALTH_MS, LINK_MS, Meters, Probes, Rows, Stagger
from pipeline.sim.viewers import Events, Viewers
from pipeline.wire.encode import encode as encode_record

STEP_MS = 100
_STEPS_PER_S = 1000 // STEP_MS
_ROUTES_CHUNK = 20_000
_CHOICES = 4  # sites that a viewer may be sent to
#: Command -> the state of service that it leads to.
ACTIONS = {
    "FAIL": plant.FAILED,
    "DRAIN": plant.DRAINING,
    "FILL": plant.FILLING,
    "RECOVER": plant.OK,
}
Idx = npt.NDArray[np.intp]


class World:
    """`start_ms`: virtual time at which it begins; `size`: how large it is."""

    def __init__(self, seed: int, size: SimSize, start_ms: int) -> None:
        streams = np.random.SeedSequence(seed).spawn(6)
        layout, routes, seats, meters, probes, churn = (
            np.random.Generator(np.random.PCG64(stream)) for stream in streams
        )
        self.size, self.now_ms = size, start_ms // STEP_MS * STEP_MS
        self.ground = networks.build(layout, size)
        self.rib = Rib(routes, self.ground, size.heard_at)
        self._demand = Demand(layout, self.ground)
        nearest = self.rib.nearest_sites(_CHOICES)
        peak = self._demand.site_peak_bps(self.ground, nearest[:, 0], size.sessions)
        self.plant = plant.build(layout, self.ground, size.appliances, peak)
        self._inventory_rng = layout
        self.router = Router(nearest, self.plant)
        self._step = start_ms // STEP_MS  # the next one to come
        self.viewers = Viewers(
            seats, self.ground, self._demand, self.router,
            size.sessions, size.heartbeat_ms, STEP_MS, self.now_ms,
        )  # fmt: skip
        self._meters, self._probes = Meters(meters, self.plant), Probes(probes, self.ground)
        self._probe_rng, self._churn_rng = probes, churn
        self._returning: list[tuple[int, int]] = []  # (step, route) of flaps
        self._health_due = Stagger(size.appliances, HEALTH_MS, STEP_MS)
        self._link_due = Stagger(len(self.plant.links), LINK_MS, STEP_MS)
        self._names = encode.texts(self.plant.names)
        self._index = {name: number for number, name in enumerate(self.plant.names)}
        self._site_index = {name: number for number, name in enumerate(self.ground.sites.names)}
        self._by_prefix = np.argsort(self.rib.prefix, kind="stable")
        self._prefix_first = np.searchsorted(
            self.rib.prefix[self._by_prefix], np.arange(len(self.ground.prefixes) + 1)
        )
        self._take_stock()

    # -- the start ---------------------------------------------------------------------------------

    def inventory(self) -> Iterator[Rows]:
        """The whole fleet; call once."""
        return telemetry.inventory(self._inventory_rng, self.ground, self.plant)

    def routes(self) -> Iterator[Rows]:
        """Every session comes up, announces what it has, and says that this was all; by region."""
        everything = np.arange(len(self.rib))
        for number, area in enumerate(self.ground.regions):
            sessions = np.flatnonzero(self.ground.sites.region[self.rib.sessions.site] == number)
            yield self._session_rows("PeerUp", area.id, sessions)
            mine = np.flatnonzero(self.rib.region_of(self.rib.session_of(everything)) == number)
            for start in range(0, mine.size, _ROUTES_CHUNK):
                yield self._route_rows(area.id, mine[start : start + _ROUTES_CHUNK])
            yield self._session_rows("EndOfRib", area.id, sessions)

    def roll_call(self) -> list[Rows]:
        """Health of every appliance, now."""
        return self._health(np.arange(len(self.plant.names)), self.now_ms)

    # -- time --------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> list[Rows]:
        """Everything that happens after the last tick's time and up to `now_ms`."""
        found: list[Rows] = []
        events: list[Events] = []
        while (self._step + 1) * STEP_MS <= now_ms:
            step = self._step
            self._step, self.now_ms = step + 1, (step + 1) * STEP_MS
            if step % _STEPS_PER_S == 0:
                self._take_stock()
                found += self._paths(self.now_ms)
            events.append(self.viewers.step(step, self._pressure))
            found += self._health(self._health_due.due(step), self.now_ms)
            found += self._links(self._link_due.due(step), self.now_ms)
            found += self._churn(step)
        return found + self._plays(events)

    def skip_to(self, now_ms: int) -> None:
        """Go on at `now_ms` as if no time had passed: publishing the start took this long."""
        self.viewers.skip(self.now_ms, now_ms // STEP_MS * STEP_MS)
        self._step = now_ms // STEP_MS
        self.now_ms = self._step * STEP_MS

    def command(self, action: str, entity: str) -> list[Rows]:
        """Do what a person asks to an appliance or to every one of a site; the health reports that
        say so at once. Raises UsageError for what there is not."""
        which = self._resolve(entity)
        if action not in ACTIONS:
            raise UsageError(f"{action!r}: there are {', '.join(ACTIONS)}")
        self.router.service[which] = ACTIONS[action]
        self.router.refresh(self._load)
        if ACTIONS[action] == plant.FAILED:
            self.viewers.abandon(which, self.now_ms)
        return self._health(which, self.now_ms)

    def follow(self, steering: Steering | None) -> None:
        """Let viewers go where `steering` says; None: to the nearest site with room."""
        self.viewers.steering = steering

    # -- inside ------------------------------------------------------------------------------------

    def _resolve(self, entity: str) -> Idx:
        if entity in self._index:
            return np.array([self._index[entity]])
        if entity in self._site_index:
            return np.flatnonzero(self.plant.site == self._site_index[entity])
        raise UsageError(f"{entity!r} is no appliance and no site of this simulation")

    def _take_stock(self) -> None:
        count = len(self.plant.names)
        self._load, self._sessions = self.viewers.load_bps(count), self.viewers.counts(count)
        self._pressure = self._load / self.plant.capacity_bps
        self.router.refresh(self._load)

    def _by_region(
        self, topic: str, record: str, columns: Mapping[str, encode.Column],
        named: list[bytes], region: npt.NDArray[np.integer],
    ) -> list[Rows]:  # fmt: skip
        """Encode once, deal out by region."""
        if not named:
            return []
        values = encode.encode_rows(record, columns)
        found = []
        for number, area in enumerate(self.ground.regions):
            mine = np.flatnonzero(region == number).tolist()
            if mine:
                found.append(
                    Rows(topic, area.id, [named[at] for at in mine], [values[at] for at in mine])
                )
        return found

    def _plays(self, events: list[Events]) -> list[Rows]:
        if not events:
            return []
        joined = {name: np.concatenate([each[name] for each in events]) for name in events[0]}
        columns = telemetry.play_columns(joined, self._names)
        named = [keys.play_key(session) for session in joined["session"].tolist()]
        # a play belongs to the region of the appliance that served it
        region = self.ground.sites.region[self.plant.site[joined["appliance"]]]
        return self._by_region("play.events", "PlayEvent", columns, named, region)

    def _health(self, which: Idx, at_ms: int) -> list[Rows]:
        columns = self._meters.health(which, at_ms, self.router.service, self._load, self._sessions)
        named = [self._meters.appliance_keys[at] for at in which.tolist()]
        region = self.ground.sites.region[self.plant.site[which]]
        return self._by_region("appliance.health", "Health", columns, named, region)

    def _links(self, which: Idx, at_ms: int) -> list[Rows]:
        columns = self._meters.links(which, at_ms, self._load)
        named = [self._meters.link_keys[at] for at in which.tolist()]
        region = self.ground.sites.region[self.plant.link_site[which]]
        return self._by_region("traffic.links", "LinkSample", columns, named, region)

    def _paths(self, at_ms: int) -> list[Rows]:
        """A second's samples: popular prefixes, each from every site that hears it."""
        rng, count = self._probe_rng, max(4, self.size.rate // 250)
        region = rng.integers(len(self.ground.regions), size=count).astype(np.int32)
        prefixes = np.unique(self._demand.draw(region, rng.random(count)))
        first, end = self._prefix_first[prefixes], self._prefix_first[prefixes + 1]
        routes = np.concatenate([self._by_prefix[a:b] for a, b in zip(first, end, strict=True)])
        routes = routes[self.rib.alive[routes]]
        hears = self.rib.sessions.site[self.rib.session_of(routes)]
        pairs = np.unique(np.stack([self.rib.prefix[routes], hears], axis=1), axis=0)
        prefix, site = pairs.astype(np.intp).T
        columns = self._probes.columns(site, prefix, at_ms)
        return self._by_region(
            "traffic.paths", "PathSample", columns, self._probes.keys(site, prefix),
            self.ground.sites.region[site],
        )  # fmt: skip

    def _churn(self, step: int) -> list[Rows]:
        """Routes that flap, lengthen and change their MED."""
        rng = self._churn_rng
        changed: list[int] = []
        while self._returning and self._returning[0][0] <= step:
            route = self._returning.pop(0)[1]
            self.rib.alive[route] = True
            changed.append(route)
        for route in rng.integers(
            len(self.rib), size=rng.poisson(self.size.churn_per_s / _STEPS_PER_S)
        ).tolist():
            if not self.rib.alive[route] or route in changed:
                continue
            draw = rng.random()
            if draw < 0.4:
                self.rib.alive[route] = False
                self._returning.append((step + int(rng.integers(50, 300)), route))
                self._returning.sort()
            elif draw < 0.7:
                self.rib.prepended[route] ^= 1
            else:
                self.rib.change_med(route, int(rng.integers(256)))
            changed.append(route)
        if not changed:
            return []
        routes = np.array(changed)
        return self._by_region(
            "bgp.routes", "Route", self.rib.columns(routes, self.now_ms), self.rib.keys(routes),
            self.rib.region_of(self.rib.session_of(routes)),
        )  # fmt: skip

    def _route_rows(self, region: str, routes: Idx) -> Rows:
        values = encode.encode_rows("Route", self.rib.columns(routes, self.now_ms))
        return Rows("bgp.routes", region, self.rib.keys(routes), list(values))

    def _session_rows(self, record: str, region: str, sessions: Idx) -> Rows:
        key = keys.session_key if record == "PeerUp" else keys.end_of_rib_key
        named, values = [], []
        for number in sessions.tolist():
            site = self.ground.sites.names[self.rib.sessions.site[number]]
            peer = self.rib.sessions.peer[number]
            said: dict[str, object] = {"site": site, "peer": peer, "at_ms": self.now_ms}
            if record == "PeerUp":
                said["peer_asn"] = self.rib.sessions.asn[number]
            named.append(key(site, peer))
            values.append(encode_record(record, said))
        return Rows("bgp.routes", region, named, list(values))
