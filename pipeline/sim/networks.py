"""Access networks (ISPs), the sites they see, and whose each prefix is.

Idea: what a site hears and who is near follow from one thing, which ISP a client belongs to. An
embedded site stands inside one ISP. An exchange site meets the ISPs that come to that exchange; two
hubs in each region buy transit as well and hear everybody.
Rule: ISP sizes fall by Zipf; the largest have embedded sites (some in two cities); every ISP meets
the plane at the one to three exchanges nearest to its home, the larger ones at more.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.sim.places import Region, distance_km, regions
from pipeline.sim.prefixes import Prefixes, generate
from pipeline.sim.size import SimSize

I32 = npt.NDArray[np.int32]
F64 = npt.NDArray[np.float64]

EMBEDDED, IX = 0, 1
HUBS = 2  # exchange sites per region that buy transit
IX_SHARE = 0.3
PREFIXES_PER_ISP = 250
EXCHANGES_MAX = 3
#: Degrees from a city's centre, and the share of its people that live there.
_TOWNS = np.array([[0.0, 0.0], [0.4, 0.9], [-0.6, 0.3]])
_TOWN_SHARES = (0.7, 0.2, 0.1)


@dataclass(frozen=True, slots=True)
class Sites:
    """`isp`: the ISP that an embedded site stands in, else -1. `hub`: buys transit."""

    names: list[str]
    titles: list[str]
    region: I32
    lat: F64
    lon: F64
    kind: npt.NDArray[np.uint8]
    isp: I32
    hub: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Isps:
    """`exchanges`: the sites where each meets the plane, nearest first (n x 3, -1 none)."""

    region: I32
    asn: npt.NDArray[np.int64]
    weight: F64
    lat: F64
    lon: F64
    exchanges: I32


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything that does not change: who is where. `allocation_lat` and `allocation_lon` are per
    allocation, `prefix_isp` and `prefix_region` per prefix."""

    regions: list[Region]
    sites: Sites
    isps: Isps
    prefixes: Prefixes
    allocation_lat: F64
    allocation_lon: F64
    prefix_isp: I32
    prefix_region: I32


def build(rng: np.random.Generator, size: SimSize) -> Ground:
    """Lay out a world of this size."""
    areas = regions(size.regions)
    isp_region, isp_weight = _isp_sizes(size)
    isp_city = np.concatenate(
        [
            rng.integers(len(area.cities), size=int((isp_region == number).sum()))
            for number, area in enumerate(areas)
        ]
    )
    lat, lon = _city_places(areas, isp_region, isp_city)
    sites = _sites(areas, isp_region, isp_city, size)
    isps = Isps(
        isp_region, _asns(isp_region.size), isp_weight, lat, lon,
        _exchanges(rng, sites, isp_region, lat, lon),
    )  # fmt: skip
    prefixes = generate(rng, size.prefixes)
    owner = _owners(rng, isps, int(prefixes.is_allocation.sum()))
    where_lat, where_lon = _homes(rng, areas, isp_region[owner], isp_city[owner])
    prefix_isp = owner[prefixes.allocation]
    return Ground(
        areas, sites, isps, prefixes, where_lat, where_lon, prefix_isp, isps.region[prefix_isp]
    )  # fmt: skip


