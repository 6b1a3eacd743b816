"""What ranking needs beside the routes: which sites a region has, where they are, what was
measured.

A Placement is made anew whenever the inventory's placement changes; comparing it with the one
before says which sites and which prefixes are concerned.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from pipeline.config import ProximityConfig
from pipeline.decide.distance import Floats, distance_km, points
from pipeline.state.codec import Fields, within
from pipeline.state.fleet import Fleet
from pipeline.state.keyindex import KeyIndex
from pipeline.state.lpm import Prefixes, PrefixTree
from pipeline.state.paths import Paths
from pipeline.state.routes import Routes

Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

NONE = -1


#: Stands beside a step where the path is lossy.
_LOSSY = np.int16(1 << 10)


class RttIndex:
    """RTT steps by (site, prefix) and which paths are lossy, and what changed in them since the
    last look."""

    def __init__(self) -> None:
        self._version = NONE
        self._index = KeyIndex(np.uint64, np.uint64, np.uint64)
        self._step: Int16 = np.empty(0, dtype=np.int16)

    def fields(self) -> dict[str, Any]:
        """Keys and steps for a snapshot; they may be older than Paths."""
        return {"version": self._version, "step": self._step, **within("key", self._index.fields())}

    @classmethod
    def of(cls, fields: Fields) -> "RttIndex":
        """The inverse of `fields`."""
        made = cls()
        made._version, made._step = fields["version"], fields["step"]
        made._index = KeyIndex.of(*fields.part("key").values())
        return made

    def __len__(self) -> int:
        return len(self._index)

    def update(self, paths: Paths) -> Prefixes:
        """Take over the steps as they are now; returns the prefixes with a changed one, not
        distinct. Where the known rows stand as they stood only their steps are compared."""
        self._version, unchanged = paths.version, paths.version == self._version
        if unchanged:
            return np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint8)
        keys = (paths.hi, paths.lo, paths.site_and_length)
        step = paths.step + _LOSSY * paths.lossy
        old, was = [self._index.column(number) for number in range(3)], self._step
        known = len(was)
        if all(np.array_equal(now[:known], before) for now, before in zip(keys, old, strict=True)):
            self._index.intern(*(column[known:] for column in keys))
            was = np.append(was, np.full(len(step) - known, NONE, dtype=np.int16))
            changed = [_prefixes(keys, step != was)]
        else:
            index = KeyIndex(np.uint64, np.uint64, np.uint64)
            index.intern(*keys)
            changed = [
                _prefixes(keys, _steps(was, self._index.find(*keys)) != step),
                _prefixes(old, _steps(step, index.find(*old)) != was),
            ]
            self._index = index
        self._step = step
        hi, lo, length = (np.concatenate(columns) for columns in zip(*changed, strict=True))
        return hi, lo, length

    def find(self, site: Int32, prefixes: Prefixes) -> Int16:
        """The step of each (site, prefix); -1 where it was not measured."""
        step = self._find(site, prefixes)
        return np.where(step < _LOSSY - 1, step, step - _LOSSY)

    def lossy(self, site: Int32, prefixes: Prefixes) -> Bools:
        """Whether each (site, prefix) is lossy."""
        return self._find(site, prefixes) >= _LOSSY - 1

    def lossy_prefixes(self) -> Prefixes:
        """The prefixes towards which some site is, not distinct."""
        keys = [self._index.column(number) for number in range(3)]
        return _prefixes(keys, self._step >= _LOSSY - 1)

    def _find(self, site: Int32, prefixes: Prefixes) -> Int16:
        hi, lo, length = prefixes
        return _steps(self._step, self._index.find(hi, lo, _site_and_length(site, length)))


def _site_and_length(site: Int32, length: npt.NDArray[np.uint8]) -> Words:
    return (site.astype(np.uint64) << np.uint64(8)) | length.astype(np.uint64)


def _steps(step: Int16, at: Int32) -> Int16:
    return np.append(step, np.int16(NONE))[at]  # row -1 is the last one


def _prefixes(keys: tuple[Words, ...] | list[Words], chosen: Bools) -> Prefixes:
    length = (keys[2][chosen] & np.uint64(0xFF)).astype(np.uint8)
    return keys[0][chosen], keys[1][chosen], length


@dataclass(frozen=True, slots=True)
class Placement:
    """One region's sites and map. A site's `code` is its number among them in text order.

    `code` int32 by site id of Routes, -1: not here; by code: `site` int32 (fleet id), `name_hash`
    uint64 (xxh3_64 of the name), `site_point` and `region_point` on the unit sphere; the region's
    networks as a tree with `network_point` by row."""

    code: Int32
    site: Int32
    name_hash: Words
    site_point: Floats
    region_point: Floats
    networks: PrefixTree
    network_point: Floats
    rtt: RttIndex
    missing_med_is_worst: bool
    sites_max: int

    @classmethod
    def of(
        cls, region: int, fleet: Fleet, routes: Routes, rtt: RttIndex, config: ProximityConfig
    ) -> "Placement":
        """The placement of a region (fleet id) as the sections are now."""
        names = routes.sites.names
        known = np.array([fleet.sites.get(name) for name in names], dtype=np.int32)
        here = np.append(fleet.site_alive & (fleet.site_region == region), False)[known]
        chosen = np.array(
            sorted(np.flatnonzero(here).tolist(), key=names.__getitem__), dtype=np.int64
        )
        code = np.full(len(names), NONE, dtype=np.int32)
        code[chosen] = np.arange(len(chosen))
        site = known[chosen]
        mine = np.flatnonzero(fleet.network_region == region).astype(np.int32)
        by_row = (fleet.network_hi[mine], fleet.network_lo[mine], fleet.network_length[mine])
        networks = PrefixTree()
        networks.build(np.arange(len(mine), dtype=np.int32), by_row)
        at = slice(region, region + 1)
        return cls(
            code=code,
            site=site,
            name_hash=np.array(
                [xxhash.xxh3_64_intdigest(names[at].encode()) for at in chosen], dtype=np.uint64
            ),
            site_point=points(fleet.site_lat[site], fleet.site_lon[site]),
            region_point=points(fleet.region_lat[at], fleet.region_lon[at]),
            networks=networks,
            network_point=points(fleet.network_lat[mine], fleet.network_lon[mine]),
            rtt=rtt,
            missing_med_is_worst=config.missing_med == "worst",
            sites_max=config.sites_max,
        )

    def fields(self) -> dict[str, Any]:
        """All of it but the RTT for a snapshot: the inventory may have moved on since."""
        return {
            **{name: getattr(self, name) for name in _STORED},
            **within("networks", self.networks.fields()),
        }

    @classmethod
    def restored(cls, fields: Fields, rtt: RttIndex) -> "Placement":
        """The inverse of `fields`."""
        stored = {name: fields[name] for name in _STORED}
        return cls(**stored, networks=PrefixTree.of(fields.part("networks")), rtt=rtt)

    def location(self, prefixes: Prefixes) -> Floats:
        """Where prefixes are, as points: the longest network that covers each, else the region."""
        at = self.networks.match(*prefixes)
        return np.concatenate((self.network_point, self.region_point))[at]  # row -1 is the last one

    def distance_km(self, code: Int64, which: Int64, prefixes: Prefixes) -> Int32:
        """From each site (by code) to its prefix, `which` naming its row in `prefixes`."""
        if len(self.networks):
            return distance_km(self.site_point[code], self.location(prefixes)[which])
        middle = self.region_point.repeat(len(self.site), axis=0)
        return distance_km(self.site_point, middle)[code]

    def changed_sites(self, before: "Placement") -> Bools:
        """By site id of Routes: which came, went or moved since."""
        size = len(self.code)
        was = np.full(size, NONE, dtype=np.int32)
        was[: len(before.code)] = before.code
        changed: Bools = (self.code == NONE) != (was == NONE)
        both = np.flatnonzero((self.code != NONE) & (was != NONE))
        moved = self.site_point[self.code[both]] != before.site_point[was[both]]
        changed[both[moved.any(axis=1)]] = True
        return changed

    def changed_locations(self, before: "Placement", prefixes: Prefixes) -> Bools:
        """Which of these prefixes are elsewhere since."""
        maps = [
            (*one.networks.prefixes, one.network_point, one.region_point) for one in (self, before)
        ]
        if all(np.array_equal(now, was) for now, was in zip(*maps, strict=True)):
            return np.zeros(len(prefixes[0]), dtype=bool)
        moved: Bools = (self.location(prefixes) != before.location(prefixes)).any(axis=1)
        return moved


_STORED = (
    *("code", "site", "name_hash", "site_point", "region_point", "network_point"),
    *("missing_med_is_worst", "sites_max"),
)
