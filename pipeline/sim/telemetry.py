"""What the simulated machines report of themselves: health, links, measured paths, inventory.

Every report follows from the world: egress from the sessions that an appliance has, link use from
its site's egress, RTT from the distance and a habit of each (site, network) pair. Reports are
staggered over their period, so that no step has more of them than another.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.feeds import keys
from pipeline.sim import encode
from pipeline.sim.networks import EMBEDDED, Ground
from pipeline.sim.places import distance_km
from pipeline.sim.plant import FAILED, Plant
from pipeline.sim.prefixes import addresses
from pipeline.sim.viewers import Events
from pipeline.wire.address import format_prefix, parse_address
from pipeline.wire.encode import encode_many

Idx = npt.NDArray[np.intp]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

HEALTH_MS, LINK_MS = 5_000, 10_000
_REQUESTS_PER_S = 0.8  # of each session: segments of one to two seconds
_ERRORS = 0.002
_NETWORKS = 0.9  # share of allocations that the geolocation source knows
_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded records of one topic and region, in order."""

    topic: str
    region: str
    keys: list[bytes]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.keys)


class Stagger:
    """Which of `count` reporters are due in each step of their period."""

    def __init__(self, count: int, period_ms: int, step_ms: int) -> None:
        self._steps = period_ms // step_ms
        due = np.arange(count) * self._steps // max(count, 1)
        self._first = np.searchsorted(due, np.arange(self._steps + 1))

    def due(self, step: int) -> Idx:
        slot = step % self._steps
        return np.arange(self._first[slot], self._first[slot + 1])


class Meters:
    """Health and link reports as columns."""

    def __init__(self, rng: np.random.Generator, plant: Plant) -> None:
        self._rng, self._plant = rng, plant
        self._names, self._links = encode.texts(plant.names), encode.texts(plant.links)
        self.appliance_keys = [keys.entity_key(name) for name in plant.names]
        self.link_keys = [keys.entity_key(name) for name in plant.links]

    def health(
        self, which: Idx, at_ms: int, service: npt.NDArray[np.uint8], load: F64, sessions: I64
    ) -> dict[str, encode.Column]:
        """Reports of these appliances; `service`, `load` (bit/s) and `sessions` are of all."""
        noise = self._rng.random((4, which.size))
        up = service[which] != FAILED
        capacity = self._plant.capacity_bps[which]
        egress = np.where(up, load[which] * (0.99 + 0.02 * noise[0]), 0.0)
        use = egress / capacity
        held = np.where(up, sessions[which], 0)
        seconds = HEALTH_MS / 1000
        requests = (held * _REQUESTS_PER_S * seconds * (0.95 + 0.1 * noise[1])).astype(np.int64)
        failing = _ERRORS * 2 * noise[2] + 0.05 * np.clip(use - 1.0, 0, 1)
        return {
            "appliance": self._names.take(which),
            "at_ms": np.full(which.size, at_ms, dtype=np.int64),
            "service": service[which],
            "egress_bps": egress.astype(np.int64),
            "capacity_bps": capacity,
            "cpu": np.round(np.minimum(0.04 + 0.6 * use + 0.03 * noise[3], 1.0), 4),
            "disk": np.round(np.minimum(0.05 + 0.5 * use + 0.05 * noise[2], 1.0), 4),
            "connections": held * 2,
            "requests": requests,
            "errors": (requests * failing).astype(np.int64),
            "ttfb_ms": (18 + 12 * noise[1] + 60 * np.minimum(use, 2.0) ** 4).astype(np.int64),
            "retransmits": (requests * (0.2 + 4 * np.clip(use - 0.9, 0, 1))).astype(np.int64),
            "drain_by_ms": np.zeros(which.size, np.int64),
        }

    def links(self, which: Idx, at_ms: int, load: F64) -> dict[str, encode.Column]:
        """Samples of these links: a site's egress is spread evenly over its own."""
        plant = self._plant
        site_load = np.bincount(plant.site, weights=load, minlength=plant.site_start.size - 1)
        many = np.bincount(plant.link_site)[plant.link_site[which]]
        wanted = site_load[plant.link_site[which]] / many
        capacity = plant.link_capacity_bps[which]
        used = np.minimum(wanted * (0.99 + 0.02 * self._rng.random(which.size)), capacity)
        return {
            "link": self._links.take(which),
            "at_ms": np.full(which.size, at_ms, dtype=np.int64),
            "used_bps": used.astype(np.int64),
            "capacity_bps": capacity,
            "drops": (np.clip(wanted - capacity, 0, None) / 12_000).astype(np.int64),
        }