def _isp_sizes(size: SimSize) -> tuple[I32, F64]:
    each = int(np.clip(size.prefixes // size.regions // PREFIXES_PER_ISP, 8, 500))
    region = np.repeat(np.arange(size.regions, dtype=np.int32), each)
    weight = 1.0 / (np.arange(each) + 2.0)
    return region, np.tile(weight / weight.sum(), size.regions)


def _asns(count: int) -> npt.NDArray[np.int64]:
    """Private AS numbers (RFC 6996), the 16-bit ones first: these ISPs are nobody's."""
    number = np.arange(count, dtype=np.int64)
    return np.where(number < 1000, 64_512 + number, 4_200_000_000 + number)


def _city_places(areas: list[Region], region: I32, city: npt.NDArray[np.int64]) -> tuple[F64, F64]:
    pairs = [
        (areas[area].cities[index].lat, areas[area].cities[index].lon)
        for area, index in zip(region.tolist(), city.tolist(), strict=True)
    ]
    both = np.array(pairs, dtype=np.float64)
    return both[:, 0], both[:, 1]


def _homes(
    rng: np.random.Generator, areas: list[Region], region: I32, city: npt.NDArray[np.int64]
) -> tuple[F64, F64]:
    """Where customers live: in and around their ISP's city, a third of them around the next one. A
    geolocation source knows towns, not houses, so few places are shared by many networks."""
    widest = max(len(area.cities) for area in areas)
    lat, lon = np.zeros((len(areas), widest)), np.zeros((len(areas), widest))
    for number, area in enumerate(areas):
        lat[number, : len(area.cities)] = [town.lat for town in area.cities]
        lon[number, : len(area.cities)] = [town.lon for town in area.cities]
    cities = np.array([len(area.cities) for area in areas])
    town = (city + (rng.random(region.size) < 1 / 3)) % cities[region]
    around = _TOWNS[rng.choice(len(_TOWNS), size=region.size, p=_TOWN_SHARES)]
    return (
        np.round(lat[region, town] + around[:, 0], 2),
        np.round(lon[region, town] + around[:, 1], 2),
    )


def _sites(
    areas: list[Region], isp_region: I32, isp_city: npt.NDArray[np.int64], size: SimSize
) -> Sites:
    names, titles, region, city, kind, isp, hub = [], [], [], [], [], [], []
    counts: dict[tuple[str, str], int] = {}
    for number, area in enumerate(areas):
        total = size.sites // size.regions + (number < size.sites % size.regions)
        exchanges = max(HUBS, round(total * IX_SHARE))
        first_isp = int(np.searchsorted(isp_region, number))
        isps_here = int((isp_region == number).sum())
        for index in range(total):
            is_ix = index < exchanges
            # the first two exchanges share a city: nothing but the name tells them apart
            place = max(0, index - 1) if is_ix else 0
            owner = -1
            if not is_ix:
                owner = first_isp + (index - exchanges) * 3 // 4 % isps_here
                second = (index - exchanges) * 3 // 4 != (index - exchanges - 1) * 3 // 4
                place = int(isp_city[owner]) + (0 if second else 1)
            town = area.cities[place % len(area.cities)]
            sort = "ix" if is_ix else "isp"
            counts[town.code, sort] = counts.get((town.code, sort), 0) + 1
            names.append(f"{town.code}-{sort}{counts[town.code, sort]}")
            titles.append(f"{town.name}, {'exchange' if is_ix else f'inside ISP {owner + 1}'}")
            region.append(number)
            city.append(place % len(area.cities))
            kind.append(IX if is_ix else EMBEDDED)
            isp.append(owner)
            hub.append(index < HUBS)
    lat, lon = _city_places(areas, np.array(region, dtype=np.int32), np.array(city))
    return Sites(
        names, titles, np.array(region, dtype=np.int32), lat, lon,
        np.array(kind, dtype=np.uint8), np.array(isp, dtype=np.int32), np.array(hub),
    )  # fmt: skip


def _exchanges(rng: np.random.Generator, sites: Sites, region: I32, lat: F64, lon: F64) -> I32:
    met = np.full((region.size, EXCHANGES_MAX), -1, dtype=np.int32)
    how_many = rng.integers(1, EXCHANGES_MAX + 1, size=region.size)
    for area in range(int(region.max()) + 1):
        here = np.flatnonzero((sites.region == area) & (sites.kind == IX)).astype(np.int32)
        members = np.flatnonzero(region == area)
        far = distance_km(lat[members, None], lon[members, None], sites.lat[here], sites.lon[here])
        nearest = here[np.argsort(far, axis=1, kind="stable")[:, :EXCHANGES_MAX]]
        met[members, : nearest.shape[1]] = nearest
    met[np.arange(EXCHANGES_MAX) >= how_many[:, None]] = -1
    return met


def _owners(rng: np.random.Generator, isps: Isps, allocations: int) -> I32:
    """The ISP of each allocation. The documentation networks are the largest one's in the first
    region, which has embedded sites, exchanges and transit: an answer about them shows it all."""
    each = isps.weight / isps.weight.sum()
    owner = rng.choice(each.size, size=allocations, p=each).astype(np.int32)
    owner[:2] = 0
    return owner
