"""Routes and their ranking as the rules read, one at a time: dicts, whole numbers, no inheritance.

`OracleRoutes` applies records in order. `ranked` looks at all announced prefixes around a prefix,
for every site by itself, where the tables inherit; so the two share nothing but the rule (and the
distance, which has a test of its own).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.config import DampingConfig
from pipeline.decide.distance import distance_km, points
from pipeline.state.fleet import Fleet
from tests.damping_oracle import OracleDamping

Key = tuple[str, str, bytes, int]  # site, peer, prefix, path id
Attributes = tuple[int, int | None]  # AS-path length, MED
#: site, tier, AS-path length, MED, RTT, kilometres (-1: not needed), 1 where its route flaps, 2
#: where its path loses
Entry = tuple[str, int, int, int, int, int, int]
#: Whether it flaps, AS-path length, MED: the least of a site's routes stands for it.
Best = tuple[bool, int, int]
WORST = 2**32 - 1


def covers(outer: bytes, inner: bytes) -> bool:
    length = outer[16]
    shift = 128 - length
    same = int.from_bytes(outer[:16], "big") >> shift == int.from_bytes(inner[:16], "big") >> shift
    return length <= inner[16] and same


@dataclass
class OracleRoutes:
    routes: dict[Key, Attributes] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    damping: OracleDamping = field(default_factory=OracleDamping)
    config: DampingConfig = field(default_factory=DampingConfig)

    def announce(self, key: Key, attributes: Attributes) -> None:
        held = self.routes.get(key)
        self.notes["duplicate"] += held == attributes
        if held not in (None, attributes):
            self.damping.added[key] += self.config.change_penalty
        self.damping.announced(key[:2])
        self.routes[key] = attributes

    def withdraw(self, key: Key) -> None:
        known = self.routes.pop(key, None) is not None
        self.notes["withdrawn_unknown"] += not known
        if known:
            self.damping.added[key] += self.config.withdrawal_penalty

    def damped(self, key: Key) -> bool:
        return key in self.damping.damped or key[:2] in self.damping.damped

    def flush(self, site: str, peer: str, *, down: bool) -> None:
        if down:
            self.damping.went_down((site, peer), self.config)
        gone = [key for key in self.routes if key[:2] == (site, peer)]
        self.notes["peer_flush"] += len(gone)
        for key in gone:
            del self.routes[key]


@dataclass
class World:
    """What ranking may know of a region."""

    fleet: Fleet
    region: int
    rtt_step: Mapping[tuple[str, bytes], int]  # (site, prefix)
    lossy: set[tuple[str, bytes]]
    missing_med: str
    sites_max: int

    def sites(self) -> dict[str, int]:
        fleet = self.fleet
        return {
            name: at
            for at, name in enumerate(fleet.sites.names)
            if fleet.site_alive[at] and fleet.site_region[at] == self.region
        }

    def km(self, site: int, prefix: bytes) -> int:
        fleet, best = self.fleet, -1
        lat, lon = fleet.region_lat[self.region], fleet.region_lon[self.region]
        for row in range(len(fleet.network_hi)):
            length = int(fleet.network_length[row])
            halves = (int(fleet.network_hi[row]) << 64) | int(fleet.network_lo[row])
            network = halves.to_bytes(16, "big") + bytes([length])
            mine = fleet.network_region[row] == self.region
            if mine and length > best and covers(network, prefix):
                best, lat, lon = length, fleet.network_lat[row], fleet.network_lon[row]
        there = points(np.array([lat]), np.array([lon]))
        here = points(fleet.site_lat[site : site + 1], fleet.site_lon[site : site + 1])
        return int(distance_km(here, there)[0])


def own_ranking(announced: Mapping[str, Best], prefix: bytes, world: World) -> list[Entry]:
    """The sites that announce `prefix` itself, in order, tier 0."""
    sites = world.sites()
    found = []
    for name, (damped, hops, med) in announced.items():
        by_path = [one for one, key in announced.items() if key[1] == hops]
        tie = [one for one, key in announced.items() if key[1:] == (hops, med)]
        steps = {one: world.rtt_step.get((one, prefix), -1) for one in tie}
        step = steps[name] if len(tie) > 1 and min(steps.values()) >= 0 else -1
        still = [one for one in tie if step < 0 or steps[one] == step]
        km = world.km(sites[name], prefix) if len(still) > 1 else -1
        last = 2 if (name, prefix) in world.lossy else int(damped)
        entry = (name, 0, hops, med if len(by_path) > 1 else -1, _ms(step), km, last)
        found.append(((hops, med, step, km, name), entry))
    return [entry for _, entry in sorted(found)]


def _ms(step: int) -> int:
    return step if step < 0 else 10 * step


def table(routes: OracleRoutes, world: World) -> dict[bytes, list[Entry]]:
    """Every prefix that a site of the region announces, and its ranking."""
    sites = world.sites()
    best: dict[bytes, dict[str, Best]] = {}
    for route, (hops, med) in routes.routes.items():
        site, _, prefix, _ = route
        if site in sites:
            absent = WORST if world.missing_med == "worst" else 0
            key = (routes.damped(route), hops, absent if med is None else med)
            at = best.setdefault(prefix, {})
            at[site] = min(at.get(site, key), key)
    own = {prefix: own_ranking(announced, prefix, world) for prefix, announced in best.items()}
    return {prefix: ranked(prefix, own, world) for prefix in best}


def ranked(prefix: bytes, own: Mapping[bytes, list[Entry]], world: World) -> list[Entry]:
    """Every site by its longest announcement around `prefix`."""
    around = sorted((one for one in own if covers(one, prefix)), key=lambda one: -one[16])
    out: list[Entry] = []
    seen: set[str] = set()
    tier = 0
    for cover in around:
        news = [entry for entry in own[cover] if entry[0] not in seen]
        out += [(entry[0], tier, *entry[2:]) for entry in news]
        seen |= {entry[0] for entry in news}
        tier += bool(news)
    return out[: world.sites_max]