class Probes:
    """Path samples: what sites measure towards networks that they hear of."""

    def __init__(self, rng: np.random.Generator, ground: Ground) -> None:
        self._rng, self._ground = rng, ground
        self._sites = encode.texts(ground.sites.names)
        self._prefixes = ground.prefixes.matrix()

    def columns(self, site: Idx, prefix: Idx, at_ms: int) -> dict[str, encode.Column]:
        """One sample for each pair of site and announced prefix."""
        ground, noise = self._ground, self._rng.random((4, site.size))
        where = ground.prefixes.allocation[prefix]
        far = distance_km(
            ground.sites.lat[site], ground.sites.lon[site],
            ground.allocation_lat[where], ground.allocation_lon[where],
        )  # fmt: skip
        # light in fibre does 100 km and back in a millisecond; cables are half as long again
        habit = (site * 7919 + ground.prefix_isp[prefix] * 104_729) % 6_000
        last_mile = np.where(ground.sites.kind[site] == EMBEDDED, 3_000, 5_000)
        rtt_us = (last_mile + habit + far * 15.0) * (0.98 + 0.05 * noise[0])
        return {
            "site": self._sites.take(site),
            "client": self._prefixes[prefix],
            "at_ms": np.full(site.size, at_ms, dtype=np.int64),
            "rtt_us": rtt_us.astype(np.int64),
            "loss": np.round(0.01 * noise[1] ** 4, 5),
            "throughput_bps": (20_000_000 + 60_000_000 * noise[2]).astype(np.int64),
            "samples": (10 + 190 * noise[3]).astype(np.int64),
        }

    def keys(self, site: Idx, prefix: Idx) -> list[bytes]:
        """The message keys of these samples."""
        names = self._ground.sites.names
        return [
            keys.path_key(names[at], format_prefix(raw.tobytes()))
            for at, raw in zip(site.tolist(), self._prefixes[prefix], strict=True)
        ]


def inventory(rng: np.random.Generator, ground: Ground, plant: Plant) -> Iterator[Rows]:
    """Everything the fleet is made of: regions, then sites, clusters, appliances, networks."""
    for number, area in enumerate(ground.regions):
        named = {"region": area.id, "name": area.name, "lat": area.lat, "lon": area.lon}
        yield _records("region", "Region", area.id, [(area.id, named)])
        here = np.flatnonzero(ground.sites.region == number).tolist()
        yield _records("site", "Site", area.id, [_site(ground, plant, at) for at in here])
        mine = np.flatnonzero(ground.sites.region[plant.site] == number).tolist()
        clusters = {plant.clusters[at]: ground.sites.names[plant.site[at]] for at in mine}
        yield _records(
            "cluster", "Cluster", area.id,
            [(name, {"cluster": name, "site": site}) for name, site in clusters.items()],
        )  # fmt: skip
        yield _records(
            "appliance", "Appliance", area.id, [_appliance(ground, plant, at) for at in mine]
        )
    yield from _networks(rng, ground)


def _records(
    kind: str, record: str, region: str, entities: list[tuple[str, dict[str, object]]]
) -> Rows:
    values = encode_many(record, [{"region": region, **entity} for _, entity in entities])
    named = [keys.inventory_key(kind, name) for name, _ in entities]
    return Rows("fleet.inventory", region, named, list(values))


def _site(ground: Ground, plant: Plant, at: int) -> tuple[str, dict[str, object]]:
    sites = ground.sites
    links = [
        {"link": plant.links[link], "capacity_bps": int(plant.link_capacity_bps[link])}
        for link in np.flatnonzero(plant.link_site == at).tolist()
    ]
    return sites.names[at], {
        "site": sites.names[at],
        "name": sites.titles[at],
        "kind": "EMBEDDED" if sites.kind[at] == EMBEDDED else "IX",
        "lat": float(sites.lat[at]),
        "lon": float(sites.lon[at]),
        "links": links,
    }


def _appliance(ground: Ground, plant: Plant, at: int) -> tuple[str, dict[str, object]]:
    serves = int(plant.serves[at])
    # addresses that are nobody's: RFC 2544 for IPv4, RFC 3849 for IPv6
    host = at + 1
    return plant.names[at], {
        "appliance": plant.names[at],
        "site": ground.sites.names[plant.site[at]],
        "cluster": plant.clusters[at],
        "capacity_bps": int(plant.capacity_bps[at]),
        "serves": [name for bit, name in enumerate(("VOD", "LIVE", "GAME")) if serves >> bit & 1],
        "addresses": [
            parse_address(f"198.19.{host // 250 % 256}.{host % 250 + 1}"),
            parse_address(f"2001:db8:cace::{host:x}"),
        ],
    }


def _networks(rng: np.random.Generator, ground: Ground) -> Iterator[Rows]:
    prefixes = ground.prefixes
    known = prefixes.is_allocation & (rng.random(len(prefixes)) < _NETWORKS)
    known[:2] = True
    matrix, regions = prefixes.matrix(), encode.texts([area.id for area in ground.regions])
    for number, area in enumerate(ground.regions):
        mine = np.flatnonzero(known & (ground.prefix_region == number))
        for start in range(0, mine.size, _CHUNK):
            some = mine[start : start + _CHUNK]
            where = prefixes.allocation[some]
            columns: dict[str, encode.Column] = {
                "network": matrix[some],
                "region": regions.take(ground.prefix_region[some]),
                "lat": ground.allocation_lat[where],
                "lon": ground.allocation_lon[where],
            }
            named = [
                keys.inventory_key("network", format_prefix(raw.tobytes())) for raw in matrix[some]
            ]
            yield Rows(
                "fleet.inventory", area.id, named, list(encode.encode_rows("Network", columns))
            )


def play_columns(events: Events, names: encode.Table) -> dict[str, encode.Column]:
    """What `Viewers.step` returns as the columns of PlayEvent."""
    columns: dict[str, encode.Column] = {
        name: column for name, column in events.items() if name not in ("hi", "lo", "region")
    }
    columns["client"] = addresses(events["hi"], events["lo"])
    columns["appliance"] = names.take(events["appliance"])
    return columns
